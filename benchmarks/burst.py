"""How fast are 100,000 items that come at once through one gather?

Batches of 1,000 by a trivial async function.
"""

from __future__ import annotations

import asyncio
import sys
import time

from benchmarks import harness, subjects
from benchmarks.harness import Numbers, Target
from benchmarks.subjects import SUBJECTS

ITEMS = 100_000
SIZE = 1000
UNIT = "thousand items a second"


async def measure(subject: str) -> Numbers:
    """Process all items in one gather."""
    count = harness.scaled(ITEMS)
    async with SUBJECTS[subject](SIZE) as process:
        await process(0)
        start = time.perf_counter()
        answers = await asyncio.gather(*map(process, range(count)))
        rate = count / (time.perf_counter() - start) / 1e3
    if answers != list(range(count)):
        raise ValueError("wrong answers")
    return {"rate": rate}


CASES = subjects.cases(measure)
TARGETS = [
    *subjects.TO_THE_FLOOR,
    Target("over async-batcher 0.2", "ours.rate", "async-batcher 0.2.rate", at_least=3.5),
]

if __name__ == "__main__":
    harness.main("burst", sys.modules[__name__])
