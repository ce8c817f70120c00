"""Batches of DynamicBatcher that are assembled ahead of their turn, beside the bounded queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from dynamics import busy, fill, futures_of, own, running, waiting
from support import LONG, AsyncRecorder, Recorder, both, finished, settle

if TYPE_CHECKING:
    from conftest import Clock


@both
@pytest.mark.parametrize("ahead", [1, 2, 3])
async def test_batches_ahead_and_the_one_that_is_assembled_leave_the_queue_to_the_rest(
    kind: type[Recorder], ahead: int
) -> None:
    """Trap 30."""
    async with running(kind, max_batch_size=2, max_queue_size=3, prefetch_batches=ahead) as (
        batcher,
        work,
    ):
        held = await busy(batcher, work)
        room = 2 * (ahead + 1) + 3
        tasks = await fill(batcher, range(room + 2))
        assert [task.done() for task in tasks] == [True] * room + [False] * 2
        work.release()
        await finished(held, *await futures_of(tasks))
        assert work.items == ["held", *range(room + 2)]


@both
async def test_stats_count_the_batches_ahead_up_to_their_number(kind: type[Recorder]) -> None:
    async with running(kind, max_batch_size=2, prefetch_batches=2) as (batcher, work):
        held = await busy(batcher, work)
        futures, counts = [], [batcher.stats.prefetched_batches]
        for record in range(7):
            futures.append(await batcher.submit(record))
            counts.append(batcher.stats.prefetched_batches)
        assert counts == [0, 1, 1, 2, 2, 2, 2, 2]
        work.release()
        await finished(held, *futures)
        assert batcher.stats.prefetched_batches == 0


async def test_budget_of_cost_closes_a_batch_ahead() -> None:
    async with running(target_batch_cost=10, cost_estimator=own, prefetch_batches=5) as (
        batcher,
        work,
    ):
        held = await busy(batcher, work)
        futures, counts = [], []
        for record in (6, 4, 1, 50, 0, 9):
            futures.append(await batcher.submit(record))
            counts.append(batcher.stats.prefetched_batches)
        assert counts == [1, 1, 2, 3, 4, 4]
        work.release()
        await finished(held, *futures)
        assert work.seen == [["held"], [6, 4], [1], [50], [0, 9]]


@both
async def test_batch_ahead_goes_on_growing_until_its_turn(
    kind: type[Recorder], clock: Clock
) -> None:
    """Trap 20."""
    async with running(kind, max_batch_size=3, batch_timeout_s=1) as (batcher, work):
        held = await busy(batcher, work)
        futures = [await batcher.submit("a")]
        clock.advance(2)
        await settle()
        futures.append(await batcher.submit("b"))
        assert batcher.stats.prefetched_batches == 1
        work.release()
        await finished(held, *futures)
        assert work.seen == [["held"], ["a", "b"]]


async def test_without_a_bound_all_are_ahead() -> None:
    async with running(max_batch_size=2, max_queue_size=1, prefetch_batches=0) as (batcher, work):
        held = await busy(batcher, work)
        tasks = await fill(batcher, range(20))
        assert all(task.done() for task in tasks)
        assert batcher.stats.prefetched_batches == 10
        work.release()
        await finished(held, *await futures_of(tasks))


async def test_nothing_is_ahead_while_no_batch_runs() -> None:
    async with running(max_queue_size=2, batch_timeout_s=LONG) as (batcher, _):
        tasks = await fill(batcher, range(3))
        assert [task.done() for task in tasks] == [True, True, False]
        assert batcher.stats.prefetched_batches == 0
        batcher.flush()
        await finished(*(await futures_of(tasks))[:2])


@pytest.mark.parametrize("place", range(8))
async def test_cancelled_record_makes_room_wherever_it_waits(place: int) -> None:
    """Trap 5. Trap 7."""
    async with running(max_batch_size=2, max_queue_size=2, prefetch_batches=2) as (batcher, work):
        held = await busy(batcher, work)
        tasks = await fill(batcher, range(10))
        assert [task.done() for task in tasks] == [True] * 8 + [False] * 2
        tasks[place].result().cancel()
        await settle()
        assert [task.done() for task in tasks] == [True] * 9 + [False]
        work.release()
        await finished(held, *await futures_of(tasks))
        left = [record for record in range(10) if record != place]
        assert work.items == ["held", *left]
        assert [len(batch) for batch in work.seen] == [1, 2, 2, 2, 2, 1]


async def test_batch_ahead_that_is_wholly_cancelled_is_never_sent() -> None:
    """Trap 3."""
    async with running(max_batch_size=2) as (batcher, work):
        held = await busy(batcher, work)
        futures = await batcher.submit_batch(range(6))
        for future in futures[2:4]:
            future.cancel()
        assert batcher.stats.prefetched_batches == 2
        work.release()
        await finished(held, *futures)
        assert work.seen == [["held"], [0, 1], [4, 5]]


async def test_turn_of_a_batch_ahead_admits_callers_who_wait_for_space() -> None:
    """Trap 30."""
    async with running(max_batch_size=1, max_queue_size=1, prefetch_batches=1) as (batcher, work):
        held = await busy(batcher, work)
        tasks = await fill(batcher, range(30))
        assert sum(task.done() for task in tasks) == 3
        work.release()
        await finished(held, *await futures_of(tasks))
        assert work.items == ["held", *range(30)]


async def test_batch_that_fails_lets_those_ahead_take_their_turn() -> None:
    def fail_first(batch: list[Any]) -> list[Any]:
        if batch == ["held"]:
            raise ValueError("first")
        return batch

    async with running(AsyncRecorder, fail_first, max_batch_size=2, max_queue_size=1) as (
        batcher,
        work,
    ):
        held = await busy(batcher, work)
        tasks = await waiting(batcher.submit_batch(range(12)))
        work.release()
        assert isinstance((await finished(held))[0], ValueError)
        assert await finished(*await tasks[0]) == list(range(12))
