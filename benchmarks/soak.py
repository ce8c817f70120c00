"""Does anything grow, slow down or get lost in a long run of everything at once?

Puts a mixed load on async and sync batchers, a process pool whose workers are killed now and then,
a DynamicBatcher, and batchers that short loops in other threads share; 5 % of the callers cancel,
2 % of the items fail, some callers give up after a time, and limits change. Every answer is checked
and every item accounted for. Threads, file descriptors and memory have to stay flat after the first
quarter; the p99 of the last part is compared with that of the first after the warm-up.

Run it on an idle machine: ``python -m benchmarks.soak --minutes 30``. It writes ``soak.json`` and,
with the extra ``soak`` installed, ``soak.png`` into ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from async_batcher import AsyncBatcher, BatchCancelledError, DynamicBatcher

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

RESULTS = Path(__file__).parent / "results"
CANCELS, ERRORS, TIMEOUTS = 0.05, 0.02, 0.02
CALLERS = 24  # tasks a batcher
SAMPLE_S = 1.0
KILL_S = 15.0
RSS_GROWTH = 1.15  # after the first quarter
P99_GROWTH = 1.2


def answers(batch: list[int]) -> list[Any]:
    """Answer each number with its double; an odd one of 50 fails."""
    return [LookupError(item) if item % 50 == 1 else 2 * item for item in batch]


class Async(AsyncBatcher[int, Any]):
    """Waits as for I/O."""

    async def process_batch(self, batch: list[int]) -> list[Any]:
        """Answer a batch."""
        await asyncio.sleep(0.001)
        return answers(batch)


class Sync(AsyncBatcher[int, Any]):
    """Blocks a worker."""

    def process_batch(self, batch: list[int]) -> list[Any]:
        """Answer a batch."""
        time.sleep(0.001)
        return answers(batch)


class Pooled(AsyncBatcher[int, Any]):
    """Runs in processes that are killed now and then."""

    process_batch = staticmethod(answers)


@dataclass
class Account:
    """What became of every item, how long it took, and what the process held meanwhile."""

    outcomes: Counter[str] = field(default_factory=Counter)
    submitted: int = 0
    wrong: list[str] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)  # seconds, since the sample before
    samples: list[dict[str, float]] = field(default_factory=list)
    mutex: threading.Lock = field(default_factory=threading.Lock)

    def note(self, outcome: str, began: float, *, timed: bool = False) -> None:
        """Count one ended item."""
        now = time.monotonic()
        with self.mutex:
            self.outcomes[outcome] += 1
            if timed:
                self.recent.append(now - began)

    def sample(self) -> None:
        """Note what the process holds, and the 99th percentile since the sample before.

        Nothing else is kept of the latencies, or this account would be what grows.
        """
        with self.mutex:
            recent, self.recent = self.recent, []
        recent.sort()
        p99_ms = recent[int(len(recent) * 0.99)] * 1e3 if recent else 0.0
        self.samples.append({**held(), "p99_ms": p99_ms})


def held() -> dict[str, float]:
    """Read what the process holds: threads, file descriptors, resident MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return {
        "at": time.monotonic(),
        "threads": len(os.listdir("/proc/self/task")),
        "fds": len(os.listdir("/proc/self/fd")),
        "rss_mb": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
    }


