"""Do batches go on beside a loop that is busy?

The loop works in slices of 0.2 to 5 ms without a break. Items come one at a time to an async and to
a sync process_batch, and to a sync one that lets go of the interpreter lock and takes it again ten
times; the longest wait counts, in slices. Then two busy loops in two threads; and how many of its
turns a loop keeps beside a sync batch that computes, and beside one that sleeps.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
import time
from typing import Any

from async_batcher import AsyncBatcher
from benchmarks import harness
from benchmarks.harness import Numbers, Target

SLICES_MS = (0.2, 0.5, 2.0, 5.0)
ITEMS = 100
TAKES = 10
TURNS_S = 1.0
UNIT = "milliseconds; share of turns"


class Async(AsyncBatcher[Any, Any]):
    """Answers on the loop."""

    async def process_batch(self, batch: list[Any]) -> list[Any]:
        """Answer a batch with itself."""
        return batch


class Sync(AsyncBatcher[Any, Any]):
    """Answers in a worker."""

    def process_batch(self, batch: list[Any]) -> list[Any]:
        """Answer a batch with itself."""
        return batch


class Retaking(AsyncBatcher[Any, Any]):
    """Answers in a worker that waits for the interpreter lock again and again."""

    def process_batch(self, batch: list[Any]) -> list[Any]:
        """Answer a batch with itself."""
        for _ in range(TAKES):
            time.sleep(0)
        return batch


def spin(seconds: float) -> None:
    """Compute for so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


async def slices(slice_s: float) -> None:
    """Be busy until cancelled."""
    while True:
        spin(slice_s)
        await asyncio.sleep(0)


async def longest_wait(kind: type[AsyncBatcher[Any, Any]], slice_ms: float) -> Numbers:
    """Let single items come to a busy loop."""
    async with kind(max_queue_time=0) as batcher:
        await batcher.process(0)
        busy = asyncio.create_task(slices(slice_ms / 1e3))
        waits = []
        for item in range(harness.scaled(ITEMS)):
            start = time.perf_counter()
            await batcher.process(item)
            waits.append(time.perf_counter() - start)
        busy.cancel()
    takes = TAKES if kind is Retaking else 0
    allowed_ms = (takes + 2) * slice_ms + (20 if takes else 10)
    return {"longest": max(waits) * 1e3, "of allowed": max(waits) * 1e3 / allowed_ms}


def two_loops() -> Numbers:
    """Two busy loops that use one batcher, beside a batch that computes: what each gets done.

    Without the batch nobody asks the loops to let others in, and CPython alone may starve one.
    """
    turns = [0, 0, 0]
    ends = threading.Event()

    class Work(AsyncBatcher[Any, Any]):
        def process_batch(self, batch: list[Any]) -> list[Any]:
            while not ends.is_set():
                spin(0.001)
                turns[2] += 1
            return batch

    batcher = Work(max_queue_time=0)
    known = threading.Barrier(2)

    async def loop(number: int) -> None:
        future = batcher.process(number)
        known.wait()
        end = time.perf_counter() + TURNS_S
        while time.perf_counter() < end and not ends.is_set():
            spin(0.002)
            turns[number] += 1
            await asyncio.sleep(0)
        ends.set()
        await future

    other = threading.Thread(target=lambda: asyncio.run(loop(1)))
    other.start()
    harness.run(loop(0))
    other.join()
    return {"fewest turns over most": min(turns) / max(turns)}


async def turns_beside(work: Any) -> Numbers:
    """Count the loop's turns alone and beside a batch."""

    class Work(AsyncBatcher[Any, Any]):
        def process_batch(self, batch: list[Any]) -> list[Any]:
            work(TURNS_S)
            return batch

    async def turns(until: asyncio.Future[Any]) -> int:
        count = 0
        while not until.done():
            spin(0.0005)
            count += 1
            await asyncio.sleep(0)
        return count

    async with Work(max_queue_time=0) as batcher:
        alone = await turns(asyncio.ensure_future(asyncio.sleep(TURNS_S)))
        start = time.perf_counter()
        beside = await turns(batcher.process(0))
        return {"kept": beside / (time.perf_counter() - start) / (alone / TURNS_S)}


KINDS = {"async": Async, "sync": Sync, "sync, 10 takes": Retaking}
CASES = {
    **{
        f"{name}, {slice_ms:g} ms": functools.partial(
            lambda kind, slice_ms: harness.run(longest_wait(kind, slice_ms)), kind, slice_ms
        )
        for name, kind in KINDS.items()
        for slice_ms in SLICES_MS
    },
    "two busy loops": two_loops,
    "beside computing": lambda: harness.run(turns_beside(spin)),
    "beside sleeping": lambda: harness.run(turns_beside(time.sleep)),
}
TARGETS = [
    *(
        Target(
            f"longest wait, {name}, slices of {slice_ms:g} ms, over what is allowed",
            f"{name}, {slice_ms:g} ms.of allowed",
            at_most=1,
        )
        for name in KINDS
        for slice_ms in SLICES_MS
    ),
    Target("two busy loops both go on", "two busy loops.fewest turns over most", at_least=0.1),
    Target("turns kept beside computing", "beside computing.kept", at_least=0.4),
    Target("turns kept beside sleeping", "beside sleeping.kept", at_least=0.95),
]

if __name__ == "__main__":
    harness.main("busy_loop", sys.modules[__name__])
