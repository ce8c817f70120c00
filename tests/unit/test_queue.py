"""The bounded queue: refusal, waiting for space in turn, and the places of those who leave."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from support import (
    LONG,
    PATIENCE,
    AsyncRecorder,
    Recorder,
    SyncRecorder,
    both,
    finished,
    outcome,
    settle,
)

from async_batcher import QueueFullException


async def full(batcher: Recorder, size: int) -> list[asyncio.Future[object]]:
    """Make one held batch run and fill the queue of `size` places behind it."""
    return [await batcher.busy(), *(batcher.process(item) for item in range(size))]


@both
async def test_full_queue_gives_a_failed_future_at_once(kind: type[Recorder]) -> None:
    """Trap 30. Scenario 77."""
    async with kind(max_queue_size=2, max_queue_time=0) as batcher:
        accepted = await full(batcher, 2)
        refused = batcher.process("refused")
        assert refused.done()
        assert isinstance(refused.exception(), QueueFullException)
        batcher.release()
        assert await finished(*accepted) == ["held", 0, 1]


@both
async def test_full_queue_raises_from_call(kind: type[Recorder]) -> None:
    """Trap 30."""
    async with kind(max_queue_size=1, max_queue_time=0) as batcher:
        accepted = await full(batcher, 1)
        with pytest.raises(asyncio.QueueFull):
            await batcher.call("refused")
        batcher.release()
        await finished(*accepted)


async def test_queue_admits_exactly_its_size_within_one_loop_iteration() -> None:
    """Trap 30."""
    async with AsyncRecorder(max_queue_size=3, max_queue_time=LONG) as batcher:
        futures = [batcher.process(item) for item in range(5)]
        assert [future.done() for future in futures] == [False] * 3 + [True] * 2
        for future in futures[3:]:
            assert isinstance(future.exception(), QueueFullException)
        batcher.flush()
        assert await finished(*futures[:3]) == [0, 1, 2]


async def test_running_items_take_no_place_in_the_queue() -> None:
    """Trap 30."""
    async with AsyncRecorder(max_queue_size=1, max_queue_time=0, concurrency=2) as batcher:
        held = await batcher.busy()
        other = batcher.process(1)
        await batcher.begun(2)
        queued = batcher.process(2)
        batcher.release()
        assert await finished(held, other, queued) == ["held", 1, 2]


async def test_refused_item_leaves_the_other_counts_alone() -> None:
    """Trap 31."""
    async with AsyncRecorder(max_queue_size=1, max_queue_time=0) as batcher:
        accepted = await full(batcher, 1)
        before = batcher.stats
        await outcome(lambda: batcher.process("refused"))
        after = batcher.stats
        assert after.rejected == before.rejected + 1
        names = ("submitted", "completed", "failed", "cancelled", "batches", "queued", "running")
        assert [getattr(after, name) for name in names] == [getattr(before, name) for name in names]
        batcher.release()
        await finished(*accepted)


@both
async def test_refused_item_is_never_sent(kind: type[Recorder]) -> None:
    """Trap 31."""
    async with kind(max_queue_size=1, max_queue_time=0) as batcher:
        accepted = await full(batcher, 1)
        await outcome(lambda: batcher.process("refused"))
        batcher.release()
        await finished(*accepted)
        await batcher.idle()
        assert "refused" not in batcher.items


@both
async def test_submit_to_a_queue_with_space_returns_the_future(kind: type[Recorder]) -> None:
    """Trap 30."""
    async with kind(max_queue_time=0) as batcher:
        future = await batcher.submit(1)
        assert isinstance(future, asyncio.Future)
        assert await future == 1


@both
async def test_submit_waits_for_space(kind: type[Recorder]) -> None:
    """Trap 30. Scenario 77."""
    async with kind(max_queue_size=1, max_queue_time=0) as batcher:
        accepted = await full(batcher, 1)
        waiting = asyncio.create_task(batcher.submit("late"))
        await settle()
        assert not waiting.done()
        batcher.release()
        assert await (await waiting) == "late"
        await finished(*accepted)


@both
async def test_submitters_enter_in_the_order_they_came(kind: type[Recorder]) -> None:
    """Trap 30."""
    async with kind(max_queue_size=2, max_batch_size=1, max_queue_time=0) as batcher:
        accepted = await full(batcher, 2)
        waiting = [asyncio.create_task(batcher.submit(item)) for item in range(2, 20)]
        await settle()
        batcher.release()
        await finished(*accepted, *[await task for task in waiting])
        assert batcher.items == ["held", *range(20)]


async def test_process_does_not_overtake_a_waiting_submitter() -> None:
    """Trap 30."""
    async with AsyncRecorder(max_queue_size=1, max_queue_time=0) as batcher:
        held, queued = await full(batcher, 1)
        waiting = asyncio.create_task(batcher.submit("first"))
        await settle()
        queued.cancel()
        assert isinstance(await outcome(lambda: batcher.process("second")), QueueFullException)
        admitted = await waiting
        batcher.release()
        assert await finished(held, admitted) == ["held", "first"]
        assert batcher.seen == [["held"], ["first"]]


async def test_cancelled_queued_item_frees_its_place_for_process() -> None:
    """Trap 3. Scenario 15."""
    async with AsyncRecorder(max_queue_size=1, max_queue_time=0) as batcher:
        held, queued = await full(batcher, 1)
        queued.cancel()
        other = batcher.process("other")
        assert not other.done()
        batcher.release()
        assert await finished(held, other) == ["held", "other"]


async def test_cancelled_queued_item_frees_its_place_for_a_submitter() -> None:
    """Trap 5. Scenario 23."""
    async with AsyncRecorder(max_queue_size=1, max_queue_time=0) as batcher:
        held, queued = await full(batcher, 1)
        waiting = asyncio.create_task(batcher.submit("next"))
        await settle()
        queued.cancel()
        admitted = await waiting
        batcher.release()
        assert await finished(held, admitted) == ["held", "next"]


@both
async def test_cancelled_submitter_never_enters(kind: type[Recorder]) -> None:
    """Trap 5. Scenario 23."""
    async with kind(max_queue_size=1, max_queue_time=0) as batcher:
        accepted = await full(batcher, 1)
        waiting = asyncio.create_task(batcher.submit("gone"))
        await settle()
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        batcher.release()
        await finished(*accepted)
        await batcher.idle()
        assert "gone" not in batcher.items


@both
async def test_place_of_a_cancelled_submitter_goes_to_the_next(kind: type[Recorder]) -> None:
    """Trap 5. Scenario 23."""
    async with kind(max_queue_size=1, max_queue_time=0) as batcher:
        accepted = await full(batcher, 1)
        gone, stays = (asyncio.create_task(batcher.submit(name)) for name in ("gone", "stays"))
        await settle()
        gone.cancel()
        batcher.release()
        assert await (await stays) == "stays"
        await finished(*accepted)


async def test_submitter_cancelled_in_the_tick_that_frees_its_place_passes_it_on() -> None:
    """Trap 5. Scenario 23."""
    async with AsyncRecorder(max_queue_size=1, max_queue_time=0) as batcher:
        held, queued = await full(batcher, 1)
        gone, stays = (asyncio.create_task(batcher.submit(name)) for name in ("gone", "stays"))
        await settle()
        queued.cancel()
        gone.cancel()
        admitted = await stays
        batcher.release()
        assert await finished(held, admitted) == ["held", "stays"]
        assert batcher.seen == [["held"], ["stays"]]


async def test_producers_are_held_back_without_losing_an_item() -> None:
    """Scenario 77."""
    async with AsyncRecorder(max_queue_size=5, max_batch_size=3, max_queue_time=0) as batcher:

        async def produce(first: int) -> list[int]:
            return [await (await batcher.submit(first + step)) for step in range(20)]

        produced = await asyncio.gather(*(produce(100 * number) for number in range(30)))
        assert produced == [[100 * n + step for step in range(20)] for n in range(30)]
        assert sorted(batcher.items) == sorted(item for items in produced for item in items)


async def test_overload_is_refused_and_leaves_the_batcher_normal() -> None:
    """Scenario 77."""
    async with AsyncRecorder(max_queue_size=100, max_batch_size=10, max_queue_time=0) as batcher:
        futures = [batcher.process(item) for item in range(1000)]
        results = await finished(*futures)
        assert results[:100] == list(range(100))
        assert {type(result) for result in results[100:]} == {QueueFullException}
        assert await batcher.process("normal") == "normal"
        assert batcher.stats.rejected == 900


async def test_submit_inside_the_only_batch_is_an_error_and_not_a_deadlock() -> None:
    """Scenario 30."""

    class Nested(AsyncRecorder):
        async def process_batch(self, batch: list[Any]) -> Any:
            if batch == ["outer"]:
                return [await (await self.submit("inner"))]
            return batch

    async with Nested(max_queue_time=0, concurrency=1) as batcher:
        with pytest.raises(RuntimeError):
            await batcher.process("outer")
        assert await batcher.process("next") == "next"


async def test_wait_for_space_inside_the_only_batch_is_an_error_and_not_a_deadlock() -> None:
    """Scenario 30."""

    class Nested(AsyncRecorder):
        async def process_batch(self, batch: list[Any]) -> Any:
            if batch == ["outer"]:
                queued.append(self.process_threadsafe("queued"))
                await self.submit("inner")
            return batch

    queued: list[Any] = []
    async with Nested(max_queue_time=0, concurrency=1, max_queue_size=1) as batcher:
        with pytest.raises(RuntimeError):
            await batcher.process("outer")
        assert await asyncio.wrap_future(queued[0]) == "queued"


async def test_item_of_a_cancelled_submit_is_not_sent_by_a_worker_that_is_faster() -> None:
    """Trap 5. Its task has not run again when the worker takes what was admitted."""
    async with SyncRecorder(max_queue_size=1, max_batch_size=1, max_queue_time=0) as batcher:
        held = await batcher.busy()
        queued = batcher.process("queued")
        waiting = asyncio.create_task(batcher.submit("gone"))
        await settle()
        waiting.cancel()
        batcher.release()
        give_up = time.monotonic() + PATIENCE  # the loop stands still meanwhile
        while batcher.stats.queued > 0 and time.monotonic() < give_up:
            time.sleep(0.001)
        await finished(held, queued)
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert "gone" not in batcher.items