async def one_item(account: Account, start: Callable[[int], Awaitable[Any]], fragile: bool) -> None:
    """Submit one item as some caller would, and check what it is told."""
    item = random.randrange(1_000_000)
    began = time.monotonic()
    with account.mutex:
        account.submitted += 1
    task = asyncio.ensure_future(start(item))
    fate = random.random()
    try:
        if fate < CANCELS:
            await asyncio.sleep(random.random() * 0.003)
            task.cancel()
        if fate > 1 - TIMEOUTS:
            answer = await asyncio.wait_for(task, random.random() * 0.01)
        else:
            answer = await task
    except LookupError as error:
        account.note("failed", began)
        if item % 50 != 1 or error.args != (item,):
            account.wrong.append(f"{item}: {error!r}")
    except (asyncio.TimeoutError, asyncio.CancelledError):
        account.note("cancelled", began)
        if CANCELS <= fate <= 1 - TIMEOUTS:
            account.wrong.append(f"{item}: cancelled by nobody")
    except Exception as error:
        # Its batch ran in a process that was killed, or on a loop that ended.
        account.note("broken", began)
        if not isinstance(error, BrokenProcessPool if fragile else BatchCancelledError):
            account.wrong.append(f"{item}: {error!r}")
    else:
        account.note("answered", began, timed=fate >= CANCELS)
        if answer != 2 * item or item % 50 == 1:
            account.wrong.append(f"{item}: {answer!r}")


async def caller(
    account: Account, end: float, start: Callable[[int], Awaitable[Any]], fragile: bool = False
) -> None:
    """Submit one item after the other until the end."""
    while time.monotonic() < end:
        await one_item(account, start, fragile)
        await asyncio.sleep(random.random() * 0.02)


async def change_limits(batchers: Iterable[AsyncBatcher[Any, Any]], end: float) -> None:
    """Change the limits of all batchers while they run."""
    while time.monotonic() < end:
        for batcher in batchers:
            batcher.max_batch_size = random.choice((8, 64, -1))
            batcher.max_queue_time = random.choice((0, 0.0005, 0.002))
            batcher.concurrency = random.choice((1, 2, 4))
        await asyncio.sleep(0.05)


async def pooled(account: Account, end: float) -> None:
    """Use one process pool after the other; each ends by the death of a worker."""
    while time.monotonic() < end:
        with ProcessPoolExecutor(1) as executor:
            until = min(end, time.monotonic() + KILL_S)
            async with Pooled(executor=executor, max_queue_time=0.001) as batcher:
                calls = [caller(account, until, batcher.call, fragile=True) for _ in range(4)]
                kill = asyncio.create_task(kill_later(executor, until - 0.2))
                await asyncio.gather(*calls)
                await kill


async def kill_later(executor: ProcessPoolExecutor, when: float) -> None:
    """Kill the workers of a pool that has some, shortly before its end."""
    await asyncio.sleep(max(when - time.monotonic(), 0))
    for process in list((executor._processes or {}).values()):  # noqa: SLF001
        process.kill()


async def dynamic(account: Account, end: float) -> None:
    """Start and stop a DynamicBatcher again and again, each time under load."""
    batcher: DynamicBatcher[int, Any] = DynamicBatcher(
        Async(max_queue_time=0).process_batch, max_queue_size=8, batch_timeout_s=0.001
    )

    async def call(item: int) -> Any:
        return await (await batcher.submit(item, estimated_cost=1 + item % 5000))

    while time.monotonic() < end:
        until = min(end, time.monotonic() + 3)
        async with batcher:
            await asyncio.gather(*(caller(account, until, call) for _ in range(CALLERS)))
    stats = batcher.stats
    if stats.total_completed > stats.total_submitted:
        account.wrong.append(f"dynamic: {stats}")


def churn(account: Account, end: float, batchers: list[AsyncBatcher[int, Any]]) -> None:
    """Run short loops on this thread, on batchers that other threads use, too."""

    async def short() -> None:
        until = min(end, time.monotonic() + random.random() * 0.2)
        await asyncio.gather(*(caller(account, until, batcher.call) for batcher in batchers))

    while time.monotonic() < end:
        asyncio.run(short())


