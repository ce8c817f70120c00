"""What is freed and when: items, results, batchers without a stop, cycles, islands."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from support import (
    LONG,
    LOOP_NAME,
    AsyncRecorder,
    Item,
    Recorder,
    SyncRecorder,
    both,
    collected,
    counts_threads,
    ended,
    finished,
    new_loop,
    no_loop_errors,
    os_threads,
    outcome,
    run,
    settle,
)

from async_batcher import AsyncBatcher, BatcherStoppedError


class Forgetting(AsyncRecorder):
    """An async recorder that keeps no item."""

    async def process_batch(self, batch: list[Any]) -> Any:
        return self.function(batch)


class ForgettingSync(SyncRecorder):
    """A sync recorder that keeps no item."""

    def process_batch(self, batch: list[Any]) -> Any:
        return self.function(batch)


class Refused(Exception):
    """An exception that, unlike Python's own, can be referred to weakly."""


def refuse(batch: list[Any]) -> Any:
    """Fail a batch, with its items in a frame of the traceback."""
    first = batch[0]
    raise Refused(type(first))


forgetful = pytest.mark.parametrize("kind", [Forgetting, ForgettingSync], ids=["async", "sync"])


@forgetful
async def test_item_is_free_once_its_caller_is_answered(kind: type[Recorder]) -> None:
    """Scenario 64. Trap 50."""
    async with kind(lambda batch: None, max_queue_time=0) as batcher:
        item = Item()
        reference = weakref.ref(item)
        future = batcher.process(item)
        del item
        await future
        await collected(reference)


@forgetful
async def test_result_is_free_once_its_caller_drops_it(kind: type[Recorder]) -> None:
    """Scenario 64. Trap 50."""
    async with kind(lambda batch: [Item() for _ in batch], max_queue_time=0) as batcher:
        reference = weakref.ref(await batcher.process(1))
        await collected(reference)


@forgetful
async def test_error_and_its_frames_are_free_once_the_caller_drops_it(
    kind: type[Recorder],
) -> None:
    """Scenario 64. Trap 50."""

    async with kind(refuse, max_queue_time=0) as batcher:
        (error,) = await finished(batcher.process(Item()))
        references = [weakref.ref(error), weakref.ref(error.__cause__)]
        del error
        for reference in references:
            await collected(reference)


@forgetful
async def test_error_that_its_caller_keeps_keeps_no_item(kind: type[Recorder]) -> None:
    """Scenario 64. Trap 50. Neither in its own frames nor in those of its cause."""
    async with kind(refuse, max_queue_time=0) as batcher:
        items = [Item() for _ in range(3)]
        references = [weakref.ref(item) for item in items]
        errors = await finished(*map(batcher.process, items))
        del items
        for reference in references:
            await collected(reference)
        assert [type(error.__cause__) for error in errors] == [Refused] * 3


@forgetful
async def test_cancelled_item_is_free_once_it_is_noticed(kind: type[Recorder]) -> None:
    """Scenario 64."""
    async with kind(max_queue_time=LONG) as batcher:
        item = Item()
        reference = weakref.ref(item)
        batcher.process(item).cancel()
        del item
        assert batcher.stats.queued == 0
        await collected(reference)


@forgetful
async def test_refused_item_is_free_at_once(kind: type[Recorder]) -> None:
    """Scenario 64. Trap 31."""
    batcher = kind()
    await batcher.stop()
    item = Item()
    reference = weakref.ref(item)
    await outcome(lambda: batcher.process(reference()))
    del item
    await collected(reference)


@both
async def test_idle_batcher_that_nobody_holds_is_collected(kind: type[Recorder]) -> None:
    """Scenario 35. Trap 40. Guarantee 7."""
    batcher = kind(max_queue_time=0)
    await batcher.process(1)
    await batcher.idle()
    reference = weakref.ref(batcher)
    del batcher
    await collected(reference)


@counts_threads
@pytest.mark.thread_unsafe(reason="counts the threads of the process")
async def test_dropped_batcher_takes_its_threads_along() -> None:
    """Scenario 35. Trap 40."""
    async with AsyncRecorder() as other:
        await other.process(1)  # with its window comes the aggregation thread
        before = os_threads()
        batcher = SyncRecorder(max_queue_time=0, concurrency=4, max_batch_size=1)
        batcher.hold()
        futures = [batcher.process(item) for item in range(4)]
        await batcher.begun(4)
        workers = os_threads() - before
        assert len(workers) == 4
        batcher.release()
        await finished(*futures)
        del batcher
        await ended(workers)


@both
async def test_cycle_through_the_batcher_is_collected(kind: type[Recorder]) -> None:
    """Scenario 65."""
    batcher = kind(max_queue_time=0)
    batcher.itself = batcher  # type: ignore[attr-defined]
    batcher.bound = batcher.process  # type: ignore[attr-defined]
    await batcher.process(1)
    await batcher.idle()
    reference = weakref.ref(batcher)
    del batcher
    await collected(reference)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_cycle_through_pending_work_of_a_dead_loop_is_collected() -> None:
    """Scenario 65. Scenario 36."""
    references: list[weakref.ref[Any]] = []

    async def main() -> None:
        batcher = AsyncRecorder(max_queue_time=LONG)
        references.append(weakref.ref(batcher))
        future = batcher.process(batcher)
        future.add_done_callback(lambda f: batcher)
        future.cancel()

    run(main())
    gc.collect()
    assert references[0]() is None


