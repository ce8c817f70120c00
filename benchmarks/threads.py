"""How many items a second do four threads without a loop hand in and get answered?

Each keeps 256 items under way. Beside process_threadsafe: run_coroutine_threadsafe on a coroutine
that awaits async-batcher 0.2.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from benchmarks import harness
from benchmarks.harness import Numbers, Target
from benchmarks.subjects import import_ancestor

THREADS = 4
UNDER_WAY = 256
ITEMS = 200_000
UNIT = "thousand items a second"


def work(submit: Callable[[Any], Future[Any]], count: int) -> None:
    """Hand in `count` items, the next one whenever the oldest is answered."""
    waiting: deque[tuple[int, Future[Any]]] = deque()
    for item in range(count):
        waiting.append((item, submit(item)))
        if len(waiting) == UNDER_WAY:
            check(*waiting.popleft())
    while waiting:
        check(*waiting.popleft())


def check(item: int, future: Future[Any]) -> None:
    """Demand the right answer."""
    if future.result() != item:
        raise ValueError("wrong answer")


async def measure(submit: Callable[[Any], Future[Any]], items: int) -> Numbers:
    """Let all threads go through their share."""
    count = harness.scaled(items) // THREADS
    start = time.perf_counter()
    await asyncio.gather(*(asyncio.to_thread(work, submit, count) for _ in range(THREADS)))
    return {"rate": count * THREADS / (time.perf_counter() - start) / 1e3}


async def ours() -> Numbers:
    """process_threadsafe."""
    from async_batcher import AsyncBatcher

    class Echo(AsyncBatcher[Any, Any]):
        async def process_batch(self, batch: list[Any]) -> list[Any]:
            return batch

    async with Echo(max_batch_size=100) as batcher:
        await batcher.process(0)
        return await measure(batcher.process_threadsafe, ITEMS)


async def ancestor() -> Numbers:
    """run_coroutine_threadsafe on async-batcher 0.2."""

    class Echo(import_ancestor().AsyncBatcher):  # type: ignore[misc]
        async def process_batch(self, batch: list[Any]) -> list[Any]:
            return batch

    batcher = Echo(max_batch_size=100)
    loop = asyncio.get_running_loop()
    assert threading.current_thread() is threading.main_thread()
    numbers = await measure(
        lambda item: asyncio.run_coroutine_threadsafe(batcher.process(item=item), loop), ITEMS // 4
    )
    await batcher.stop()
    return numbers


CASES = {
    "process_threadsafe": lambda: harness.run(ours()),
    "async-batcher 0.2": lambda: harness.run(ancestor()),
}
TARGETS = [
    Target(
        "over async-batcher 0.2", "process_threadsafe.rate", "async-batcher 0.2.rate", at_least=4
    ),
]

if __name__ == "__main__":
    harness.main("threads", sys.modules[__name__])
