"""How many bytes does a waiting item take, beyond its Future and itself?

A million items wait in one queue: the growth of the process, less that of a process of its own with
a list of a million Futures. Then they are served, and it is done again: what is left must not
grow (Linux).
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

from async_batcher import AsyncBatcher
from benchmarks import harness
from benchmarks.harness import Numbers, Target

ITEMS = 1_000_000
UNIT = "bytes an item"


class Echo(AsyncBatcher[Any, Any]):
    """Gives every item back."""

    async def process_batch(self, batch: list[Any]) -> list[Any]:
        """Answer a batch with itself."""
        return batch


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def bare(count: int) -> Numbers:
    """A list of Futures."""
    loop = asyncio.get_running_loop()
    before = resident()
    futures = [loop.create_future() for _ in range(count)]
    return {"future": (resident() - before) / len(futures)}


async def queued(count: int) -> Numbers:
    """A list of Futures whose items wait in a batcher."""
    async with Echo(max_queue_time=3600) as batcher:
        before = resident()
        waiting, after = [], []
        for _ in range(10):
            batcher.max_batch_size = -1
            futures = [batcher.process(None) for _ in range(count)]
            waiting.append((resident() - before) / count)
            batcher.max_batch_size = 1000
            batcher.flush()
            await batcher.idle()
            futures.clear()
            after.append((resident() - before) / count)
        # What the allocators keep settles after some fillings; a leak goes on.
        return {"queued": waiting[0], "growth": after[-1] - max(after[:6])}


def ours() -> Numbers:
    """Both, each in a process that has done nothing else."""
    count = harness.scaled(ITEMS)
    source = (
        f"import asyncio; from benchmarks import memory; print(asyncio.run(memory.bare({count})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    numbers = harness.run(queued(count))
    numbers["future"] = float(done.stdout.split(":")[1].strip(" }\n"))
    numbers["beyond the Future"] = numbers["queued"] - numbers["future"]
    return numbers


CASES = {"ours": ours}
TARGETS = [
    Target("beyond the Future", "ours.beyond the Future", at_most=64),
    Target("growth from the sixth filling to the tenth", "ours.growth", at_most=1),
]

if __name__ == "__main__":
    harness.main("memory", sys.modules[__name__])
