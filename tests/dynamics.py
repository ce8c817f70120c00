"""What the tests of DynamicBatcher share: a running one over a recorder, and a batch held in it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from support import AsyncRecorder, Recorder, settle

from async_batcher import DynamicBatcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable

# One record a batch.
NARROW: dict[str, Any] = {"max_batch_size": 1, "max_queue_size": 2, "prefetch_batches": 1}
ROOM = 4  # behind the running batch: one ahead, one that is assembled, two in the queue


def own(record: Any) -> Any:
    """Say that a record is as dear as its value; a word costs nothing."""
    return 0 if isinstance(record, str) else record


@asynccontextmanager
async def running(
    kind: type[Recorder] = AsyncRecorder,
    function: Callable[[list[Any]], Any] = list,
    *,
    maker: type[DynamicBatcher[Any, Any]] = DynamicBatcher,
    **options: Any,
) -> AsyncIterator[tuple[Any, Recorder]]:
    """Start a batcher whose process_fn is that of a recorder; in the end let go of it and stop."""
    work = kind(function)
    batcher: Any = maker(work.process_batch, **{"batch_timeout_s": 0, **options})
    await batcher.start()
    try:
        yield batcher, work
    finally:
        work.release()
        await batcher.stop()


async def busy(batcher: Any, work: Recorder) -> asyncio.Future[Any]:
    """Make one held batch run; return the future of its only record."""
    work.hold()
    count = len(work.seen)
    future: asyncio.Future[Any] = await batcher.submit("held")
    batcher.flush()
    await work.begun(count + 1)
    return future


async def waiting(*calls: Coroutine[Any, Any, Any]) -> list[asyncio.Task[Any]]:
    """Begin `calls`, one after the other, and let each come as far as it can."""
    tasks = []
    for call in calls:
        tasks.append(asyncio.create_task(call))
        await settle()
    return tasks


async def fill(batcher: Any, records: Iterable[Any]) -> list[asyncio.Task[Any]]:
    """Submit `records` one by one, each by a task of its own, and let each come to rest."""
    return await waiting(*(batcher.submit(record) for record in records))


async def futures_of(tasks: Iterable[asyncio.Task[Any]]) -> list[asyncio.Future[Any]]:
    """Return what tasks of `submit()` gave."""
    return [await task for task in tasks]


def greedy(costs: Iterable[int], budget: int, size: int) -> list[list[int]]:
    """Cut `costs`, in their order, into the fullest batches that keep both limits."""
    batches: list[list[int]] = []
    for cost in costs:
        last = batches[-1] if batches else None
        if last is None or len(last) == size or sum(last) + cost > budget:
            batches.append([cost])
        else:
            last.append(cost)
    return batches
