"""The end of a DynamicBatcher in odd places: a raising block, inside, a callback, collected."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from dynamics import busy, fill, running, waiting
from support import (
    LONG,
    AsyncRecorder,
    Recorder,
    SyncRecorder,
    both,
    collected,
    finished,
    no_loop_errors,
    outcome,
    settle,
)

from async_batcher import BatcherStoppedError, DynamicBatcher

if TYPE_CHECKING:
    from conftest import Clock


@both
async def test_error_of_the_block_wins_and_fails_what_is_left(kind: type[Recorder]) -> None:
    """Scenario 32. Trap 39."""
    work = kind()
    batcher: DynamicBatcher[Any, Any] = DynamicBatcher(work.process_batch, max_batch_size=1)
    error = LookupError("of the block")
    futures: list[asyncio.Future[Any]] = []

    async def block() -> None:
        async with batcher:
            futures.append(await busy(batcher, work))
            futures.extend(await batcher.submit_batch(range(3)))
            raise error

    assert await outcome(block) is error
    assert not batcher.is_running
    assert [type(answer) for answer in await finished(*futures)] == [BatcherStoppedError] * 4
    work.release()
    await batcher.stop()


async def test_cancelled_block_ends_cancelled() -> None:
    """Trap 39."""
    work = AsyncRecorder()
    batcher: DynamicBatcher[Any, Any] = DynamicBatcher(work.process_batch)
    inside = asyncio.Event()

    async def block() -> None:
        async with batcher:
            await busy(batcher, work)
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await inside.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert not batcher.is_running


async def test_it_starts_again_after_a_block_that_raised() -> None:
    """Trap 39."""
    batcher: DynamicBatcher[Any, Any] = DynamicBatcher(list, batch_timeout_s=0)
    with pytest.raises(LookupError):
        async with batcher:
            raise LookupError
    async with batcher:
        assert await (await batcher.submit(1)) == 1


async def test_stop_inside_the_block_is_enough() -> None:
    batcher: DynamicBatcher[Any, Any] = DynamicBatcher(list)
    async with batcher:
        future = await batcher.submit(1)
        await batcher.stop()
        assert future.result() == 1


async def test_batcher_left_by_an_error_while_a_sync_batch_runs_does_not_wait_for_it() -> None:
    """Trap 39."""
    work = SyncRecorder()
    batcher: DynamicBatcher[Any, Any] = DynamicBatcher(work.process_batch)

    futures: list[asyncio.Future[Any]] = []

    async def block() -> None:
        async with batcher:
            futures.append(await busy(batcher, work))
            raise LookupError

    with no_loop_errors():
        assert isinstance(await outcome(block), LookupError)
        assert (work.active, batcher.is_running) == (1, False)
        assert isinstance(futures[0].exception(), BatcherStoppedError)
        work.release()
        await batcher.stop()


# ---- from odd places ----


async def test_stop_from_inside_process_fn_only_begins_it() -> None:
    """Scenario 30."""

    async def work(batch: list[int]) -> list[int]:
        await batcher.stop()
        return batch

    batcher: DynamicBatcher[int, int] = DynamicBatcher(work, max_batch_size=2, batch_timeout_s=LONG)
    await batcher.start()
    futures = await batcher.submit_batch(range(5))
    assert await finished(*futures) == list(range(5))
    assert not batcher.is_running
    await batcher.stop()


async def test_stop_from_inside_a_sync_process_fn_only_begins_it() -> None:
    """Scenario 30."""

    def work(batch: list[int]) -> list[int]:
        asyncio.run(batcher.stop())
        return batch

    batcher: DynamicBatcher[int, int] = DynamicBatcher(work, max_batch_size=2, batch_timeout_s=LONG)
    await batcher.start()
    futures = await batcher.submit_batch(range(5))
    assert await finished(*futures) == list(range(5))
    assert not batcher.is_running
    await batcher.stop()


@both
async def test_stop_from_a_done_callback_returns(kind: type[Recorder]) -> None:
    """Scenario 30."""
    stops: list[asyncio.Task[None]] = []
    async with running(kind, max_batch_size=1) as (batcher, work):
        held = await busy(batcher, work)
        held.add_done_callback(lambda _: stops.append(asyncio.ensure_future(batcher.stop())))
        futures = await batcher.submit_batch(range(3))
        work.release()
        assert await finished(held, *futures) == ["held", 0, 1, 2]
        await asyncio.gather(*stops)
        assert not batcher.is_running


async def test_stop_and_start_from_inside_process_fn_go_on() -> None:
    """Scenario 30."""

    async def work(batch: list[int]) -> list[int]:
        if 0 in batch:
            await batcher.stop()
            await batcher.start()
        return batch

    batcher: DynamicBatcher[int, int] = DynamicBatcher(work, max_batch_size=1, batch_timeout_s=0)
    async with batcher:
        assert await finished(*await batcher.submit_batch(range(4))) == list(range(4))
        assert batcher.is_running
        assert await (await batcher.submit(4)) == 4


async def test_submit_from_inside_process_fn_is_refused_and_does_not_hang() -> None:
    """Trap 16."""
    errors: list[Any] = []

    async def work(batch: list[int]) -> list[int]:
        errors.append(await outcome(lambda: batcher.submit(2)))
        errors.append(await outcome(lambda: batcher.submit_batch([3])))
        return batch

    async with DynamicBatcher(work, batch_timeout_s=0) as batcher:
        assert await (await batcher.submit(1)) == 1
    assert [type(error) for error in errors] == [RuntimeError] * 2


@both
async def test_cancelled_callers_do_not_hold_up_a_stop(kind: type[Recorder]) -> None:
    """Trap 38."""
    async with running(kind, max_batch_size=1, max_queue_size=1, prefetch_batches=1) as (
        batcher,
        work,
    ):
        held = await busy(batcher, work)
        tasks = await fill(batcher, range(6))
        for task in tasks:
            task.result().cancel() if task.done() else task.cancel()
        (stopping,) = await waiting(batcher.stop())
        work.release()
        await stopping
        assert held.result() == "held"
        assert work.seen == [["held"]]


@pytest.mark.parametrize("has_worked", [False, True])
async def test_batcher_that_is_dropped_while_it_runs_is_collected(has_worked: bool) -> None:
    """Trap 40. Scenario 65."""

    class Model:
        batcher: Any = None

        async def infer(self, batch: list[int]) -> list[int]:
            return batch

    async def use() -> weakref.ref[Any]:
        model = Model()
        model.batcher = DynamicBatcher(model.infer, batch_timeout_s=0)
        await model.batcher.start()
        if has_worked:
            await (await model.batcher.submit(1))
        return weakref.ref(model.batcher)

    with no_loop_errors():
        reference = await use()
        await settle()
        gc.collect()
        await collected(reference)


async def test_no_timeout_is_waited_for_after_a_stop(clock: Clock) -> None:
    """Scenario 25."""
    async with running(batch_timeout_s=1) as (batcher, work):
        future = await batcher.submit(1)
        await batcher.stop()
        assert future.result() == 1
        await batcher.start()
        second = await batcher.submit(2)
        await settle()
        assert work.seen == [[1]]
        clock.advance(1.1)
        assert await second == 2
