"""Callers that leave: while they wait, while they run, and in the tick of their answer."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest
from support import (
    LONG,
    PATIENCE,
    TIMEOUTS,
    AsyncRecorder,
    Recorder,
    SyncRecorder,
    both,
    finished,
    no_loop_errors,
    settle,
)

from async_batcher import BatchCancelledError

since_311 = pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")


async def running(batcher: Recorder, count: int = 3) -> list[asyncio.Future[Any]]:
    """Make one held batch of `count` items run; return their futures."""
    batcher.hold()
    futures = [batcher.process(item) for item in range(count)]
    batcher.flush()
    await batcher.begun(1)
    return futures


@both
async def test_cancelled_item_is_never_sent(kind: type[Recorder]) -> None:
    """Scenario 15. Trap 3."""
    async with kind(max_queue_time=LONG) as batcher:
        gone, stays = batcher.process("gone"), batcher.process("stays")
        assert gone.cancel()
        batcher.flush()
        assert await stays == "stays"
        assert batcher.seen == [["stays"]]


@both
async def test_batch_of_cancelled_items_is_never_run(kind: type[Recorder]) -> None:
    """Scenario 15. Trap 3."""
    async with kind(max_queue_time=0) as batcher:
        for future in [batcher.process(item) for item in range(3)]:
            future.cancel()
        await batcher.idle()
        assert batcher.seen == []
        stats = batcher.stats
        assert (stats.cancelled, stats.batches, stats.queued, stats.running) == (3, 0, 0, 0)


@both
async def test_cancelled_item_makes_room_in_its_batch(kind: type[Recorder]) -> None:
    """Scenario 15. Guarantee 3."""
    async with kind(max_batch_size=2, max_queue_time=0) as batcher:
        held = await batcher.busy()
        futures = [batcher.process(item) for item in range(4)]
        futures[0].cancel()
        futures[2].cancel()
        batcher.release()
        await finished(held, futures[1], futures[3])
        assert batcher.seen == [["held"], [1, 3]]


async def test_task_that_is_cancelled_takes_its_item_along() -> None:
    """Scenario 15."""

    async def caller(batcher: Recorder) -> Any:
        return await batcher.process("gone")

    async with AsyncRecorder(max_queue_time=LONG) as batcher:
        tasks = [asyncio.create_task(caller(batcher)), asyncio.create_task(batcher.call("gone"))]
        await settle()
        assert batcher.stats.queued == 2
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        assert batcher.stats.queued == 0


@both
@pytest.mark.parametrize("index", [0, 1, 2])
async def test_caller_that_leaves_a_running_batch_hurts_nobody(
    kind: type[Recorder], index: int
) -> None:
    """Scenario 16. Trap 1."""
    async with kind(max_queue_time=LONG) as batcher:
        with no_loop_errors():
            futures = await running(batcher)
            futures.pop(index).cancel()
            batcher.release()
            assert await finished(*futures) == [item for item in range(3) if item != index]
            assert (batcher.stats.running, batcher.stats.cancelled) == (0, 1)


@both
async def test_callers_that_stay_get_the_error_of_the_batch(kind: type[Recorder]) -> None:
    """Trap 2."""

    def refuse(batch: list[Any]) -> Any:
        raise LookupError("late")

    async with kind(refuse, max_queue_time=LONG) as batcher:
        with no_loop_errors():
            first, middle, last = await running(batcher)
            middle.cancel()
            batcher.release()
            assert [type(error) for error in await finished(first, last)] == [LookupError] * 2


@both
async def test_batch_that_all_callers_left_gives_its_permit_back(kind: type[Recorder]) -> None:
    """Scenario 17."""
    async with kind(max_queue_time=0) as batcher:
        for future in await running(batcher):
            future.cancel()
        batcher.release()
        assert await batcher.process("next") == "next"
        await batcher.idle()
        assert batcher.stats.running == 0


@pytest.mark.parametrize("left", [1, 3])
async def test_running_batch_is_not_cancelled_with_its_callers(left: int) -> None:
    """Scenario 17. Guarantee 2."""
    ended: list[bool] = []

    def note(batch: list[Any]) -> list[Any]:
        ended.append(True)
        return batch

    async with AsyncRecorder(note, max_queue_time=LONG) as batcher:
        for future in (await running(batcher))[:left]:
            future.cancel()
        await settle()
        batcher.release()
        await batcher.idle()
        assert ended == [True]


@since_311
@both
async def test_timeout_around_a_slow_batch_is_a_timeout_error(kind: type[Recorder]) -> None:
    """Trap 4."""
    async with kind(max_queue_time=0) as batcher:
        batcher.hold()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await batcher.process(1)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        batcher.release()


@both
async def test_wait_for_gives_up_on_a_held_item(kind: type[Recorder]) -> None:
    """Trap 4."""
    async with kind(max_queue_time=0) as batcher:
        held = await batcher.busy()
        with pytest.raises(TIMEOUTS):
            await asyncio.wait_for(batcher.process("gone"), 0.001)
        batcher.release()
        assert await held == "held"
        assert batcher.seen == [["held"]]


async def test_cancel_in_the_tick_of_the_result_gives_one_or_the_other() -> None:
    """Scenario 19. Trap 6."""
    async with AsyncRecorder(max_queue_time=0) as batcher:
        with no_loop_errors():
            for rounds in range(12):
                future = batcher.process(rounds)
                await settle(rounds)
                cancelled = future.cancel()
                (answer,) = await finished(future)
                assert isinstance(answer, asyncio.CancelledError) if cancelled else answer == rounds
            await batcher.idle()


async def test_cancel_after_the_worker_delivered_gives_the_cancel() -> None:
    """Scenario 19. Trap 6."""
    loop = asyncio.get_running_loop()
    returning = asyncio.Event()

    def note(batch: list[Any]) -> list[Any]:
        loop.call_soon_threadsafe(returning.set)
        return batch

    async with SyncRecorder(note, max_queue_time=0) as batcher:
        with no_loop_errors():
            for _ in range(20):
                returning.clear()
                future = batcher.process(1)
                await returning.wait()
                future.cancel()
                (answer,) = await finished(future)
                assert answer == 1 or isinstance(answer, asyncio.CancelledError)
            await batcher.idle()


@both
async def test_neighbour_cancelled_by_a_done_callback_hurts_nobody(kind: type[Recorder]) -> None:
    """Scenario 19. Trap 6."""
    async with kind(max_batch_size=3, max_queue_time=LONG) as batcher:
        with no_loop_errors():
            first, second, third = (batcher.process(item) for item in range(3))
            first.add_done_callback(lambda future: second.cancel())
            assert await finished(first, third) == [0, 2]
            await batcher.idle()


async def test_batch_cancels_its_own_callers_while_it_runs() -> None:
    """Scenario 16. Scenario 19."""
    futures: list[asyncio.Future[Any]] = []

    def leave(batch: list[Any]) -> list[Any]:
        for future in futures[::2]:
            future.cancel()
        return batch

    async with AsyncRecorder(leave, max_batch_size=4, max_queue_time=LONG) as batcher:
        with no_loop_errors():
            futures += map(batcher.process, range(4))
            assert await finished(*futures[1::2]) == [1, 3]


async def test_future_that_someone_else_resolved_is_left_alone() -> None:
    """Scenario 19. Trap 6."""
    async with AsyncRecorder(max_queue_time=0) as batcher:
        with no_loop_errors():
            futures = await running(batcher)
            futures[0].set_result("mine")
            futures[1].set_exception(LookupError("mine"))
            batcher.release()
            first, second, third = await finished(*futures)
            assert (first, third) == ("mine", 2)
            assert isinstance(second, LookupError)


@since_311
@both
async def test_failing_sibling_in_a_task_group_hurts_no_neighbour_outside(
    kind: type[Recorder],
) -> None:
    """Scenario 21."""
    async with kind(max_batch_size=3, max_queue_time=LONG) as batcher:
        batcher.hold()
        outside = batcher.process("outside")

        async def fail() -> None:
            await batcher.begun(1)
            raise LookupError("sibling")

        async def group() -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(batcher.call(1))
                tasks.create_task(batcher.call(2))
                tasks.create_task(fail())

        with pytest.raises(BaseException) as caught:  # noqa: PT011
            await group()
        assert [type(error) for error in caught.value.exceptions] == [LookupError]
        batcher.release()
        assert await outside == "outside"


async def test_cancelled_task_of_a_batch_is_an_error_to_its_callers() -> None:
    """Scenario 22."""
    tasks: list[Any] = []

    class Known(AsyncRecorder):
        async def process_batch(self, batch: list[Any]) -> Any:
            tasks.append(asyncio.current_task())
            return await super().process_batch(batch)

    async with Known(max_queue_time=0) as batcher:
        futures = await running(batcher)
        tasks[0].cancel()
        assert [type(error) for error in await finished(*futures)] == [BatchCancelledError] * 3
        batcher.release()
        assert await batcher.process("next") == "next"


@both
async def test_storm_of_timeouts_gives_each_caller_one_answer(kind: type[Recorder]) -> None:
    """Scenario 20."""
    async with kind(max_batch_size=50, max_queue_time=0.0005) as batcher:
        futures = [batcher.process(item) for item in range(1000)]
        loop = asyncio.get_running_loop()
        for index, future in enumerate(futures):
            loop.call_later((index * 7919 % 1000) / 100_000, future.cancel)
        answers = await finished(*futures)
        for item, answer in enumerate(answers):
            assert answer == item or isinstance(answer, asyncio.CancelledError)
        await batcher.idle()
        stats = batcher.stats
        assert stats.submitted == stats.completed + stats.cancelled == 1000


async def test_item_cancelled_in_another_thread_does_not_break_the_cut() -> None:
    """Scenario 15. Trap 3."""
    async with SyncRecorder(max_queue_time=0) as batcher:
        held = await batcher.busy()
        queued = [batcher.process_threadsafe(item) for item in range(10)]
        canceller = threading.Thread(target=lambda: [future.cancel() for future in queued[::2]])
        canceller.start()
        await asyncio.to_thread(canceller.join, PATIENCE)
        batcher.release()
        await held
        results = await asyncio.gather(*map(asyncio.wrap_future, queued[1::2]))
        assert results == [1, 3, 5, 7, 9]
        assert batcher.items == ["held", 1, 3, 5, 7, 9]
