"""Does anything grow, slow down or get lost in a long run of everything at once?

Puts a mixed load on async and sync batchers, a process pool whose workers are killed now and then,
a DynamicBatcher, and batchers that short loops in other threads share, some of which close under
pending work; 5 % of the callers cancel, 2 % of the items fail, some callers give up after a time,
and limits change. Every answer is checked and every item accounted for; soak_account.py says what
has to stay flat.

Run it on an idle machine: ``python -m benchmarks.soak --minutes 30``. It writes ``soak.json`` and,
with the extra ``soak`` installed, ``soak.png`` into the folder of ``--results``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

from async_batcher import AsyncBatcher, BatchCancelledError, DynamicBatcher
from benchmarks.soak_account import SAMPLE_S, Account, judge, plot

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

RESULTS = Path(__file__).parent / "results"
CANCELS, ERRORS, TIMEOUTS = 0.05, 0.02, 0.02
CALLERS = 24  # tasks a batcher
LEFT = 8  # items on a loop that closes
KILL_S = 15.0


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
        for batcher in batchers:
            leave(account, batcher)


def leave(account: Account, batcher: AsyncBatcher[int, Any]) -> None:
    """Close a loop whose items wait or run: they are released, and nobody is told."""

    async def submit() -> list[asyncio.Future[Any]]:
        return [batcher.process(item) for item in range(LEFT)]

    began = time.monotonic()
    loop = asyncio.new_event_loop()
    with account.mutex:
        account.submitted += LEFT
    loop.run_until_complete(submit())
    loop.close()
    for _ in range(LEFT):
        account.note("released", began)


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


def main() -> int:
    """Run, write the results; 0 if everything holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    minutes, results = arguments.minutes, arguments.results
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
    results.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**report, "series": account.series(begin)})
    (results / "soak.json").write_text(text + "\n", encoding="utf-8")
    plot(account, begin, results / "soak.png")
    for name, value in report.items():
        print(f"{name:14} {value if not isinstance(value, float) else round(value, 2)}")
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
