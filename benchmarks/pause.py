"""How long does the loop stand still while a million items are cut, processed and answered?

A million items wait for one batch. From the moment it is due a callback that asks for itself again
and again measures every iteration of the loop, until the last caller is told; once with an async
process_batch, which the loop runs itself, and once with a sync one.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import time
from typing import Any

from async_batcher import AsyncBatcher
from benchmarks import harness
from benchmarks.harness import Numbers, Target

ITEMS = 1_000_000
UNIT = "milliseconds"


class Echo(AsyncBatcher[Any, Any]):
    """Gives every item back."""

    async def process_batch(self, batch: list[Any]) -> list[Any]:
        """Answer a batch with itself."""
        return batch


class SyncEcho(AsyncBatcher[Any, Any]):
    """Gives every item back, from a worker."""

    def process_batch(self, batch: list[Any]) -> list[Any]:
        """Answer a batch with itself."""
        return batch


async def measure(kind: type[AsyncBatcher[Any, Any]]) -> Numbers:
    """Watch the loop from the moment the batch is due until all are told."""
    loop = asyncio.get_running_loop()
    batcher = kind(max_queue_time=3600)
    futures = [batcher.process(None) for _ in range(harness.scaled(ITEMS))]
    gc.collect()
    gc.freeze()  # or a collection of a million futures would be measured
    batcher.flush()  # looks for cancelled items: a part of the caller's own iteration
    ticks = [time.perf_counter()]

    def tick() -> None:
        ticks.append(time.perf_counter())
        if not futures[-1].done():
            loop.call_soon(tick)

    loop.call_soon(tick)
    await asyncio.wait([futures[-1]])
    await asyncio.sleep(0)
    pauses = [late - early for early, late in itertools.pairwise(ticks)]
    await batcher.stop()
    return {"longest": max(pauses) * 1e3, "iterations": float(len(pauses))}


CASES = {
    "async": lambda: harness.run(measure(Echo)),
    "sync": lambda: harness.run(measure(SyncEcho)),
}
TARGETS = [
    Target("longest iteration, async", "async.longest", at_most=20),
    Target("longest iteration, sync", "sync.longest", at_most=20),
]

if __name__ == "__main__":
    harness.main("pause", sys.modules[__name__])
