"""BatchStats: every count to the last record, and times that follow the clock."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from dynamics import busy, fill, own, running, waiting
from support import LONG, AsyncRecorder, Recorder, SyncRecorder, both, finished, outcome

from async_batcher import BatchStats, DynamicBatcher

if TYPE_CHECKING:
    from conftest import Clock

FIELDS = [
    "total_submitted",
    "total_completed",
    "total_batches",
    "total_batch_cost",
    "avg_batch_size",
    "avg_batch_cost",
    "busy_time_s",
    "idle_time_s",
    "prefetched_batches",
]


def times(batcher: Any) -> tuple[float, float]:
    """Return the busy and the idle seconds."""
    stats = batcher.stats
    return stats.busy_time_s, stats.idle_time_s


def test_every_field_defaults_to_zero() -> None:
    stats = BatchStats()
    assert [field.name for field in dataclasses.fields(stats)] == FIELDS
    assert [getattr(stats, name) for name in FIELDS] == [0] * len(FIELDS)
    assert stats.utilization == 0.0


@pytest.mark.parametrize(("busy_s", "idle_s", "share"), [(3, 1, 0.75), (0, 1, 0), (1, 0, 1)])
def test_utilization_is_the_share_of_busy_time(busy_s: float, idle_s: float, share: float) -> None:
    assert BatchStats(busy_time_s=busy_s, idle_time_s=idle_s).utilization == share


def test_new_batcher_has_counted_nothing() -> None:
    assert DynamicBatcher(list).stats == BatchStats()


def test_snapshot_is_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DynamicBatcher(list).stats.total_batches = 1  # type: ignore[misc]


async def test_snapshot_stays_as_it_was() -> None:
    async with running() as (batcher, _):
        before = batcher.stats
        await (await batcher.submit(1))
        assert before.total_submitted == 0


@both
async def test_totals_and_averages_are_of_the_batches_that_went(kind: type[Recorder]) -> None:
    async with running(kind, max_batch_size=2, cost_estimator=own) as (batcher, work):
        held = await busy(batcher, work)
        futures = await batcher.submit_batch([10, 20, 30])
        work.release()
        await finished(held, *futures)
        stats = batcher.stats
        assert (stats.total_submitted, stats.total_completed) == (4, 4)
        assert (stats.total_batches, stats.total_batch_cost) == (3, 60)
        assert stats.avg_batch_size == pytest.approx(4 / 3)
        assert stats.avg_batch_cost == pytest.approx(20)


@both
async def test_counts_are_current_when_a_caller_resumes(kind: type[Recorder]) -> None:
    async with running(kind) as (batcher, _):
        for number in range(1, 20):
            await (await batcher.submit(number))
            assert batcher.stats.total_completed == number


@both
async def test_record_that_ended_with_an_error_is_completed(kind: type[Recorder]) -> None:
    def fail(batch: list[Any]) -> list[Any]:
        return [ValueError("first"), *batch[1:]]

    async with running(kind, fail) as (batcher, _):
        await finished(*await batcher.submit_batch(range(5)))
        assert batcher.stats.total_completed == 5


@both
async def test_record_of_a_failed_batch_is_completed(kind: type[Recorder]) -> None:
    def fail(batch: list[Any]) -> list[Any]:
        raise ValueError("all")

    async with running(kind, fail) as (batcher, _):
        await finished(*await batcher.submit_batch(range(5)))
        assert batcher.stats.total_completed == batcher.stats.total_submitted == 5


@both
async def test_cancelled_record_is_submitted_and_not_completed(kind: type[Recorder]) -> None:
    async with running(kind, cost_estimator=own) as (batcher, work):
        held = await busy(batcher, work)
        futures = await batcher.submit_batch([1, 2, 4])
        futures[1].cancel()
        held.cancel()
        work.release()
        await finished(held, *futures)
        await batcher.stop()
        stats = batcher.stats
        assert (stats.total_submitted, stats.total_completed) == (4, 2)
        assert (stats.total_batches, stats.total_batch_cost) == (2, 5)
        assert stats.avg_batch_size == pytest.approx(3 / 2)


@both
async def test_records_that_a_cancelled_stop_fails_are_completed(kind: type[Recorder]) -> None:
    """Trap 38."""
    async with running(kind, max_batch_size=1) as (batcher, work):
        futures = [await busy(batcher, work), *await batcher.submit_batch(range(3))]
        (stopping,) = await waiting(batcher.stop())
        stopping.cancel()
        await finished(*futures)
        work.release()
        await batcher.stop()
        assert (batcher.stats.total_submitted, batcher.stats.total_completed) == (4, 4)


async def test_record_that_never_got_in_is_not_submitted() -> None:
    """Trap 31."""
    async with running(max_batch_size=1, max_queue_size=1, prefetch_batches=1) as (batcher, work):
        held = await busy(batcher, work)
        tasks = await fill(batcher, range(4))
        assert batcher.stats.total_submitted == 4
        tasks[-1].cancel()
        await asyncio.wait(tasks)
        work.release()
        await finished(held, *[task.result() for task in tasks[:-1]])
        assert batcher.stats.total_submitted == 4


@both
async def test_counts_go_on_over_all_runs(kind: type[Recorder]) -> None:
    async with running(kind, max_batch_size=2, batch_timeout_s=LONG) as (batcher, _):
        for _ in range(3):
            await finished(*await batcher.submit_batch(range(2)))
            await batcher.stop()
            await batcher.start()
        stats = batcher.stats
        assert (stats.total_submitted, stats.total_completed, stats.total_batches) == (6, 6, 3)


# ---- times ----


@both
async def test_times_and_utilization_follow_a_known_schedule(
    kind: type[Recorder], clock: Clock
) -> None:
    async with running(kind, batch_timeout_s=LONG) as (batcher, work):
        for _ in range(3):
            clock.advance(1)
            held = await busy(batcher, work)
            clock.advance(3)
            work.release()
            await held
        assert times(batcher) == pytest.approx((9, 3))
        assert batcher.stats.utilization == pytest.approx(0.75)


@both
async def test_busy_period_in_progress_counts(kind: type[Recorder], clock: Clock) -> None:
    async with running(kind) as (batcher, work):
        held = await busy(batcher, work)
        clock.advance(2)
        assert times(batcher) == pytest.approx((2, 0))
        clock.advance(3)
        assert times(batcher) == pytest.approx((5, 0))
        work.release()
        await held


async def test_idle_period_in_progress_counts(clock: Clock) -> None:
    async with running() as (batcher, _):
        clock.advance(2)
        assert times(batcher) == pytest.approx((0, 2))
        clock.advance(3)
        assert times(batcher) == pytest.approx((0, 5))


async def test_records_that_wait_for_their_timeout_leave_it_idle(clock: Clock) -> None:
    async with running(batch_timeout_s=LONG) as (batcher, _):
        await batcher.submit(1)
        clock.advance(2)
        assert times(batcher) == pytest.approx((0, 2))


async def test_no_time_passes_before_the_first_start(clock: Clock) -> None:
    batcher: DynamicBatcher[Any, Any] = DynamicBatcher(list)
    clock.advance(5)
    assert times(batcher) == (0, 0)
    await batcher.start()
    assert times(batcher) == (0, 0)
    clock.advance(1)
    await batcher.stop()
    assert times(batcher) == pytest.approx((0, 1))


@both
async def test_no_time_passes_while_it_is_stopped(kind: type[Recorder], clock: Clock) -> None:
    async with running(kind) as (batcher, work):
        held = await busy(batcher, work)
        clock.advance(3)
        work.release()
        await held
        clock.advance(1)
        await batcher.stop()
        clock.advance(100)
        assert times(batcher) == pytest.approx((3, 1))
        await batcher.start()
        clock.advance(1)
        assert times(batcher) == pytest.approx((3, 2))


async def test_refused_calls_do_not_start_the_account(clock: Clock) -> None:
    async with running() as (batcher, _):
        await batcher.stop()
        await outcome(lambda: batcher.submit(1))
        await finished(batcher.process(1), batcher.process_many([1]))
        clock.advance(100)
        assert times(batcher) == (0, 0)


@both
async def test_no_time_passes_after_a_block_that_raised(kind: type[Recorder], clock: Clock) -> None:
    """Trap 39."""
    work = kind()
    batcher: DynamicBatcher[Any, Any] = DynamicBatcher(work.process_batch)

    async def block() -> None:
        async with batcher:
            await busy(batcher, work)
            clock.advance(2)
            raise LookupError

    assert isinstance(await outcome(block), LookupError)
    work.release()
    async with batcher:
        pass  # which drains: the batch that was given up has ended
    clock.advance(100)
    assert times(batcher) == pytest.approx((2, 0))


async def test_time_of_a_drain_is_busy(clock: Clock) -> None:
    async with running(AsyncRecorder, max_batch_size=1) as (batcher, work):
        await busy(batcher, work)
        await batcher.submit("queued")
        (stopping,) = await waiting(batcher.stop())
        clock.advance(2)
        work.release()
        await stopping
        clock.advance(100)
        assert times(batcher) == pytest.approx((2, 0))


async def test_batch_that_outlives_a_cancelled_stop_is_busy_until_it_ends(clock: Clock) -> None:
    """Scenario 27."""
    async with running(SyncRecorder) as (batcher, work):
        held = await busy(batcher, work)
        (stopping,) = await waiting(batcher.stop())
        stopping.cancel()
        await finished(held)
        await asyncio.wait([stopping])
        clock.advance(2)
        assert times(batcher) == pytest.approx((2, 0))
        work.release()
        async with batcher:
            pass  # which drains: that batch has ended
        clock.advance(100)
        assert times(batcher) == pytest.approx((2, 0))
