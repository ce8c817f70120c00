"""How many batches do 400 items make that come at 500 a second, when a batch takes 200 ms?

At most 64 items in a batch, a window of 10 ms, one batch at a time. The batch that waits for its
turn goes on growing, so there are few.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from benchmarks import harness
from benchmarks.harness import Numbers, Target
from benchmarks.subjects import import_ancestor

ITEMS = 400
UNIT = "batches"


async def measure(kind: Any) -> Numbers:
    """Hand in the items at an even pace."""
    batches: list[int] = []

    class Slow(kind):  # type: ignore[misc]
        async def process_batch(self, batch: list[int]) -> list[int]:
            batches.append(len(batch))
            await asyncio.sleep(0.2)
            return batch

    batcher = Slow(max_batch_size=64, max_queue_time=0.01)
    start, waiting = time.perf_counter(), []
    for item in range(ITEMS):
        waiting.append(asyncio.ensure_future(batcher.process(item=item)))
        await asyncio.sleep(max(0, start + (item + 1) / 500 - time.perf_counter()))
    await asyncio.gather(*waiting)
    await batcher.stop()
    return {"batches": float(len(batches))}


async def ours() -> Numbers:
    """AsyncBatcher."""
    from async_batcher import AsyncBatcher

    return await measure(AsyncBatcher)


async def ancestor() -> Numbers:
    """async-batcher 0.2."""
    return await measure(import_ancestor().AsyncBatcher)


CASES = {
    "ours": lambda: harness.run(ours()),
    "async-batcher 0.2": lambda: harness.run(ancestor()),
}
TARGETS = [Target("batches", "ours.batches", at_most=8)]

if __name__ == "__main__":
    harness.main("late_binding", sys.modules[__name__])
