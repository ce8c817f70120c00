"""How late is a window, idle and beside a thread that computes?

One caller awaits one item at a time; the time from process() to the start of process_batch, less
max_queue_time, is how late the batch was. Beside it a window kept by loop.call_later, which is what
code without a thread of its own has; and, beside a thread that computes, one kept by a thread of
Python, which wakes the loop by call_soon_threadsafe and so waits for the interpreter itself.
"""

from __future__ import annotations

import asyncio
import functools
import queue
import statistics
import sys
import threading
import time
from collections.abc import Awaitable, Callable

from async_batcher import AsyncBatcher
from benchmarks import harness
from benchmarks.harness import Numbers, Target

WINDOWS_MS = (0.2, 1.0, 10.0)
WINDOWS = 300
UNIT = "milliseconds late"


class Stopwatch(AsyncBatcher[float, float]):
    """Answers each item, the time at which it was handed in, with its wait in seconds."""

    async def process_batch(self, batch: list[float]) -> list[float]:
        """Measure the waits of a batch."""
        now = time.perf_counter()
        return [now - start for start in batch]


async def by_call_later(window_s: float) -> float:
    """Wait for a window as a timer of the event loop keeps it."""
    loop = asyncio.get_running_loop()
    fired: asyncio.Future[float] = loop.create_future()
    start = time.perf_counter()
    loop.call_later(window_s, lambda: fired.set_result(time.perf_counter() - start))
    return await fired


async def lateness(window_s: float, wait: Callable[[], Awaitable[float]]) -> Numbers:
    """Measure windows one after another."""
    count = max(20, harness.scaled(WINDOWS) // (3 if window_s > 0.005 else 1))
    cuts = statistics.quantiles([(await wait() - window_s) * 1e3 for _ in range(count)], n=100)
    return {"p50": cuts[49], "p99": cuts[98]}


async def ours(window_s: float) -> Numbers:
    """A batcher's window."""
    async with Stopwatch(max_queue_time=window_s) as batcher:
        await batcher.process(time.perf_counter())
        return await lateness(window_s, lambda: batcher.process(time.perf_counter()))


async def call_later(window_s: float) -> Numbers:
    """A timer's window."""
    return await lateness(window_s, lambda: by_call_later(window_s))


async def call_soon_threadsafe(window_s: float) -> Numbers:
    """A window that a thread of Python keeps."""
    loop = asyncio.get_running_loop()
    wanted: queue.SimpleQueue[tuple[float, asyncio.Future[float]] | None] = queue.SimpleQueue()

    def answer(start: float, fired: asyncio.Future[float]) -> None:
        fired.set_result(time.perf_counter() - start)

    def keep() -> None:
        while (each := wanted.get()) is not None:
            start, fired = each
            time.sleep(max(0, start + window_s - time.perf_counter()))
            loop.call_soon_threadsafe(answer, start, fired)

    async def wait() -> float:
        fired: asyncio.Future[float] = loop.create_future()
        wanted.put((time.perf_counter(), fired))
        return await fired

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        return await lateness(window_s, wait)
    finally:
        wanted.put(None)
        thread.join()


def beside(is_busy: bool, start: Callable[[float], object], window_ms: float) -> Numbers:
    """Measure alone, or beside a thread that computes all the time."""
    ends = threading.Event()

    def compute() -> None:
        while not ends.is_set():
            sum(range(1000))

    thread = threading.Thread(target=compute)
    if is_busy:
        thread.start()
    try:
        return harness.run(start(window_ms / 1e3))  # type: ignore[arg-type]
    finally:
        ends.set()
        if is_busy:
            thread.join()


CASES = {
    f"{name}, {window_ms:g} ms{', busy' * is_busy}": functools.partial(
        beside, is_busy, start, window_ms
    )
    for is_busy in (False, True)
    for window_ms in WINDOWS_MS
    for name, start in (("ours", ours), ("call_later", call_later))
}
CASES["call_soon_threadsafe, 10 ms, busy"] = functools.partial(
    beside, True, call_soon_threadsafe, 10.0
)
TARGETS = [
    *(
        Target(f"{window_ms:g} ms, p50, idle", f"ours, {window_ms:g} ms.p50", at_most=0.15)
        for window_ms in WINDOWS_MS
    ),
    Target(
        "10 ms, p99, busy: two switch intervals",
        "ours, 10 ms, busy.p99",
        at_most=2e3 * sys.getswitchinterval(),
    ),
    Target(
        "10 ms, p99, busy, over call_soon_threadsafe",
        "ours, 10 ms, busy.p99",
        "call_soon_threadsafe, 10 ms, busy.p99",
        at_most=0.5,
    ),
]

if __name__ == "__main__":
    harness.main("window", sys.modules[__name__])
