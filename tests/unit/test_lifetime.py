"""What is freed and when: items, results, batchers without a stop, cycles, islands."""

from __future__ import annotations

import asyncio
import gc
import threading
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
    finished,
    new_loop,
    no_loop_errors,
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

    def refuse(batch: list[Any]) -> Any:
        raise LookupError

    async with kind(refuse, max_queue_time=0) as batcher:
        item = Item()
        reference = weakref.ref(item)
        await outcome(lambda: batcher.process(reference()))
        del item
        await collected(reference)


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


def test_dropped_batcher_takes_its_threads_along() -> None:
    """Scenario 35. Trap 40."""
    before = threading.active_count()

    async def main() -> None:
        batcher = SyncRecorder(max_queue_time=0, concurrency=4, max_batch_size=1)
        batcher.hold()
        futures = [batcher.process(item) for item in range(4)]
        await batcher.begun(4)
        batcher.release()
        await finished(*futures)

    run(main())
    gc.collect()
    # The OS threads are counted, with patience, by the check after every test.
    assert threading.active_count() <= before + 4


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
        tasks = weakref.WeakSet([asyncio.create_task(island())])
        await asyncio.sleep(0)
        gc.collect()
        await answered.wait()
        assert answers == [1]
        assert len(tasks) <= 1


def test_collections_while_entries_move_clear_nothing_live() -> None:
    """Scenario 89. Scenario 58."""
    stop = threading.Event()

    def collect() -> None:
        while not stop.is_set():
            gc.collect()

    async def main() -> None:
        async with SyncRecorder(max_queue_time=0, max_batch_size=7) as batcher:
            for number in range(40):
                items = [[number, index] for index in range(20)]
                assert await finished(*map(batcher.process, items)) == items

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        run(main())
    finally:
        stop.set()
        collector.join()


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