class Blocked(AsyncBatcher[Any, Any]):
    """Its batches wait for a future that nobody sets."""

    def __init__(self, gate: asyncio.Future[None], **options: Any) -> None:
        super().__init__(**options)
        self.gate = gate
        self.itself = self

    async def process_batch(self, batch: list[Any]) -> Any:
        await self.gate


@pytest.mark.skipif(LOOP_NAME == "uvloop", reason="uvloop keeps a loop that is not closed")
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("window", [0, LONG], ids=["running", "queued"])
def test_loop_that_is_collected_and_never_closed_releases_its_batcher(window: float) -> None:
    """Scenario 36. Scenario 65."""

    def leave() -> weakref.ref[Any]:
        loop = new_loop()
        gate = loop.create_future()

        async def main() -> weakref.ref[Any]:
            batcher = Blocked(gate, max_queue_time=window)
            batcher.process(1)
            batcher.process(Item())
            await settle()
            return weakref.ref(batcher)

        return loop.run_until_complete(main())

    for _ in range(5):
        run(collected(leave()))
    gc.collect()
    # A weak reference dies as soon as the collector finds the cycle, freed or not.
    assert not any(type(thing) is Blocked for thing in gc.get_objects())


@both
async def test_task_that_awaits_a_batcher_only_it_knows_gets_its_answer(
    kind: type[Recorder],
) -> None:
    """Scenario 88."""
    answers: list[Any] = []
    answered = asyncio.Event()

    async def island() -> None:
        answers.append(await kind(max_queue_time=0.005).process(1))
        answered.set()

    with no_loop_errors():
        task = weakref.ref(asyncio.create_task(island()))
        await asyncio.sleep(0)
        gc.collect()
        await answered.wait()
        assert answers == [1]
        await collected(task)


async def test_last_reference_may_be_dropped_in_process_batch() -> None:
    """Scenario 59."""
    holder: list[Any] = []

    def drop(batch: list[Any]) -> list[Any]:
        holder.clear()
        gc.collect()
        return batch

    for kind in (AsyncRecorder, SyncRecorder):
        holder.append(kind(drop, max_queue_time=0))
        assert await holder[0].process(1) == 1


async def test_last_reference_may_be_dropped_in_another_thread() -> None:
    """Scenario 59."""
    holder = [SyncRecorder(max_queue_time=0)]
    await holder[0].process(1)
    reference = weakref.ref(holder[0])
    await asyncio.to_thread(holder.clear)
    await collected(reference)


async def test_destructor_of_an_item_may_use_the_batcher() -> None:
    """Scenario 60."""
    late: list[asyncio.Future[Any]] = []

    class Chatty(Item):
        def __del__(self) -> None:
            late.append(batcher.process("from the destructor"))

    def count(batch: list[Any]) -> list[int]:
        return [len(batch)] * len(batch)

    # Two permits: the destructor may run inside process_batch.
    async with Forgetting(count, max_queue_time=0, concurrency=2) as batcher:
        assert await batcher.process(Chatty()) == 1
        await settle()
        gc.collect()
        assert await finished(*late) == [1]


async def test_destructor_of_a_cancelled_item_may_stop_the_batcher() -> None:
    """Scenario 60."""
    stops: list[asyncio.Task[None]] = []

    class Final(Item):
        def __del__(self) -> None:
            stops.append(asyncio.ensure_future(batcher.stop(force=True)))

    batcher = AsyncRecorder(max_queue_time=LONG)
    other = batcher.process("other")
    batcher.process(Final()).cancel()
    assert batcher.stats.cancelled == 1
    gc.collect()
    await stops[0]
    assert isinstance(other.exception(), BatcherStoppedError)


async def test_done_callback_may_use_the_batcher() -> None:
    """Scenario 60."""
    async with AsyncRecorder(max_queue_time=0) as batcher:
        second: list[asyncio.Future[Any]] = []
        first = batcher.process(1)
        first.add_done_callback(lambda future: second.append(batcher.process(2)))
        await first
        await settle(2)
        assert await second[0] == 2


async def test_batcher_may_be_referred_to_weakly() -> None:
    """Scenario 65."""
    batcher = AsyncRecorder()
    assert weakref.ref(batcher)() is batcher


@pytest.mark.thread_unsafe(reason="the collector is the process's")
async def test_task_that_is_cancelled_before_it_cuts_needs_no_collection() -> None:
    """Scenario 88. Nor does its loop: the task keeps both, and nothing of ours keeps the task."""
    async with AsyncRecorder(max_queue_time=0) as batcher:
        await batcher.process("first")
        gc.collect()
        gc.disable()
        try:
            before = asyncio.all_tasks()
            future = batcher.process(1)
            (task,) = asyncio.all_tasks() - before
            gone = weakref.ref(task)
            task.cancel()
            await asyncio.wait([task])
            del task
            assert await future == 1
            await asyncio.sleep(0)
            assert gone() is None
        finally:
            gc.enable()
