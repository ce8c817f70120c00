"""How fast are 100,000 items that come at once through one gather?

Batches of 1,000 by a trivial async function.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import time

from benchmarks import harness
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


def case(subject: str, loop: str) -> Numbers:
    """Measure one subject on one kind of loop."""
    return harness.run(measure(subject), loop)


CASES = {
    **{name: functools.partial(case, name, "asyncio") for name in SUBJECTS},
    **{f"{name} on uvloop": functools.partial(case, name, "uvloop") for name in ("ours", "floor")},
}
TARGETS = [
    Target("over the floor", "ours.rate", "floor.rate", at_least=1.0),
    Target(
        "over the floor, on uvloop", "ours on uvloop.rate", "floor on uvloop.rate", at_least=1.0
    ),
    Target("over async-batcher 0.2", "ours.rate", "async-batcher 0.2.rate", at_least=3.5),
]

if __name__ == "__main__":
    harness.main("burst", sys.modules[__name__])
