"""How long does the loop stand still while a million items are resolved in one go?

One batch of a million items ends; a callback that asks for itself again and again measures every
iteration of the loop until the last caller is told.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from typing import Any

from async_batcher import AsyncBatcher
from benchmarks import harness
from benchmarks.harness import Numbers, Target

ITEMS = 1_000_000
UNIT = "milliseconds"


class Echo(AsyncBatcher[Any, Any]):
    """Gives every item back, and says when the batch is about to end."""

    ends = 0.0

    async def process_batch(self, batch: list[Any]) -> list[Any]:
        """Answer a batch with itself."""
        await asyncio.sleep(0)
        self.ends = time.perf_counter()
        return batch


async def measure() -> Numbers:
    """Watch the loop from the end of the batch until all are told."""
    loop = asyncio.get_running_loop()
    batcher = Echo(max_queue_time=3600)
    futures = [batcher.process(None) for _ in range(harness.scaled(ITEMS))]
    gc.collect()
    gc.freeze()  # or a collection of a million futures would be measured
    ticks: list[float] = []

    def tick() -> None:
        ticks.append(time.perf_counter())
        if not futures[-1].done():
            loop.call_soon(tick)

    batcher.flush()
    loop.call_soon(tick)
    await asyncio.wait([futures[-1]])
    await asyncio.sleep(0)
    told = [now for now in ticks if now >= batcher.ends]
    pauses = [late - early for early, late in zip([batcher.ends, *told], told, strict=False)]
    await batcher.stop()
    return {"longest": max(pauses) * 1e3, "iterations": float(len(pauses))}


CASES = {"ours": lambda: harness.run(measure())}
TARGETS = [Target("longest iteration", "ours.longest", at_most=20)]

if __name__ == "__main__":
    harness.main("pause", sys.modules[__name__])
