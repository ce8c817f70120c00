"""`stats`: what is counted, when it is current, and that a snapshot stays as it was."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from support import LONG, AsyncRecorder, Recorder, both, finished, outcome, settle

from async_batcher import BatcherStoppedError

if TYPE_CHECKING:
    from conftest import Clock

COUNTS = ("submitted", "completed", "failed", "cancelled", "rejected", "batches", "queued")


@both
async def test_new_batcher_counts_zero(kind: type[Recorder]) -> None:
    stats = kind().stats
    assert [getattr(stats, name) for name in (*COUNTS, "running", "total_cost")] == [0] * 9


@both
async def test_counts_are_current_when_a_waiter_resumes(kind: type[Recorder]) -> None:
    """Scenario 25."""
    async with kind(max_batch_size=3, max_queue_time=LONG) as batcher:
        others = [batcher.process(item) for item in range(2)]
        await batcher.process(2)
        stats = batcher.stats
        assert (stats.submitted, stats.completed, stats.batches) == (3, 3, 1)
        assert (stats.queued, stats.running) == (0, 0)
        await finished(*others)


@both
async def test_failures_are_counted_apart(kind: type[Recorder]) -> None:
    """Scenario 6."""

    def fail_one(batch: list[Any]) -> list[Any]:
        return [ValueError("one"), *batch[1:]]

    async with kind(fail_one, max_queue_time=0) as batcher:
        await batcher.process_many(range(3), return_exceptions=True)
        assert (batcher.stats.completed, batcher.stats.failed) == (2, 1)


@both
async def test_every_item_of_a_failed_batch_is_a_failure(kind: type[Recorder]) -> None:
    """Scenario 7."""

    def refuse(batch: list[Any]) -> Any:
        raise LookupError("all")

    async with kind(refuse, max_queue_time=0) as batcher:
        await batcher.process_many(range(3), return_exceptions=True)
        stats = batcher.stats
        assert (stats.completed, stats.failed, stats.batches) == (0, 3, 1)


@both
async def test_cancelled_items_are_counted(kind: type[Recorder]) -> None:
    """Scenario 15."""
    async with kind(max_queue_time=0) as batcher:
        held = await batcher.busy()
        for item in range(3):
            batcher.process(item).cancel()
        stats = batcher.stats
        assert (stats.submitted, stats.cancelled, stats.queued) == (4, 3, 0)
        batcher.release()
        await held


@both
async def test_queued_and_running_tell_the_moment(kind: type[Recorder]) -> None:
    """Scenario 83."""
    async with kind(max_queue_time=0) as batcher:
        held = await batcher.busy()
        queued = [batcher.process(item) for item in range(4)]
        assert (batcher.stats.queued, batcher.stats.running) == (4, 1)
        batcher.release()
        await finished(held, *queued)


@both
async def test_every_accepted_item_ends_in_exactly_one_count(kind: type[Recorder]) -> None:
    """Scenario 20. Guarantee 1."""

    def fail_odd(batch: list[int]) -> list[Any]:
        return [ValueError(item) if item % 2 else item for item in batch]

    async with kind(fail_odd, max_batch_size=5, max_queue_time=0) as batcher:
        futures = [batcher.process(item) for item in range(60)]
        for future in futures[::7]:
            future.cancel()
        await asyncio.wait(futures)
        await batcher.idle()
        stats = batcher.stats
        assert stats.submitted == 60
        assert stats.completed + stats.failed + stats.cancelled == 60
        assert stats.cancelled == len(futures[::7])


async def test_means_and_costs_are_of_the_batches_that_went() -> None:
    """Trap 21."""
    async with AsyncRecorder(cost=lambda item: item, max_batch_size=2, max_queue_time=0) as batcher:
        await batcher.process_many([10, 20, 30, 40, 50])
        stats = batcher.stats
        assert (stats.batches, stats.total_cost) == (3, 150)
        assert stats.mean_batch_size == pytest.approx(5 / 3)
        assert stats.mean_batch_cost == pytest.approx(50)


async def test_busy_and_idle_times_follow_the_clock(clock: Clock) -> None:
    """Scenario 83."""
    async with AsyncRecorder(max_queue_time=0) as batcher:
        before = batcher.stats
        held = await batcher.busy()
        clock.advance(3)
        batcher.release()
        await held
        clock.advance(1)
        await batcher.process(1)
        after = batcher.stats
        assert after.busy_s - before.busy_s == pytest.approx(3)
        assert after.idle_s - before.idle_s == pytest.approx(1)
        assert 0 <= after.utilization <= 1


@both
async def test_queue_wait_is_how_long_each_item_waited(kind: type[Recorder], clock: Clock) -> None:
    """Scenario 83."""
    async with kind(max_queue_time=LONG) as batcher:
        futures = [batcher.process(item) for item in range(2)]
        clock.advance(2)
        futures.append(batcher.process(2))
        clock.advance(1)
        batcher.flush()
        await finished(*futures)
        waits = batcher.stats.queue_wait
        assert (waits.count, waits.sum) == (3, pytest.approx(7))
        # The upper edges of the buckets, in seconds: below 2**20 us are 1 s, below 2**22 are 3.
        edges = [waits.quantile(q) for q in (0, 0.5, 1)]
        assert edges == [pytest.approx(2**k / 1e6) for k in (20, 22, 22)]


@both
async def test_batch_time_is_how_long_each_batch_ran(kind: type[Recorder], clock: Clock) -> None:
    """Scenario 83."""
    async with kind(max_queue_time=0, concurrency=2, max_batch_size=1) as batcher:
        batcher.hold()
        futures = [batcher.process(0)]
        await batcher.begun(1)
        clock.advance(4)
        futures.append(batcher.process(1))
        await batcher.begun(2)
        clock.advance(1)
        batcher.release()
        await finished(*futures)
        await batcher.idle()
        times = batcher.stats.batch_time
        assert (times.count, times.sum) == (2, pytest.approx(6))
        assert [times.quantile(q) for q in (0.5, 1)] == [2**20 / 1e6, 2**23 / 1e6]


@pytest.mark.parametrize("name", ["queue_wait", "batch_time"])
def test_new_batcher_has_measured_nothing(name: str) -> None:
    times = getattr(AsyncRecorder().stats, name)
    assert (times.count, times.sum, times.mean, times.quantile(0.5)) == (0, 0, 0, 0)


async def reasons_after(batcher: AsyncRecorder, *futures: asyncio.Future[Any]) -> dict[str, int]:
    """Wait for `futures`; return the reasons that counted."""
    await finished(*futures)
    return {name: count for name, count in dict(batcher.stats.reasons).items() if count}


async def test_reason_full_is_counted() -> None:
    async with AsyncRecorder(max_batch_size=2, max_queue_time=LONG) as batcher:
        futures = [batcher.process(item) for item in range(2)]
        assert await reasons_after(batcher, *futures) == {"full": 1}


async def test_reason_cost_is_counted() -> None:
    async with AsyncRecorder(
        cost=lambda item: 5, max_batch_cost=10, max_queue_time=LONG
    ) as batcher:
        futures = [batcher.process(item) for item in range(2)]
        assert await reasons_after(batcher, *futures) == {"cost": 1}


async def test_reason_window_is_counted(clock: Clock) -> None:
    async with AsyncRecorder(max_queue_time=1) as batcher:
        future = batcher.process(1)
        clock.advance(1.1)
        assert await reasons_after(batcher, future) == {"window": 1}


async def test_reason_idle_is_counted() -> None:
    async with AsyncRecorder(max_queue_time=0) as batcher:
        assert await reasons_after(batcher, batcher.process(1)) == {"idle": 1}


async def test_reason_flush_is_counted() -> None:
    async with AsyncRecorder(max_queue_time=LONG) as batcher:
        future = batcher.process(1)
        batcher.flush()
        assert await reasons_after(batcher, future) == {"flush": 1}


async def test_reason_drain_is_counted() -> None:
    batcher = AsyncRecorder(max_queue_time=LONG)
    future = batcher.process(1)
    await batcher.stop()
    assert await reasons_after(batcher, future) == {"drain": 1}


@both
async def test_reasons_add_up_to_the_batches(kind: type[Recorder]) -> None:
    async with kind(max_batch_size=4, max_queue_time=0.001) as batcher:
        await asyncio.gather(batcher.process_many(range(50)), batcher.process("x"))
        await batcher.process("y")
        stats = batcher.stats
        assert sum(dict(stats.reasons).values()) == stats.batches


async def test_snapshot_stays_as_it_was() -> None:
    async with AsyncRecorder(max_queue_time=0) as batcher:
        before = batcher.stats
        await batcher.process(1)
        await settle()
        assert (before.submitted, before.completed) == (0, 0)


@pytest.mark.parametrize("name", [*COUNTS, "busy_s", "utilization"])
def test_snapshot_is_immutable(name: str) -> None:
    stats = AsyncRecorder().stats
    with pytest.raises((AttributeError, TypeError)):
        setattr(stats, name, 7)


def test_stats_cannot_be_assigned() -> None:
    batcher = AsyncRecorder()
    with pytest.raises(AttributeError):
        batcher.stats = None


async def test_stopped_batcher_still_tells_its_counts() -> None:
    """Scenario 25."""
    async with AsyncRecorder(max_queue_time=0) as batcher:
        await batcher.process(1)
        await outcome(batcher.stop)
    assert (batcher.stats.completed, batcher.stats.queued, batcher.stats.running) == (1, 0, 0)


@both
async def test_caller_that_waits_for_space_and_is_refused_by_stop_is_rejected(
    kind: type[Recorder],
) -> None:
    """Scenario 26."""
    async with kind(max_queue_time=LONG, max_queue_size=1) as batcher:
        queued = batcher.process(1)
        waiting = asyncio.create_task(batcher.submit(2))
        await settle()
        await batcher.stop(force=True)
        await finished(queued, waiting)
        assert isinstance(waiting.exception(), BatcherStoppedError)
        assert (batcher.stats.submitted, batcher.stats.rejected) == (1, 1)
