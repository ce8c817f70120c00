"""`stop`, graceful and forced, its timeout, and what a stopped batcher says."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from support import (
    LONG,
    TIMEOUTS,
    AsyncRecorder,
    Recorder,
    SyncRecorder,
    both,
    counts_threads,
    finished,
    no_loop_errors,
    os_threads,
    outcome,
    settle,
)

from async_batcher import AsyncBatcher, BatcherStoppedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@both
async def test_graceful_stop_sends_what_is_queued_without_its_window(kind: type[Recorder]) -> None:
    """Scenario 25. Trap 34."""
    batcher = kind(max_queue_time=LONG)
    futures = [batcher.process(item) for item in range(3)]
    await batcher.stop()
    assert [future.result() for future in futures] == [0, 1, 2]


@both
async def test_graceful_stop_waits_for_running_and_queued_batches(kind: type[Recorder]) -> None:
    """Scenario 25. Trap 33. Guarantee 5."""
    batcher = kind(max_batch_size=2, max_queue_time=LONG)
    held = await batcher.busy()
    queued = [batcher.process(item) for item in range(5)]
    stopping = asyncio.create_task(batcher.stop())
    await settle()
    assert not stopping.done()
    batcher.release()
    await stopping
    assert [future.result() for future in (held, *queued)] == ["held", *range(5)]
    assert (batcher.stats.queued, batcher.stats.running) == (0, 0)


@both
async def test_stop_of_an_idle_batcher_returns(kind: type[Recorder]) -> None:
    """Trap 34."""
    batcher = kind(max_queue_time=LONG)
    batcher.process(1)
    batcher.flush()
    await batcher.idle()
    assert await batcher.stop() is None


@counts_threads
@pytest.mark.thread_unsafe(reason="counts the threads of the process")
@both
@pytest.mark.parametrize("force", [False, True])
async def test_stop_of_an_unused_batcher_starts_nothing(kind: type[Recorder], force: bool) -> None:
    """Scenario 29."""
    before = os_threads()
    batcher = kind()
    await batcher.stop(force=force)
    assert os_threads() <= before
    assert not await batcher.is_running()


REFUSALS: list[tuple[str, Callable[[Recorder], Awaitable[Any]]]] = [
    ("process", lambda batcher: batcher.process(1)),
    ("call", lambda batcher: batcher.call(1)),
    ("submit", lambda batcher: batcher.submit(1)),
    ("process_many", lambda batcher: batcher.process_many([1, 2])),
]


@both
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(("name", "use"), REFUSALS, ids=[name for name, _ in REFUSALS])
async def test_stopped_batcher_accepts_nothing(
    kind: type[Recorder], force: bool, name: str, use: Callable[[Recorder], Awaitable[Any]]
) -> None:
    """Scenario 25. Trap 35."""
    batcher = kind(max_queue_time=0)
    await batcher.process(0)
    await batcher.stop(force)
    assert isinstance(await outcome(lambda: use(batcher)), BatcherStoppedError)
    await batcher.idle()
    assert batcher.items == [0]


@both
async def test_process_after_stop_gives_a_failed_future(kind: type[Recorder]) -> None:
    """Scenario 25."""
    batcher = kind()
    await batcher.stop()
    future = batcher.process(1)
    assert future.done()
    assert isinstance(future.exception(), BatcherStoppedError)


@both
@pytest.mark.parametrize(("name", "use"), REFUSALS, ids=[name for name, _ in REFUSALS])
async def test_nothing_is_accepted_while_stop_waits(
    kind: type[Recorder], name: str, use: Callable[[Recorder], Awaitable[Any]]
) -> None:
    """Trap 35. Scenario 25."""
    async with kind(max_queue_time=0) as batcher:
        held = await batcher.busy()
        stopping = asyncio.create_task(batcher.stop())
        await settle()
        assert isinstance(await outcome(lambda: use(batcher)), BatcherStoppedError)
        batcher.release()
        await stopping
        assert await held == "held"


async def test_stopped_batcher_cannot_be_started_again() -> None:
    """Scenario 25."""
    batcher = AsyncRecorder()
    await batcher.stop()
    with pytest.raises(BatcherStoppedError):
        batcher.start()


async def test_stopped_error_is_a_runtime_error() -> None:
    """Trap 36."""
    batcher = AsyncRecorder()
    await batcher.stop()
    with pytest.raises(RuntimeError):
        await batcher.call(1)


@both
async def test_forced_stop_fails_queued_and_running_callers(kind: type[Recorder]) -> None:
    """Scenario 26. Trap 36."""
    async with kind(max_queue_time=0) as batcher:
        futures = [await batcher.busy(), *(batcher.process(item) for item in range(3))]
        await batcher.stop(force=True)
        assert all(future.done() for future in futures)
        assert [type(future.exception()) for future in futures] == [BatcherStoppedError] * 4


async def test_forced_stop_cancels_the_running_async_batch() -> None:
    """Scenario 26."""
    cancelled = asyncio.Event()

    class Slow(AsyncRecorder):
        async def process_batch(self, batch: list[Any]) -> Any:
            try:
                return await super().process_batch(batch)
            except asyncio.CancelledError:
                cancelled.set()
                raise

    async with Slow(max_queue_time=0) as batcher:
        held = await batcher.busy()
        await batcher.stop(force=True)
        assert isinstance(held.exception(), BatcherStoppedError)
        await cancelled.wait()


@both
async def test_forced_stop_sends_nothing_more(kind: type[Recorder]) -> None:
    """Scenario 26."""
    async with kind(max_queue_time=0) as batcher:
        futures = [await batcher.busy(), batcher.process("queued")]
        await batcher.stop(force=True)
        batcher.release()
        await settle()
        assert batcher.seen == [["held"]]
        await finished(*futures)


async def test_forced_stop_does_not_wait_for_a_sync_batch() -> None:
    """Scenario 26. Trap 36."""
    async with SyncRecorder(max_queue_time=0) as batcher:
        with no_loop_errors():
            held = await batcher.busy()
            await batcher.stop(force=True)
            assert batcher.active == 1
            batcher.release()
            assert isinstance(held.exception(), BatcherStoppedError)


async def test_forced_stop_does_not_wait_for_a_task_that_swallows_its_cancellation() -> None:
    """Scenario 26. Scenario 27."""

    class Stubborn(AsyncRecorder):
        async def process_batch(self, batch: list[Any]) -> Any:
            with self.recorded(batch):
                with contextlib.suppress(asyncio.CancelledError):
                    await self.gate.wait()
                await self.gate.wait()
                return batch

    async with Stubborn(max_queue_time=0) as batcher:
        with no_loop_errors():
            held = await batcher.busy()
            await batcher.stop(force=True)
            assert isinstance(held.exception(), BatcherStoppedError)
            assert batcher.active == 1
            batcher.release()
            await settle()


@both
async def test_forced_stop_overtakes_a_graceful_one(kind: type[Recorder]) -> None:
    """Scenario 28. Trap 37."""
    async with kind(max_queue_time=0) as batcher:
        held = await batcher.busy()
        graceful = asyncio.create_task(batcher.stop())
        await settle()
        await batcher.stop(force=True)
        assert isinstance(held.exception(), BatcherStoppedError)
        batcher.release()
        await outcome(lambda: graceful)


@both
async def test_timeout_of_stop_forces_the_rest(kind: type[Recorder]) -> None:
    """Scenario 27. Trap 37."""
    async with kind(max_queue_time=0) as batcher:
        futures = [await batcher.busy(), batcher.process("queued")]
        with pytest.raises(TIMEOUTS):
            await batcher.stop(timeout=0.01)
        assert [type(future.exception()) for future in futures] == [BatcherStoppedError] * 2
        assert not await batcher.is_running()


@both
async def test_timeout_that_is_not_needed_raises_nothing(kind: type[Recorder]) -> None:
    """Scenario 27."""
    batcher = kind(max_queue_time=LONG)
    future = batcher.process(1)
    await batcher.stop(timeout=LONG)
    assert future.result() == 1


@both
async def test_stop_after_a_timed_out_stop_returns(kind: type[Recorder]) -> None:
    """Scenario 27. Trap 37."""
    async with kind(max_queue_time=0) as batcher:
        held = await batcher.busy()
        assert isinstance(await outcome(lambda: batcher.stop(timeout=0.01)), TIMEOUTS)
        await batcher.stop(force=True)
        await finished(held)


@both
@pytest.mark.parametrize("force", [False, True])
async def test_stop_is_idempotent(kind: type[Recorder], force: bool) -> None:
    """Trap 37."""
    batcher = kind(max_queue_time=0)
    await batcher.process(1)
    for _ in range(3):
        await batcher.stop(force=force)
    assert not await batcher.is_running()


async def test_is_running_from_first_use_until_stopped() -> None:
    """Scenario 25."""
    batcher = AsyncRecorder(max_queue_time=0)
    states = [await batcher.is_running()]
    await batcher.process(1)
    states.append(await batcher.is_running())
    await batcher.stop()
    states.append(await batcher.is_running())
    assert states == [False, True, False]


async def test_start_counts_as_use() -> None:
    """Scenario 25."""
    batcher = AsyncRecorder()
    batcher.start()
    assert await batcher.is_running()
    await batcher.stop()


def test_start_needs_no_loop() -> None:
    """Scenario 25."""
    AsyncRecorder().start()


async def test_start_twice_is_harmless() -> None:
    """Scenario 25."""
    async with AsyncRecorder(max_queue_time=0) as batcher:
        batcher.start()
        batcher.start()
        assert await batcher.process(1) == 1


@both
async def test_run_lasts_until_stopped(kind: type[Recorder]) -> None:
    """Scenario 25."""
    async with kind(max_queue_time=0) as batcher:
        running = asyncio.create_task(batcher.run())
        await settle()
        assert await batcher.is_running()
        assert await batcher.process(1) == 1
        assert not running.done()
        await batcher.stop()
        await running


async def test_abandoned_process_batch_of_a_forced_stop_may_still_use_its_batch() -> None:
    """Scenario 26. Trap 36."""
    kept: list[list[Any]] = []

    class Keeping(AsyncBatcher[int, int]):
        async def process_batch(self, batch: list[int]) -> list[int]:
            kept.append(batch)
            await asyncio.sleep(LONG)
            return batch

    batcher = Keeping(max_queue_time=0)
    future = batcher.process(1)
    await settle()
    await batcher.stop(force=True)
    await finished(future)
    assert kept == [[1]]
