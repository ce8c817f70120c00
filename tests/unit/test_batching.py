"""How items become batches: windows, sizes, order, permits, `flush` and `idle`."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import pytest
from support import LONG, AsyncRecorder, Recorder, SyncRecorder, both, finished, settle

from async_batcher import AsyncBatcher

if TYPE_CHECKING:
    from conftest import Clock


@both
async def test_full_batch_goes_before_its_window(kind: type[Recorder]) -> None:
    """Trap 18."""
    async with kind(max_batch_size=3, max_queue_time=LONG) as batcher:
        assert await finished(*map(batcher.process, range(3))) == [0, 1, 2]
        assert batcher.seen == [[0, 1, 2]]


async def test_batch_waits_for_its_window(clock: Clock) -> None:
    """Scenario 81."""
    async with AsyncRecorder(max_queue_time=0.5) as batcher:
        future = batcher.process(1)
        clock.advance(0.499)
        await settle()
        assert batcher.seen == []
        clock.advance(0.002)
        assert await future == 1


@both
async def test_window_runs_from_the_oldest_item(kind: type[Recorder], clock: Clock) -> None:
    """Scenario 81. Trap 18."""
    async with kind(max_queue_time=0.5) as batcher:
        first = batcher.process(1)
        clock.advance(0.45)
        second = batcher.process(2)
        await settle()
        assert batcher.seen == []
        clock.advance(0.06)
        assert await finished(first, second) == [1, 2]
        assert batcher.seen == [[1, 2]]


async def test_window_of_a_new_item_is_a_whole_one(clock: Clock) -> None:
    """Scenario 81."""
    async with AsyncRecorder(max_queue_time=1) as batcher:
        first = batcher.process(1)
        clock.advance(1.1)
        assert await first == 1
        second = batcher.process(2)
        clock.advance(0.9)
        await settle()
        assert batcher.seen == [[1]]
        clock.advance(0.2)
        assert await second == 2


async def test_window_restarts_from_the_oldest_that_still_waits(clock: Clock) -> None:
    """Trap 7."""
    async with AsyncRecorder(max_queue_time=1) as batcher:
        first = batcher.process(1)
        clock.advance(0.6)
        second = batcher.process(2)
        first.cancel()
        assert batcher.stats.queued == 1
        clock.advance(0.5)
        await settle()
        assert batcher.seen == []
        clock.advance(0.6)
        assert await second == 2
        assert batcher.seen == [[2]]


@pytest.mark.parametrize("window", [0.0001, 0.005, 2**31])
async def test_window_of_any_length_keeps_its_edge(clock: Clock, window: float) -> None:
    """Scenario 81."""
    async with AsyncRecorder(max_queue_time=window) as batcher:
        future = batcher.process(1)
        clock.advance(window * 0.9)
        await settle()
        assert batcher.seen == []
        clock.advance(window * 0.2)
        assert await future == 1


async def test_window_passes_by_the_real_clock() -> None:
    """Scenario 81."""
    async with AsyncRecorder(max_queue_time=0.005) as batcher:
        assert await batcher.process(1) == 1


@both
async def test_zero_window_takes_all_items_of_the_loop_iteration(kind: type[Recorder]) -> None:
    """Trap 19. Scenario 81."""
    async with kind(max_queue_time=0, max_batch_size=64) as batcher:
        await finished(*map(batcher.process, range(50)))
        if kind is SyncRecorder:  # its worker need not wait for the loop
            assert [item for batch in batcher.seen for item in batch] == list(range(50))
        else:
            assert batcher.seen == [list(range(50))]


async def test_zero_window_needs_no_clock(clock: Clock) -> None:
    """Scenario 81."""
    async with AsyncRecorder(max_queue_time=0) as batcher:
        assert await batcher.process(1) == 1


@both
async def test_items_gather_while_no_permit_is_free(kind: type[Recorder]) -> None:
    """Trap 20."""
    async with kind(max_queue_time=0, max_batch_size=64) as batcher:
        held = await batcher.busy()
        rest = []
        for item in range(40):
            rest.append(batcher.process(item))
            await asyncio.sleep(0)
        batcher.release()
        await finished(held, *rest)
        assert batcher.seen == [["held"], list(range(40))]


async def test_items_gather_beyond_their_window_while_no_permit_is_free(clock: Clock) -> None:
    """Trap 20."""
    async with AsyncRecorder(max_queue_time=0.01, max_batch_size=64) as batcher:
        held = await batcher.busy()
        rest = []
        for item in range(40):
            rest.append(batcher.process(item))
            clock.advance(0.02)
            await asyncio.sleep(0)
        batcher.release()
        await finished(held, *rest)
        assert batcher.seen == [["held"], list(range(40))]


@both
@pytest.mark.parametrize("size", [1, 2, 7])
async def test_batch_is_never_larger_than_its_limit(kind: type[Recorder], size: int) -> None:
    """Trap 28."""
    async with kind(max_batch_size=size, max_queue_time=0) as batcher:
        assert await batcher.process_many(range(20)) == list(range(20))
        assert [len(batch) for batch in batcher.seen[:-1]] == [size] * (math.ceil(20 / size) - 1)
        assert len(batcher.seen[-1]) <= size


@both
async def test_items_go_in_the_order_they_came(kind: type[Recorder]) -> None:
    """Trap 24."""
    async with kind(max_batch_size=3, max_queue_time=0) as batcher:
        futures = [batcher.process(item) for item in range(4)]
        futures.append(asyncio.ensure_future(batcher.process_many(range(4, 9))))
        futures += [batcher.process(item) for item in range(9, 20)]
        await finished(*futures)
        assert batcher.items == list(range(20))


@both
@pytest.mark.parametrize("concurrency", [1, 3])
async def test_no_more_batches_run_than_permits(kind: type[Recorder], concurrency: int) -> None:
    """Scenario 83."""
    async with kind(max_batch_size=1, max_queue_time=0, concurrency=concurrency) as batcher:
        batcher.hold()
        many = batcher.process_many(range(10))
        await batcher.begun(concurrency)
        await settle()
        assert batcher.stats.running == len(batcher.seen) == concurrency
        batcher.release()
        await many
        assert batcher.peak <= concurrency


async def test_unlimited_concurrency_runs_every_batch_at_once() -> None:
    """Scenario 83."""
    async with AsyncRecorder(max_batch_size=1, max_queue_time=0, concurrency=-1) as batcher:
        batcher.hold()
        many = batcher.process_many(range(100))
        await batcher.begun(100)
        assert batcher.active == 100
        batcher.release()
        assert await many == list(range(100))


@both
async def test_permits_of_sync_and_async_batches_run_side_by_side(kind: type[Recorder]) -> None:
    """Scenario 83."""
    async with kind(max_batch_size=1, max_queue_time=0, concurrency=2) as batcher:
        batcher.hold()
        futures = [batcher.process(item) for item in range(2)]
        await batcher.begun(2)
        assert batcher.active == 2
        batcher.release()
        assert await finished(*futures) == [0, 1]


@both
async def test_flush_sends_what_is_queued(kind: type[Recorder]) -> None:
    """Trap 20."""
    async with kind(max_queue_time=LONG) as batcher:
        futures = [batcher.process(item) for item in range(3)]
        batcher.flush()
        assert await finished(*futures) == [0, 1, 2]
        assert batcher.seen == [[0, 1, 2]]


async def test_flush_leaves_later_items_their_window(clock: Clock) -> None:
    """Trap 20."""
    async with AsyncRecorder(max_queue_time=1) as batcher:
        first = batcher.process(1)
        batcher.flush()
        assert await first == 1
        second = batcher.process(2)
        await settle()
        assert batcher.seen == [[1]]
        clock.advance(1.1)
        assert await second == 2


@both
async def test_flush_of_an_empty_queue_does_nothing(kind: type[Recorder]) -> None:
    """Scenario 29."""
    async with kind() as batcher:
        assert batcher.flush() is None
        await settle()
        assert batcher.seen == []


@both
async def test_idle_returns_when_nothing_is_queued_or_running(kind: type[Recorder]) -> None:
    """Scenario 25."""
    async with kind(max_queue_time=0) as batcher:
        held = await batcher.busy()
        queued = batcher.process(1)
        idle = asyncio.create_task(batcher.idle())
        await settle()
        assert not idle.done()
        batcher.release()
        await idle
        assert held.done()
        assert queued.done()
        assert (batcher.stats.queued, batcher.stats.running) == (0, 0)


@both
async def test_idle_of_an_unused_batcher_returns(kind: type[Recorder]) -> None:
    """Scenario 29."""
    await kind().idle()


async def test_idle_does_not_hurry_a_window(clock: Clock) -> None:
    """Scenario 81."""
    async with AsyncRecorder(max_queue_time=1) as batcher:
        future = batcher.process(1)
        idle = asyncio.create_task(batcher.idle())
        await settle()
        assert not idle.done()
        clock.advance(1.1)
        await idle
        assert future.done()


async def test_cancelled_idle_hurts_nobody() -> None:
    """Scenario 18."""
    async with AsyncRecorder(max_queue_time=0) as batcher:
        held = await batcher.busy()
        idle = asyncio.create_task(batcher.idle())
        await settle()
        idle.cancel()
        await asyncio.wait([idle])
        batcher.release()
        assert await held == "held"


async def test_two_batchers_keep_their_windows_apart(clock: Clock) -> None:
    """Scenario 81."""
    async with AsyncRecorder(max_queue_time=1) as early, AsyncRecorder(max_queue_time=2) as late:
        last = late.process("late")
        first = early.process("early")
        clock.advance(1.1)
        assert await first == "early"
        await settle()
        assert not last.done()
        clock.advance(1)
        assert await last == "late"


async def test_many_batchers_share_the_aggregation_thread(clock: Clock) -> None:
    """Scenario 45."""
    batchers = [AsyncRecorder(max_queue_time=1 + index / 100) for index in range(200)]
    futures = [batcher.process(index) for index, batcher in enumerate(batchers)]
    clock.advance(4)
    assert await finished(*futures) == list(range(200))
    for batcher in batchers:
        await batcher.stop()


async def test_process_batch_may_be_overridden_in_a_subclass_of_a_subclass() -> None:
    """Scenario 12."""

    class Loud(AsyncRecorder):
        async def process_batch(self, batch: list[str]) -> list[str]:
            return [item.upper() for item in await super().process_batch(batch)]

    async with Loud(max_queue_time=0) as batcher:
        assert isinstance(batcher, AsyncBatcher)
        assert await batcher.process("a") == "A"
