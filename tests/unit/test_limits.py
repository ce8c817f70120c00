"""Limits read and set while the batcher runs."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support import LONG, PATIENCE, AsyncRecorder, Recorder, SyncRecorder, both, finished, settle
from test_construction import GOOD, LIMITS

from async_batcher import QueueFullException

if TYPE_CHECKING:
    from conftest import Clock


@pytest.mark.parametrize(("name", "value"), LIMITS)
def test_wrong_limit_is_refused_and_the_old_one_stays(name: str, value: Any) -> None:
    """Scenario 11."""
    batcher = AsyncRecorder(**{name: 5})
    with pytest.raises((TypeError, ValueError)) as caught:
        setattr(batcher, name, value)
    assert name in str(caught.value)
    assert repr(value) in str(caught.value)
    assert getattr(batcher, name) == 5


@pytest.mark.parametrize(("name", "value"), GOOD)
def test_sensible_limit_can_be_set(name: str, value: Any) -> None:
    """Scenario 11."""
    batcher = AsyncRecorder()
    setattr(batcher, name, value)
    assert getattr(batcher, name) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("name", sorted({name for name, _ in LIMITS}))
def test_limit_cannot_be_deleted(name: str) -> None:
    """Scenario 11."""
    batcher = AsyncRecorder(**{name: 5})
    with pytest.raises((TypeError, AttributeError)):
        delattr(batcher, name)
    assert getattr(batcher, name) == 5


@both
async def test_raised_concurrency_lets_waiting_items_go(kind: type[Recorder]) -> None:
    """Scenario 11."""
    async with kind(max_batch_size=1, max_queue_time=0) as batcher:
        first = await batcher.busy()
        second = batcher.process("second")
        batcher.concurrency = 2
        await batcher.begun(2)
        batcher.release()
        assert await finished(first, second) == ["held", "second"]


@both
async def test_lowered_concurrency_holds_for_the_next_batches(kind: type[Recorder]) -> None:
    """Scenario 11."""
    async with kind(max_batch_size=1, max_queue_time=0, concurrency=4) as batcher:
        await batcher.process_many(range(4))
        batcher.concurrency = 1
        batcher.peak = 0
        await batcher.process_many(range(8))
        assert batcher.peak == 1


@both
async def test_new_max_batch_size_holds_for_the_next_cut(kind: type[Recorder]) -> None:
    """Scenario 11."""
    async with kind(max_queue_time=0) as batcher:
        held = await batcher.busy()
        rest = [batcher.process(item) for item in range(6)]
        batcher.max_batch_size = 2
        batcher.release()
        await finished(held, *rest)
        assert batcher.seen == [["held"], [0, 1], [2, 3], [4, 5]]


@both
async def test_max_batch_size_that_the_queue_now_reaches_lets_it_go(kind: type[Recorder]) -> None:
    """Scenario 11."""
    async with kind(max_queue_time=LONG) as batcher:
        futures = [batcher.process(item) for item in range(2)]
        batcher.max_batch_size = 2
        assert await finished(*futures) == [0, 1]


@both
async def test_shorter_max_queue_time_counts_for_what_waits(
    kind: type[Recorder], clock: Clock
) -> None:
    """Scenario 81."""
    async with kind(max_queue_time=LONG) as batcher:
        future = batcher.process(1)
        clock.advance(5)
        batcher.max_queue_time = 1
        assert await future == 1


async def test_max_queue_time_of_zero_lets_what_waits_go() -> None:
    """Scenario 81."""
    async with AsyncRecorder(max_queue_time=LONG) as batcher:
        future = batcher.process(1)
        batcher.max_queue_time = 0
        assert await future == 1


async def test_raised_max_queue_size_admits_whoever_waits_for_space() -> None:
    """Scenario 77."""
    async with AsyncRecorder(max_queue_size=1) as batcher:
        held = await batcher.busy()
        queued = batcher.process(1)
        waiting = asyncio.create_task(batcher.submit(2))
        await settle()
        assert not waiting.done()
        batcher.max_queue_size = 2
        admitted = await waiting
        batcher.release()
        assert await finished(held, queued, admitted) == ["held", 1, 2]


async def test_lowered_max_queue_size_refuses_the_next_item_only() -> None:
    """Scenario 77."""
    async with AsyncRecorder(max_queue_size=3) as batcher:
        held = await batcher.busy()
        queued = [batcher.process(item) for item in range(3)]
        batcher.max_queue_size = 1
        with pytest.raises(QueueFullException):
            await batcher.process("late")
        batcher.release()
        assert await finished(held, *queued) == ["held", 0, 1, 2]


async def test_limits_set_from_two_threads_at_once_are_both_kept() -> None:
    """Scenario 77. Guarantee 5."""
    async with AsyncRecorder(max_batch_size=1, max_queue_time=0) as batcher:

        def set_size() -> None:
            batcher.max_batch_size = 3

        other = threading.Thread(target=set_size)

        class Window(float):
            """Has the other thread set its limit while this one is being set."""

            def __float__(self) -> float:
                if other.ident is None:
                    other.start()
                    other.join(PATIENCE)
                return 3600.0

        batcher.max_queue_time = Window()
        assert not other.is_alive()
        futures = [batcher.process(item) for item in range(3)]
        assert await finished(*futures) == [0, 1, 2]
        assert batcher.seen == [[0, 1, 2]]
        assert batcher.max_batch_size == 3


def test_code_that_a_new_limit_runs_may_wait_for_another_threads_setting() -> None:
    """Scenario 60."""
    batcher, other = SyncRecorder(max_queue_time=LONG), SyncRecorder()
    setter = threading.Thread(target=lambda: setattr(other, "concurrency", 2), daemon=True)

    class Item:
        def __del__(self) -> None:
            setter.start()
            setter.join(PATIENCE)

    batcher.process_threadsafe(Item()).cancel()
    batcher.concurrency = 2
    assert setter.ident is not None
    assert not setter.is_alive()
    assert (batcher.concurrency, other.concurrency) == (2, 2)


def test_largest_int_of_the_native_part_is_a_limit() -> None:
    assert AsyncRecorder(max_batch_size=2**63 - 1).max_batch_size == 2**63 - 1


class Unshowable:
    """Has no repr."""

    def __repr__(self) -> str:
        raise LookupError


@pytest.mark.parametrize("value", [10**5000, Unshowable()], ids=["int", "object"])
@pytest.mark.parametrize("name", ["max_batch_size", "max_queue_time"])
def test_limit_that_cannot_be_shown_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=f"{name} must be .* that has no repr"):
        AsyncRecorder(**{name: value})
