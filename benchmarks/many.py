"""How fast is one call of process_many with 100,000 items?

Beside it the same items through one gather of async-batcher 0.2, which has no such call.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from async_batcher import AsyncBatcher
from benchmarks import burst, harness
from benchmarks.harness import Numbers, Target

ITEMS = 100_000
UNIT = "thousand items a second"


class Echo(AsyncBatcher[Any, Any]):
    """Gives every item back."""

    async def process_batch(self, batch: list[Any]) -> list[Any]:
        """Answer a batch with itself."""
        return batch


async def measure() -> Numbers:
    """Process all items in one call."""
    count = harness.scaled(ITEMS)
    async with Echo(max_batch_size=1000) as batcher:
        await batcher.process(0)
        start = time.perf_counter()
        answers = await batcher.process_many(range(count))
        rate = count / (time.perf_counter() - start) / 1e3
    if answers != list(range(count)):
        raise ValueError("wrong answers")
    return {"rate": rate}


def ancestor() -> Numbers:
    """The burst of async-batcher 0.2, without our package of the same name."""
    sys.modules.pop("async_batcher")
    for name in [name for name in sys.modules if name.startswith("async_batcher.")]:
        del sys.modules[name]
    return burst.CASES["async-batcher 0.2"]()


CASES = {
    "process_many": lambda: harness.run(measure()),
    "ours, gather": burst.CASES["ours"],
    "async-batcher 0.2, gather": ancestor,
}
TARGETS = [
    Target(
        "over async-batcher 0.2's gather",
        "process_many.rate",
        "async-batcher 0.2, gather.rate",
        at_least=30,
    ),
]

if __name__ == "__main__":
    harness.main("many", sys.modules[__name__])
