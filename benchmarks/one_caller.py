"""What does one item cost a caller who has no company?

Window 0 and a trivial async function: the time from process() to the answer, with 1 and with 32
callers. Beside it a bare round trip of the loop: a Future that call_soon resolves.
"""

from __future__ import annotations

import asyncio
import functools
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from async_batcher import AsyncBatcher
from benchmarks import harness
from benchmarks.harness import Numbers, Target

BLOCK = 320  # items of one of the two, before the other has its turn
BLOCKS = 60
UNIT = "microseconds"


class Echo(AsyncBatcher[Any, Any]):
    """Gives every item back."""

    async def process_batch(self, batch: list[Any]) -> list[Any]:
        """Answer a batch with itself."""
        return batch


def round_trip(item: Any) -> asyncio.Future[Any]:
    """Be answered by the next iteration of the loop."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    loop.call_soon(future.set_result, item)
    return future


async def measure(
    process: Callable[[Any], Awaitable[Any]], callers: int, times: list[float]
) -> None:
    """Time the items of a block of every caller."""

    async def caller() -> None:
        for item in range(BLOCK // callers):
            start = time.perf_counter()
            await process(item)
            times.append(time.perf_counter() - start)

    await asyncio.gather(*(caller() for _ in range(callers)))


async def compare(callers: int) -> Numbers:
    """Time both, in blocks that alternate: the speed of a shared machine changes in between."""
    times: dict[str, list[float]] = {"ours": [], "call_soon": []}
    async with Echo(max_queue_time=0, max_batch_size=64) as batcher:
        for _ in range(harness.scaled(BLOCKS)):
            await measure(batcher.process, callers, times["ours"])
            await measure(round_trip, callers, times["call_soon"])
    numbers: Numbers = {}
    for name, taken in times.items():
        cuts = statistics.quantiles(taken, n=100)
        numbers |= {f"{name} p50": cuts[49] * 1e6, f"{name} p99": cuts[98] * 1e6}
    return numbers


def case(callers: int) -> Numbers:
    """Compare the two with so many callers."""
    return harness.run(compare(callers))


CASES = {
    "1 caller": functools.partial(case, 1),
    "32 callers": functools.partial(case, 32),
}
TARGETS = [
    Target(
        f"{number} of {who} over the round trip",
        f"{who}.ours {number}",
        f"{who}.call_soon {number}",
        at_most=1.5,
    )
    for who in CASES
    for number in ("p50", "p99")
]

if __name__ == "__main__":
    harness.main("one_caller", sys.modules[__name__])
