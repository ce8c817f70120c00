"""The bounded queue of DynamicBatcher: submit() and submit_batch() that wait, and who gets in."""

from __future__ import annotations

import asyncio

import pytest
from dynamics import NARROW, ROOM, busy, fill, futures_of, running, waiting
from support import TIMEOUTS, Recorder, both, finished, outcome, settle

from async_batcher import QueueFullException


@both
async def test_submit_gives_the_future_of_the_result(kind: type[Recorder]) -> None:
    async with running(kind) as (batcher, _):
        future = await batcher.submit(1)
        assert isinstance(future, asyncio.Future)
        assert await future == 1


async def test_submit_returns_before_the_record_is_processed() -> None:
    async with running() as (batcher, work):
        held = await busy(batcher, work)
        future = await batcher.submit(1)
        assert not future.done()
        work.release()
        assert await finished(held, future) == ["held", 1]


@both
async def test_submit_waits_while_the_queue_is_full(kind: type[Recorder]) -> None:
    """Trap 30. Scenario 77."""
    async with running(kind, **NARROW) as (batcher, work):
        held = await busy(batcher, work)
        tasks = await fill(batcher, range(ROOM + 1))
        assert [task.done() for task in tasks] == [True] * ROOM + [False]
        work.release()
        await finished(held, *await futures_of(tasks))


@both
async def test_callers_enter_in_the_order_they_came(kind: type[Recorder]) -> None:
    """Trap 30."""
    async with running(kind, **NARROW) as (batcher, work):
        held = await busy(batcher, work)
        tasks = await fill(batcher, range(25))
        work.release()
        await finished(held, *await futures_of(tasks))
        assert work.items == ["held", *range(25)]


async def test_no_bound_lets_everybody_in() -> None:
    async with running(max_batch_size=1, max_queue_size=0, prefetch_batches=1) as (batcher, work):
        held = await busy(batcher, work)
        tasks = await fill(batcher, range(50))
        assert all(task.done() for task in tasks)
        work.release()
        await finished(held, *await futures_of(tasks))


async def test_record_that_nobody_waits_with_does_not_overtake_one_that_does() -> None:
    """Trap 30."""
    async with running(**NARROW) as (batcher, work):
        held = await busy(batcher, work)
        tasks = await fill(batcher, range(ROOM + 1))
        tasks[0].result().cancel()
        assert isinstance(await outcome(lambda: batcher.process("late")), QueueFullException)
        work.release()
        await finished(held, *await futures_of(tasks))
        assert work.items == ["held", *range(1, ROOM + 1)]


@both
async def test_cancelled_caller_never_enters(kind: type[Recorder]) -> None:
    """Trap 5. Scenario 23."""
    async with running(kind, **NARROW) as (batcher, work):
        held = await busy(batcher, work)
        tasks = await fill(batcher, range(ROOM + 1))
        tasks[-1].cancel()
        await asyncio.wait(tasks)
        assert tasks[-1].cancelled()
        work.release()
        await finished(held, *await futures_of(tasks[:-1]))
        assert work.items == ["held", *range(ROOM)]
        assert batcher.stats.total_submitted == ROOM + 1


@both
async def test_cancelled_caller_hands_its_place_on(kind: type[Recorder]) -> None:
    """Trap 5. Scenario 23."""
    async with running(kind, **NARROW) as (batcher, work):
        held = await busy(batcher, work)
        tasks = await fill(batcher, range(ROOM + 3))
        tasks[ROOM].cancel()
        tasks[0].result().cancel()
        await settle()
        assert [task.done() for task in tasks[ROOM:]] == [True, True, False]
        work.release()
        await finished(held, *await futures_of(tasks[:ROOM] + tasks[ROOM + 1 :]))
        assert work.items == ["held", *range(1, ROOM), *range(ROOM + 1, ROOM + 3)]


async def test_caller_cancelled_in_the_tick_that_lets_it_in_hands_its_place_on() -> None:
    """Trap 5. Trap 6. Scenario 23."""
    async with running(**NARROW) as (batcher, work):
        held = await busy(batcher, work)
        tasks = await fill(batcher, range(ROOM + 2))
        gone, stays = tasks[ROOM:]
        tasks[0].result().cancel()
        assert batcher.stats.total_submitted == ROOM + 2  # so it is noticed, and `gone` is in
        gone.cancel()
        await asyncio.wait([gone])
        assert gone.cancelled()
        future = await stays
        work.release()
        await finished(held, *await futures_of(tasks[:ROOM]), future)
        assert work.items == ["held", 1, 2, 3, ROOM + 1]


async def test_caller_that_runs_out_of_time_is_not_let_in() -> None:
    """Trap 4."""
    async with running(**NARROW) as (batcher, work):
        held = await busy(batcher, work)
        tasks = await fill(batcher, range(ROOM))
        with pytest.raises(TIMEOUTS):
            await asyncio.wait_for(batcher.submit("late"), 0.01)
        work.release()
        await finished(held, *await futures_of(tasks))
        assert "late" not in work.items


# ---- submit_batch ----


@both
async def test_submit_batch_gives_the_futures_in_order(kind: type[Recorder]) -> None:
    async with running(kind) as (batcher, _):
        futures = await batcher.submit_batch(["a", "b", "c"])
        assert [await future for future in futures] == ["a", "b", "c"]


async def test_submit_batch_of_nothing_gives_nothing() -> None:
    async with running() as (batcher, work):
        assert await batcher.submit_batch([]) == []
        assert work.seen == []


async def test_submit_batch_takes_any_iterable() -> None:
    async with running() as (batcher, _):
        futures = await batcher.submit_batch(number for number in range(3))
        assert await finished(*futures) == [0, 1, 2]


async def test_records_of_submit_batch_stay_as_they_were_at_the_call() -> None:
    """Trap 13."""
    async with running(**NARROW) as (batcher, work):
        held = await busy(batcher, work)
        records = list(range(8))
        (task,) = await waiting(batcher.submit_batch(records))
        records.clear()
        work.release()
        await finished(held)
        assert await finished(*await task) == list(range(8))


@both
async def test_submit_batch_larger_than_the_queue_waits_and_keeps_its_order(
    kind: type[Recorder],
) -> None:
    """Trap 30."""
    async with running(kind, **NARROW) as (batcher, work):
        held = await busy(batcher, work)
        (task,) = await waiting(batcher.submit_batch(range(20)))
        assert not task.done()
        work.release()
        await finished(held)
        assert await finished(*await task) == list(range(20))
        assert work.items == ["held", *range(20)]


async def test_two_that_submit_batches_at_once_each_keep_their_order() -> None:
    """Trap 24."""
    async with running(**NARROW) as (batcher, work):
        futures = await asyncio.gather(
            batcher.submit_batch([("a", number) for number in range(20)]),
            batcher.submit_batch([("b", number) for number in range(20)]),
        )
        await finished(*futures[0], *futures[1])
        for name in "ab":
            mine = [number for key, number in work.items if key == name]
            assert mine == list(range(20))


@both
async def test_cancelled_submit_batch_cancels_what_still_waits(kind: type[Recorder]) -> None:
    """Trap 5. Scenario 23."""
    async with running(kind, **NARROW) as (batcher, work):
        held = await busy(batcher, work)
        task, other = await waiting(batcher.submit_batch(range(20)), batcher.submit("other"))
        task.cancel()
        await asyncio.wait([task])
        future = await other
        work.release()
        assert await finished(held, future) == ["held", "other"]
        assert work.items == ["held", "other"]
