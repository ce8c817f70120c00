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

ITEMS = 20_000
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


async def measure(process: Callable[[Any], Awaitable[Any]], callers: int) -> Numbers:
    """Time every item of every caller."""
    times: list[float] = []

    async def caller() -> None:
        for item in range(harness.scaled(ITEMS) // callers):
            start = time.perf_counter()
            await process(item)
            times.append(time.perf_counter() - start)

    await asyncio.gather(*(caller() for _ in range(callers)))
    cuts = statistics.quantiles(times, n=100)
    return {"p50": cuts[49] * 1e6, "p99": cuts[98] * 1e6}


async def ours(callers: int) -> Numbers:
    """A batcher without a window."""
    async with Echo(max_queue_time=0, max_batch_size=64) as batcher:
        return await measure(batcher.process, callers)


CASES = {
    f"{name}, {callers} caller{'s' * (callers > 1)}": functools.partial(
        lambda start, count: harness.run(start(count)), start, callers
    )
    for callers in (1, 32)
    for name, start in (
        ("ours", ours),
        ("call_soon", functools.partial(measure, round_trip)),
    )
}
TARGETS = [
    Target(
        f"{number} of {who} over the round trip",
        f"ours, {who}.{number}",
        f"call_soon, {who}.{number}",
        at_most=1.5,
    )
    for who in ("1 caller", "32 callers")
    for number in ("p50", "p99")
]

if __name__ == "__main__":
    harness.main("one_caller", sys.modules[__name__])
