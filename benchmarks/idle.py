"""What does an idle batcher cost, and how many threads do many batchers need?

Sleeps beside 100 batchers that have been used, and beside 10,000 with an item in a window that does
not end, and reads the CPU time of the process and its number of threads (Linux).

Run it on an idle machine: ``python -m benchmarks.idle``.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from async_batcher import AsyncBatcher

IDLE_S = 3.0
TARGET_MS = 10.0
USED = 100
PENDING = 10_000


class Echo(AsyncBatcher[int, int]):
    """Gives every item back."""

    async def process_batch(self, batch: list[int]) -> list[int]:
        """Answer a batch with itself."""
        return batch


def threads() -> int:
    """Count the threads of this process, native ones included."""
    return len(list(Path("/proc/self/task").iterdir()))


async def measure() -> tuple[float, int]:
    """Return the CPU milliseconds of an idle time, and the threads that windows need."""
    before = threads()
    used = [Echo(max_queue_time=0.001) for _ in range(USED)]
    await asyncio.gather(*(batcher.process(1) for batcher in used))
    start = time.process_time()
    await asyncio.sleep(IDLE_S)
    cpu_ms = (time.process_time() - start) * 1e3
    pending = [Echo(max_queue_time=3600) for _ in range(PENDING)]
    futures = [batcher.process(1) for batcher in pending]
    native = threads() - before
    await asyncio.gather(*(batcher.stop() for batcher in pending))
    await asyncio.gather(*futures)
    return cpu_ms, native


def main() -> int:
    """Measure and print; 0 if both targets are met."""
    cpu_ms, native = asyncio.run(measure())
    print(f"{USED} idle batchers: {cpu_ms:.2f} ms of CPU in {IDLE_S:.0f} s, target {TARGET_MS:.0f}")
    print(f"{PENDING} batchers with a pending window: {native} native thread(s)")
    return 0 if cpu_ms < TARGET_MS and native == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
