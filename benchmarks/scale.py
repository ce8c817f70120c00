"""Does an item cost the same however many there are?

The cost of an item as each of these grows alone: items, callers, the size of a batch, batchers,
loops (each in a thread of its own) and threads that hand items in. Its largest over its smallest is
how flat it is. On a free-threaded interpreter two loops must do more than one.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import sysconfig
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from async_batcher import AsyncBatcher
from benchmarks import harness
from benchmarks.harness import Numbers, Target

if TYPE_CHECKING:
    from benchmarks.subjects import Process

ITEMS = 200_000
UNIT = "microseconds an item"
IS_FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


class Echo(AsyncBatcher[Any, Any]):
    """Gives every item back."""

    async def process_batch(self, batch: list[Any]) -> list[Any]:
        """Answer a batch with itself."""
        return batch


async def closed(process: Process, callers: int, items: int) -> float:
    """Seconds an item for callers who each wait for their answer and then go on."""
    count = max(10, items // callers)

    async def caller() -> None:
        for item in range(count):
            await process(item)

    start = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return (time.perf_counter() - start) / (count * callers)


async def by_items(items: int) -> float:
    """So many items, a hundred under way at a time."""
    async with Echo(max_batch_size=100) as batcher:
        return await closed(batcher.process, 100, items)


async def by_callers(callers: int) -> float:
    """So many callers; without a window, for one caller never fills a batch."""
    async with Echo(max_batch_size=100, max_queue_time=0) as batcher:
        return await closed(batcher.process, callers, harness.scaled(ITEMS))


async def bare_by_callers(callers: int) -> float:
    """So many tasks that only go round."""
    return await closed(lambda _: asyncio.sleep(0), callers, harness.scaled(ITEMS))


async def by_size(size: int) -> float:
    """Batches of so many, of ten thousand callers."""
    async with Echo(max_batch_size=size) as batcher:
        return await closed(batcher.process, 10_000, harness.scaled(ITEMS))


async def by_batchers(count: int) -> float:
    """So many batchers; a thousand callers go from one to the next."""
    batchers = [Echo(max_batch_size=100, max_queue_time=0) for _ in range(count)]
    turn = 0

    def process(item: Any) -> asyncio.Future[Any]:
        nonlocal turn
        turn += 1
        return batchers[turn // 1000 % count].process(item)

    seconds = await closed(process, 1000, max(harness.scaled(ITEMS), 1000 * count // 10))
    await asyncio.gather(*(batcher.stop() for batcher in batchers))
    return seconds


def by_loops(count: int) -> float:
    """One batcher for each of so many loops in threads of their own: time of the wall."""
    items = harness.scaled(ITEMS) // count
    start = time.perf_counter()
    threads = [threading.Thread(target=lambda: harness.run(one_loop(items))) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (time.perf_counter() - start) / (items * count)


async def one_loop(items: int) -> float:
    """What each of them does."""
    async with Echo(max_batch_size=100) as batcher:
        return await closed(batcher.process, 500, items)


async def by_threads(count: int) -> float:
    """So many threads without a loop hand in to one batcher."""
    items = harness.scaled(ITEMS) // 2 // count
    async with Echo(max_batch_size=100) as batcher:
        await batcher.process(0)

        def work() -> None:
            waiting: deque[Any] = deque()
            for item in range(items):
                waiting.append(batcher.process_threadsafe(item))
                if len(waiting) == 256:
                    waiting.popleft().result()
            for future in waiting:
                future.result()

        start = time.perf_counter()
        await asyncio.gather(*(asyncio.to_thread(work) for _ in range(count)))
        return (time.perf_counter() - start) / (items * count)


AXES: dict[str, tuple[Any, list[int]]] = {
    "items": (by_items, [1_000, 10_000, 100_000, 1_000_000, 10_000_000]),
    "callers": (by_callers, [1, 10, 100, 1_000, 10_000, 100_000]),
    "tasks alone": (bare_by_callers, [1, 10, 100, 1_000, 10_000, 100_000]),
    "batch": (by_size, [1, 10, 100, 1_000, 10_000]),
    "batchers": (by_batchers, [1, 10, 100, 1_000, 10_000]),
    "loops": (by_loops, [1, 2, 4, 8]),
    "threads": (by_threads, [1, 2, 4, 8]),
}


def measure(axis: str) -> Numbers:
    """Measure along one axis; `spread` is the largest cost over the smallest."""
    function, steps = AXES[axis]
    if harness.quick():
        steps = [step for step in steps if step < 10_000_000]
    costs = {}
    for step in [steps[len(steps) // 2], *steps]:  # the first one warms up
        answer = function(step)
        costs[step] = harness.run(answer) if asyncio.iscoroutine(answer) else answer
    numbers = {f"{step:,}": cost * 1e6 for step, cost in costs.items()}
    ordered = [costs[step] for step in steps]
    numbers["growth"] = ordered[-1] / min(ordered)
    if axis == "loops":
        numbers["two over one"] = costs[1] / costs[2]
    return numbers


CASES = {axis: functools.partial(measure, axis) for axis in AXES}
TARGETS = [
    Target(f"cost at the most {axis} over the least", f"{axis}.growth", at_most=1.3)
    for axis in AXES
    if axis != "tasks alone"  # asyncio's own growth, to compare with that of callers
] + (
    [Target("two loops over one, without the GIL", "loops.two over one", at_least=1.5)]
    if IS_FREE_THREADED
    else []
)

if __name__ == "__main__":
    harness.main("scale", sys.modules[__name__])