async def load(account: Account, end: float, batchers: list[AsyncBatcher[int, Any]]) -> None:
    """Put everything on at once until the end; then stop the batchers."""

    async def sampling() -> None:
        while time.monotonic() < end:
            account.sample()
            await asyncio.sleep(SAMPLE_S)

    calls = [
        caller(account, end, start)
        for batcher in batchers
        for start in (batcher.process, batcher.call)
        for _ in range(CALLERS // 2)
    ]
    await asyncio.gather(
        *calls,
        *(asyncio.to_thread(churn, account, end, batchers) for _ in range(2)),
        change_limits(batchers, end),
        pooled(account, end),
        dynamic(account, end),
        sampling(),
    )
    for batcher in batchers:
        await batcher.stop()
        stats = batcher.stats
        told = stats.completed + stats.failed + stats.cancelled
        if stats.submitted != told or stats.queued or stats.running:
            account.wrong.append(f"{type(batcher).__name__}: {stats}")


# ---- the verdict ----


def median(samples: list[dict[str, float]], name: str, begin: float, end: float) -> float:
    """The median of one figure over a span of time."""
    values = sorted(each[name] for each in samples if begin <= each["at"] < end)
    return values[len(values) // 2] if values else 0.0


def judge(account: Account, begin: float, end: float) -> dict[str, Any]:
    """Compare the end with the beginning; `failures` says what does not hold."""
    quarter = (end - begin) / 4
    span = min(60.0, quarter)
    first = median(account.samples, "p99_ms", begin + quarter, begin + quarter + span)
    last = median(account.samples, "p99_ms", end - span, end)
    early = [each for each in account.samples if begin + SAMPLE_S < each["at"] < end - 2 * quarter]
    report: dict[str, Any] = {
        "minutes": (end - begin) / 60,
        "submitted": account.submitted,
        "outcomes": dict(account.outcomes),
        "p99_first_ms": first,
        "p99_last_ms": last,
    }
    failures = account.wrong[:20]
    if sum(account.outcomes.values()) != account.submitted:
        failures.append(f"{account.submitted} submitted, {account.outcomes} ended")
    for name, allowed in (("threads", 1.0), ("fds", 1.0), ("rss_mb", RSS_GROWTH)):
        before = max(each[name] for each in early)
        after = median(account.samples, name, end - quarter, end)
        report[f"{name}_early"], report[f"{name}_late"] = before, after
        if after > before * allowed:
            failures.append(f"{name}: {before:.0f} at most, then {after:.0f}")
    # Other load disturbs a short run: there the figures are only told.
    if quarter >= 300 and last > first * P99_GROWTH:
        failures.append(f"p99: {first:.2f} ms at first, {last:.2f} ms at last")
    return {**report, "failures": failures}


def plot(account: Account, begin: float, path: Path) -> bool:
    """Draw what was sampled; False without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(4, 1, sharex=True, figsize=(9, 9))
    minutes = [(each["at"] - begin) / 60 for each in account.samples]
    for axis, name in zip(axes, ("threads", "fds", "rss_mb", "p99_ms"), strict=True):
        axis.plot(minutes, [each[name] for each in account.samples])
        axis.set_ylabel(name)
        axis.set_ylim(bottom=0)
    axes[-1].set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(path)
    return True


def main() -> int:
    """Run, write the results; 0 if everything holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    minutes = parser.parse_args().minutes
    # Failures are part of the load, and so are tasks of batches that begin as a short loop ends:
    # nobody reads a line for each.
    for name in ("async_batcher", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    account = Account()
    batchers: list[AsyncBatcher[int, Any]] = [Async(max_queue_time=0.001), Sync(concurrency=2)]
    begin = time.monotonic()
    end = begin + minutes * 60
    asyncio.run(load(account, end, batchers))
    report = judge(account, begin, end)
    RESULTS.mkdir(exist_ok=True)
    samples = [{**each, "at": each["at"] - begin} for each in account.samples]
    text = json.dumps({**report, "samples": samples}, indent=1)
    (RESULTS / "soak.json").write_text(text + "\n", encoding="utf-8")
    plot(account, begin, RESULTS / "soak.png")
    for name, value in report.items():
        print(f"{name:14} {value if not isinstance(value, float) else round(value, 2)}")
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
