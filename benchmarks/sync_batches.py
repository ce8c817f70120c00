"""How many items a second get through a sync process_batch with two workers?

1,000 callers in closed loops, batches of 100. async-batcher 0.2 runs it in a pool of two threads.
"""

from __future__ import annotations

import asyncio
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks import harness
from benchmarks.harness import Numbers, Target
from benchmarks.subjects import import_ancestor

CALLERS = 1000
ITEMS = 200_000
UNIT = "thousand items a second"


async def measure(batcher: Any, items: int) -> Numbers:
    """Let all callers go through their share."""
    count = harness.scaled(items) // CALLERS

    async def caller() -> None:
        for item in range(count):
            if await batcher.process(item=item) != item:
                raise ValueError("wrong answer")

    await asyncio.gather(*(caller() for _ in range(CALLERS // 10)))  # warm up
    start = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    rate = count * CALLERS / (time.perf_counter() - start) / 1e3
    await batcher.stop()
    return {"rate": rate}


async def ours() -> Numbers:
    """AsyncBatcher with workers of its own."""
    from async_batcher import AsyncBatcher

    class Echo(AsyncBatcher[Any, Any]):
        def process_batch(self, batch: list[Any]) -> list[Any]:
            return batch

    return await measure(Echo(max_batch_size=100, concurrency=2), ITEMS)


async def ancestor() -> Numbers:
    """async-batcher 0.2 with a pool."""

    class Echo(import_ancestor().AsyncBatcher):  # type: ignore[misc]
        def process_batch(self, batch: list[Any]) -> list[Any]:
            return batch

    with ThreadPoolExecutor(2) as pool:
        return await measure(Echo(max_batch_size=100, concurrency=2, executor=pool), ITEMS // 4)


CASES = {
    "ours": lambda: harness.run(ours()),
    "async-batcher 0.2": lambda: harness.run(ancestor()),
}
TARGETS = [
    Target("over async-batcher 0.2", "ours.rate", "async-batcher 0.2.rate", at_least=3),
]

if __name__ == "__main__":
    harness.main("sync_batches", sys.modules[__name__])
