"""How fast is DynamicBatcher beside Flyte's, and how busy does it keep its function?

1,000 callers in closed loops and batches of 100 by a trivial function; then producers that keep the
queue full beside a function that takes 10 ms.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from benchmarks import harness
from benchmarks.harness import Numbers, Target
from benchmarks.subjects import Subject, dynamic, flyte

CALLERS = 1000
ITEMS = 200_000
UNIT = "thousand items a second; share of the time"


async def rate(subject: Subject, items: int) -> Numbers:
    """Let all callers go through their share."""
    count = max(1, harness.scaled(items) // CALLERS)

    async with subject(100) as process:

        async def caller() -> None:
            for item in range(count):
                if await process(item) != item:
                    raise ValueError("wrong answer")

        start = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return {"rate": count * CALLERS / (time.perf_counter() - start) / 1e3}


async def load(module: Any) -> Numbers:
    """Keep the queue full for a hundred batches."""

    async def forward(batch: list[int]) -> list[int]:
        await asyncio.sleep(0.01)
        return batch

    async with module.DynamicBatcher(forward, max_batch_size=32, max_queue_size=128) as batcher:
        futures = [await batcher.submit(item) for item in range(32 * harness.scaled(100))]
        await asyncio.gather(*futures)
        return {"utilization": batcher.stats.utilization}


def load_ours() -> Numbers:
    """Utilization of ours."""
    import async_batcher.dynamic

    return harness.run(load(async_batcher.dynamic))


def load_flyte() -> Numbers:
    """Utilization of Flyte's."""
    from benchmarks.subjects import PEERS

    sys.path.append(str(PEERS / "flyte"))
    import flyte.extras

    return harness.run(load(flyte.extras))


CASES = {
    "ours": lambda: harness.run(rate(dynamic, ITEMS)),
    "flyte": lambda: harness.run(rate(flyte, ITEMS // 10)),
    "ours, loaded": load_ours,
    "flyte, loaded": load_flyte,
}
TARGETS = [
    Target("over Flyte's", "ours.rate", "flyte.rate", at_least=4),
    Target("utilization when always loaded", "ours, loaded.utilization", at_least=0.98),
]

if __name__ == "__main__":
    harness.main("dynamic", sys.modules[__name__])
