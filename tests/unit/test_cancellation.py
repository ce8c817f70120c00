"""Callers that leave: while they wait, while they run, and in the tick of their answer.

Those whom a timeout cancels are in test_timeouts.py.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from typing import Any

import pytest
from support import (
    LONG,
    PATIENCE,
    AsyncRecorder,
    KnownTasks,
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


@pytest.mark.parametrize("give", ["process", "process_many"])
async def test_cancel_after_the_worker_delivered_gives_the_cancel(
    give: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Scenario 19. Trap 6. The loop stands still while the worker settles its batch."""
    caplog.set_level(logging.INFO)
    async with SyncRecorder(max_queue_time=0) as batcher:
        with no_loop_errors():
            await batcher.process("first")
            future = getattr(batcher, give)([1])
            give_up = time.monotonic() + PATIENCE
            while (batcher.stats.batches, batcher.stats.running) != (2, 0):
                assert time.monotonic() < give_up
                time.sleep(0)
            assert future.cancel()
            (answer,) = await finished(future)
            assert isinstance(answer, asyncio.CancelledError)
            await batcher.idle()
            assert (batcher.stats.completed, batcher.stats.cancelled) == (1, 1)
    assert caplog.records == []


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


@since_311
async def test_task_group_takes_call_and_not_the_future_of_process() -> None:
    """Scenario 21."""
    async with AsyncRecorder(max_queue_time=0) as batcher, asyncio.TaskGroup() as tasks:
        future: Any = batcher.process(1)
        with pytest.raises(TypeError, match="coroutine"):
            tasks.create_task(future)
        task = tasks.create_task(batcher.call(2))
        assert await finished(future, task) == [1, 2]


async def test_cancelled_task_of_a_batch_is_an_error_to_its_callers() -> None:
    """Scenario 22."""
    async with KnownTasks(max_queue_time=0) as batcher:
        futures = await running(batcher)
        batcher.tasks[0].cancel()
        assert [type(error) for error in await finished(*futures)] == [BatchCancelledError] * 3
        batcher.release()
        assert await batcher.process("next") == "next"


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
