"""How many items a second do 1,000 callers get through who each wait for their answer?

Batches of 100 by a trivial async function; every caller submits its next item when it has the
answer to the last.
"""

from __future__ import annotations

import asyncio
import sys
import time

from benchmarks import harness, subjects
from benchmarks.harness import Numbers, Target
from benchmarks.subjects import SUBJECTS, Process

CALLERS = 1000
SIZE = 100
ITEMS = 100_000
SLOW = {"async-batcher 0.2", "batched"}
UNIT = "thousand items a second"


async def measure(subject: str) -> Numbers:
    """Let all callers go through their share."""
    count = harness.scaled(ITEMS // (8 if subject in SLOW else 1)) // CALLERS

    async def caller(process: Process) -> None:
        for item in range(count):
            if await process(item) != item:
                raise ValueError("wrong answer")

    async with SUBJECTS[subject](SIZE) as process:
        await asyncio.gather(*(caller(process) for _ in range(CALLERS // 10)))  # warm up
        start = time.perf_counter()
        await asyncio.gather(*(caller(process) for _ in range(CALLERS)))
        return {"rate": count * CALLERS / (time.perf_counter() - start) / 1e3}


CASES = subjects.cases(measure)
TARGETS = [
    *subjects.TO_THE_FLOOR,
    Target("over async-batcher 0.2", "ours.rate", "async-batcher 0.2.rate", at_least=4),
    Target("over aiodataloader", "ours.rate", "aiodataloader.rate", at_least=1.5),
]

if __name__ == "__main__":
    harness.main("closed_loop", sys.modules[__name__])
