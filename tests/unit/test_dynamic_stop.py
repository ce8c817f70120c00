"""start() and stop() of DynamicBatcher: again and again, at once, and cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from dynamics import busy, running, waiting
from support import (
    LONG,
    Recorder,
    SyncRecorder,
    both,
    finished,
    settle,
)

from async_batcher import BatcherStoppedError, DynamicBatcher

# ---- starting ----


async def test_is_running_between_start_and_stop() -> None:
    batcher: DynamicBatcher[Any, Any] = DynamicBatcher(list)
    states = [batcher.is_running]
    await batcher.start()
    states.append(batcher.is_running)
    await batcher.stop()
    states.append(batcher.is_running)
    assert states == [False, True, False]


async def test_start_while_it_runs_is_refused_and_changes_nothing() -> None:
    async with running() as (batcher, _):
        with pytest.raises(RuntimeError, match="already running"):
            await batcher.start()
        with pytest.raises(RuntimeError, match="already running"):
            await batcher.__aenter__()
        assert await (await batcher.submit(1)) == 1


@both
async def test_start_while_a_stop_waits_is_refused_and_changes_nothing(
    kind: type[Recorder],
) -> None:
    async with running(kind) as (batcher, work):
        held = await busy(batcher, work)
        (stopping,) = await waiting(batcher.stop())
        with pytest.raises(RuntimeError, match="already running"):
            await batcher.start()
        assert not batcher.is_running
        work.release()
        await stopping
        assert held.result() == "held"


@both
async def test_it_starts_again_after_every_stop(kind: type[Recorder]) -> None:
    async with running(kind) as (batcher, work):
        for number in range(30):
            assert await (await batcher.submit(number)) == number
            await batcher.stop()
            await batcher.start()
        assert work.items == list(range(30))


@both
async def test_block_may_be_entered_again_and_again(kind: type[Recorder]) -> None:
    work = kind()
    batcher: DynamicBatcher[Any, Any] = DynamicBatcher(work.process_batch, batch_timeout_s=LONG)
    for number in range(5):
        async with batcher:
            future = await batcher.submit(number)
        assert future.result() == number
        assert not batcher.is_running


# ---- stopping ----


@both
async def test_stop_sends_what_waits_without_its_timeout(kind: type[Recorder]) -> None:
    """Scenario 25."""
    async with running(kind, batch_timeout_s=LONG, max_batch_size=4) as (batcher, work):
        futures = await batcher.submit_batch(range(10))
        await batcher.stop()
        assert [future.result() for future in futures] == list(range(10))
        assert work.seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@both
async def test_stop_returns_after_the_batch_that_runs(kind: type[Recorder]) -> None:
    """Trap 33."""
    async with running(kind) as (batcher, work):
        held = await busy(batcher, work)
        queued = await batcher.submit("queued")
        (stopping,) = await waiting(batcher.stop())
        assert not stopping.done()
        work.release()
        await stopping
        assert (held.result(), queued.result(), work.active) == ("held", "queued", 0)


async def test_stop_of_what_never_ran_returns() -> None:
    """Scenario 29. Trap 34."""
    batcher: DynamicBatcher[Any, Any] = DynamicBatcher(list)
    await batcher.stop()
    await batcher.start()
    await batcher.stop()
    await batcher.stop()
    assert not batcher.is_running


@both
async def test_many_stops_at_once_all_return(kind: type[Recorder]) -> None:
    """Scenario 28. Trap 37."""
    async with running(kind, batch_timeout_s=LONG) as (batcher, _):
        future = await batcher.submit(1)
        await asyncio.gather(*(batcher.stop() for _ in range(20)))
        assert future.result() == 1
        await batcher.start()
        assert batcher.is_running


# ---- a stop that is cancelled ----


@both
async def test_cancelled_stop_fails_what_is_left(kind: type[Recorder]) -> None:
    """Scenario 24. Trap 38."""
    async with running(kind, max_batch_size=1) as (batcher, work):
        futures = [await busy(batcher, work), *await batcher.submit_batch(range(5))]
        (stopping,) = await waiting(batcher.stop())
        stopping.cancel()
        await asyncio.wait([stopping])
        assert stopping.cancelled()
        assert [type(answer) for answer in await finished(*futures)] == [BatcherStoppedError] * 6
        assert work.seen == [["held"]]


@both
async def test_it_starts_again_after_a_cancelled_stop(kind: type[Recorder]) -> None:
    """Scenario 24. Trap 38."""
    async with running(kind) as (batcher, work):
        held = await busy(batcher, work)
        (stopping,) = await waiting(batcher.stop())
        stopping.cancel()
        await finished(held)
        await asyncio.wait([stopping])
        await batcher.start()
        work.release()
        assert await (await batcher.submit("again")) == "again"
        assert work.items == ["held", "again"]


async def test_batch_that_outlives_a_cancelled_stop_is_still_the_only_one() -> None:
    """Scenario 27. Trap 38."""
    async with running(SyncRecorder) as (batcher, work):
        held = await busy(batcher, work)
        (stopping,) = await waiting(batcher.stop())
        stopping.cancel()
        await finished(held)
        await asyncio.wait([stopping])
        await batcher.start()
        future = await batcher.submit("again")
        await settle()
        assert work.seen == [["held"]]
        work.release()
        assert await future == "again"
        assert work.peak == 1


@both
async def test_one_of_two_stops_that_is_cancelled_lets_the_other_return(
    kind: type[Recorder],
) -> None:
    """Scenario 28. Trap 37."""
    async with running(kind) as (batcher, work):
        held = await busy(batcher, work)
        gone, stays = await waiting(batcher.stop(), batcher.stop())
        gone.cancel()
        await asyncio.wait([gone, stays])
        assert gone.cancelled()
        assert stays.exception() is None
        assert isinstance((await finished(held))[0], BatcherStoppedError)


async def test_cancelled_caller_of_start_leaves_a_batcher_that_stops() -> None:
    """Scenario 18."""
    batcher: DynamicBatcher[Any, Any] = DynamicBatcher(list)
    starting = asyncio.create_task(batcher.start())
    starting.cancel()
    await asyncio.wait([starting])
    await batcher.stop()
    await batcher.start()
    await batcher.stop()
