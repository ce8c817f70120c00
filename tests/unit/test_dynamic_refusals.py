"""submit() and submit_batch() of a DynamicBatcher that does not run, or is about to stop."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

import pytest
from dynamics import NARROW, ROOM, busy, fill, futures_of, running, waiting
from support import Recorder, both, finished, no_loop_errors, outcome, settle

from async_batcher import BatcherStoppedError, DynamicBatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


calls = pytest.mark.parametrize(
    "call",
    [
        lambda batcher: batcher.submit(1),
        lambda batcher: batcher.submit_batch([1]),
        lambda batcher: batcher.submit_batch([]),
    ],
    ids=["submit", "submit_batch", "nothing"],
)


@calls
async def test_new_batcher_refuses(call: Callable[[Any], Coroutine[Any, Any, Any]]) -> None:
    """Trap 35."""
    batcher: DynamicBatcher[Any, Any] = DynamicBatcher(list)
    with pytest.raises(RuntimeError, match="not running"):
        await call(batcher)
    assert batcher.stats.total_submitted == 0


@both
@calls
async def test_stopped_batcher_refuses(
    kind: type[Recorder], call: Callable[[Any], Coroutine[Any, Any, Any]]
) -> None:
    """Trap 35."""
    async with running(kind) as (batcher, _):
        await (await batcher.submit(1))
        await batcher.stop()
        with pytest.raises(RuntimeError, match="not running"):
            await call(batcher)


@calls
async def test_batcher_that_is_about_to_stop_refuses(
    call: Callable[[Any], Coroutine[Any, Any, Any]],
) -> None:
    """Trap 35."""
    async with running() as (batcher, work):
        held = await busy(batcher, work)
        (stopping,) = await waiting(batcher.stop())
        with pytest.raises(RuntimeError, match="not running"):
            await call(batcher)
        work.release()
        await stopping
        assert held.result() == "held"


@both
async def test_callers_that_wait_when_a_stop_begins_get_a_runtime_error(
    kind: type[Recorder],
) -> None:
    """Trap 35. Trap 38."""
    async with running(kind, **NARROW) as (batcher, work):
        held = await busy(batcher, work)
        tasks = await fill(batcher, range(ROOM + 3))
        (stopping,) = await waiting(batcher.stop())
        await asyncio.wait(tasks)
        assert [type(task.exception()) for task in tasks[ROOM:]] == [BatcherStoppedError] * 3
        work.release()
        await stopping
        futures = await futures_of(tasks[:ROOM])
        assert [future.result() for future in (held, *futures)] == ["held", *range(ROOM)]
        assert work.items == ["held", *range(ROOM)]


async def test_refused_caller_that_is_cancelled_as_well_hurts_nobody() -> None:
    """Trap 6. Trap 38."""
    async with running(**NARROW) as (batcher, work):
        held = await busy(batcher, work)
        tasks = await fill(batcher, range(ROOM + 2))
        stopping = asyncio.create_task(batcher.stop())
        await asyncio.sleep(0)
        tasks[ROOM].cancel()
        await asyncio.wait(tasks)
        assert tasks[ROOM].cancelled()
        assert isinstance(tasks[ROOM + 1].exception(), RuntimeError)
        work.release()
        await stopping
        await finished(held, *await futures_of(tasks[:ROOM]))


@both
async def test_submit_batch_that_waits_when_a_stop_begins_leaves_nothing_unprocessed(
    kind: type[Recorder],
) -> None:
    """Trap 35. Trap 38. Guarantee 1."""
    async with running(kind, **NARROW) as (batcher, work):
        held = await busy(batcher, work)
        (task,) = await waiting(batcher.submit_batch(range(20)))
        (stopping,) = await waiting(batcher.stop())
        assert isinstance(await outcome(lambda: task), RuntimeError)
        work.release()
        await stopping
        assert held.result() == "held"
        stats = batcher.stats
        assert work.items == ["held", *range(ROOM)]
        assert stats.total_submitted == stats.total_completed == ROOM + 1


@both
async def test_records_of_a_submit_batch_that_was_refused_fail_in_silence(
    kind: type[Recorder],
) -> None:
    """Trap 35. Trap 1."""
    async with running(kind, **NARROW) as (batcher, work):
        with no_loop_errors():
            held = await busy(batcher, work)
            (task,) = await waiting(batcher.submit_batch(range(20)))
            (stopping,) = await waiting(batcher.stop())
            await asyncio.wait([task])
            assert isinstance(task.exception(), RuntimeError)
            stopping.cancel()
            await asyncio.wait([stopping])
            assert isinstance(held.exception(), BatcherStoppedError)
            del task


@both
async def test_every_accepted_record_ends_once_while_stops_and_starts_interfere(
    kind: type[Recorder],
) -> None:
    """Scenario 31. Guarantee 1."""
    accepted: dict[int, asyncio.Future[Any]] = {}

    async def produce(first: int) -> None:
        for record in range(first, first + 50):
            answer = await outcome(functools.partial(batcher.submit, record))
            if isinstance(answer, asyncio.Future):
                accepted[record] = answer
            else:
                assert isinstance(answer, RuntimeError)
                await asyncio.sleep(0)

    async def interfere() -> None:
        for _ in range(20):
            await settle(3)
            await batcher.stop()
            await batcher.start()

    options = {**NARROW, "max_batch_size": 3}
    async with running(kind, **options) as (batcher, work):
        await asyncio.gather(interfere(), *(produce(100 * number) for number in range(4)))
        await batcher.stop()
        assert {record: future.result() for record, future in accepted.items()} == {
            record: record for record in accepted
        }
        assert sorted(work.items) == sorted(accepted)
        assert batcher.stats.total_submitted == batcher.stats.total_completed == len(accepted)


async def test_synchronous_calls_fail_while_the_batcher_does_not_run() -> None:
    batcher: DynamicBatcher[Any, Any] = DynamicBatcher(list)
    for answer in await finished(batcher.process(1), batcher.process_many([1])):
        assert isinstance(answer, BatcherStoppedError)
