"""`stop` from odd places: inside, at once from many sides, cancelled, and at the end of a block."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support import (
    LONG,
    PATIENCE,
    AsyncRecorder,
    Item,
    Recorder,
    SyncRecorder,
    both,
    finished,
    in_threads,
    no_loop_errors,
    outcome,
    run,
    settle,
    soon,
)

from async_batcher import BatcherStoppedError

if TYPE_CHECKING:
    import concurrent.futures


@both
async def test_cancelled_stop_becomes_a_forced_one(kind: type[Recorder]) -> None:
    """Scenario 24. Trap 38."""
    async with kind(max_queue_time=0) as batcher:
        futures = [await batcher.busy(), batcher.process("queued")]
        stopping = asyncio.create_task(batcher.stop())
        await settle()
        stopping.cancel()
        await asyncio.wait([stopping])
        assert stopping.cancelled()
        answers = await finished(*futures)
        assert [type(answer) for answer in answers] == [BatcherStoppedError] * 2


@both
async def test_stop_after_a_cancelled_stop_returns_at_once(kind: type[Recorder]) -> None:
    """Scenario 24. Trap 38."""
    async with kind(max_queue_time=0) as batcher:
        held = await batcher.busy()
        stopping = asyncio.create_task(batcher.stop())
        await settle()
        stopping.cancel()
        await asyncio.wait([stopping])
        await batcher.stop(force=True)
        assert not await batcher.is_running()
        await finished(held)


@both
@pytest.mark.parametrize("first", ["cancelled", "timed out", "forced"])
async def test_plain_stop_after_one_that_forced_returns_whether_a_batch_holds_or_not(
    kind: type[Recorder], first: str
) -> None:
    """Scenario 24. Trap 37."""
    async with kind(max_queue_time=0) as batcher:
        held = await batcher.busy()
        options = {"timed out": {"timeout": 0.01}, "forced": {"force": True}}.get(first, {})
        stopping = asyncio.create_task(batcher.stop(**options))
        await settle()
        if first == "cancelled":
            stopping.cancel()
        await asyncio.wait([stopping])
        again = asyncio.create_task(batcher.stop())
        await soon(again)
        is_done, is_held = again.done(), batcher.active == 1
        batcher.release()
        await finished(held, stopping, again)
        assert is_done
        assert is_held == (kind is SyncRecorder)


@both
async def test_many_tasks_stop_at_once(kind: type[Recorder]) -> None:
    """Scenario 28. Trap 37."""
    async with kind(max_queue_time=LONG) as batcher:
        future = batcher.process(1)
        await asyncio.gather(*(batcher.stop() for _ in range(50)))
        assert future.result() == 1


@both
async def test_threads_stop_at_once_on_loops_of_their_own(kind: type[Recorder]) -> None:
    """Scenario 28."""
    async with kind(max_queue_time=LONG) as batcher:
        future = batcher.process(1)
        threads = asyncio.to_thread(in_threads, 8, lambda index: run(batcher.stop()))
        await asyncio.gather(threads, *(batcher.stop() for _ in range(50)))
        assert future.result() == 1


async def test_stop_inside_an_async_process_batch_does_not_wait_for_it() -> None:
    """Scenario 30."""

    class Stopping(AsyncRecorder):
        async def process_batch(self, batch: list[Any]) -> Any:
            await self.stop()
            return await super().process_batch(batch)

    batcher = Stopping(max_queue_time=0)
    assert await batcher.process(1) == 1
    await batcher.stop()
    assert not await batcher.is_running()


async def test_stop_inside_a_sync_process_batch_does_not_wait_for_it() -> None:
    """Scenario 30."""

    class Stopping(SyncRecorder):
        def process_batch(self, batch: list[Any]) -> Any:
            run(self.stop())
            return super().process_batch(batch)

    batcher = Stopping(max_queue_time=0)
    assert await batcher.process(1) == 1
    await batcher.stop()


async def test_forced_stop_inside_process_batch_fails_the_others() -> None:
    """Scenario 30."""

    class Stopping(AsyncRecorder):
        async def process_batch(self, batch: list[Any]) -> Any:
            await self.stop(force=True)
            return await super().process_batch(batch)

    batcher = Stopping(max_queue_time=0, max_batch_size=1)
    futures = [batcher.process(item) for item in range(3)]
    answers = await finished(*futures)
    assert [type(answer) for answer in answers[1:]] == [BatcherStoppedError] * 2
    await batcher.stop()


@both
async def test_stop_started_by_a_done_callback_ends(kind: type[Recorder]) -> None:
    """Scenario 30."""
    batcher = kind(max_queue_time=0)
    stops: list[asyncio.Task[None]] = []
    future = batcher.process(1)
    future.add_done_callback(lambda f: stops.append(asyncio.ensure_future(batcher.stop())))
    assert await future == 1
    await settle(2)
    await stops[0]
    assert not await batcher.is_running()


@both
@pytest.mark.parametrize("force", [False, True])
async def test_each_item_given_while_stop_runs_is_answered_or_refused(
    kind: type[Recorder], force: bool
) -> None:
    """Scenario 31. Trap 35."""
    batcher = kind(max_batch_size=10, max_queue_time=0.0001)
    futures: list[asyncio.Future[Any]] = []

    async def produce() -> None:
        for item in range(10_000):
            futures.append(batcher.process(item))
            if item % 50 == 0:
                await asyncio.sleep(0)

    async def stop() -> None:
        await settle(10)
        await batcher.stop(force=force)

    await asyncio.gather(produce(), stop())
    answers = await finished(*futures)
    for item, answer in enumerate(answers):
        assert answer == item or isinstance(answer, BatcherStoppedError)
    assert force or answers[0] == 0
    assert isinstance(answers[-1], BatcherStoppedError)
    stats = batcher.stats
    assert stats.submitted == stats.completed + stats.failed
    assert force or stats.failed == 0
    assert (stats.queued, stats.running) == (0, 0)


async def test_each_item_that_threads_give_while_stop_runs_is_answered_or_refused() -> None:
    """Scenario 31. Four threads give 2,500 items each, and on until they are refused."""
    batcher = SyncRecorder(max_batch_size=10, max_queue_time=0)
    warm = threading.Barrier(5)
    counts: list[int] = []

    def is_refused(future: concurrent.futures.Future[int]) -> bool:
        return future.done() and isinstance(future.exception(), BatcherStoppedError)

    def produce(index: int) -> None:
        futures = [batcher.process_threadsafe(item) for item in range(100)]
        warm.wait(PATIENCE)
        while len(futures) < 2500 or not is_refused(futures[-1]):
            futures.append(batcher.process_threadsafe(len(futures)))
        refused = [
            isinstance(future.exception(PATIENCE), BatcherStoppedError) for future in futures
        ]
        answered = [future.result() for future in futures[: refused.index(True)]]
        assert answered == list(range(len(answered)))
        assert len(answered) >= 100
        assert all(refused[len(answered) :])
        counts.append(len(answered))

    def stop() -> None:
        warm.wait(PATIENCE)
        run(batcher.stop())

    await asyncio.gather(asyncio.to_thread(in_threads, 4, produce), asyncio.to_thread(stop))
    stats = batcher.stats
    assert stats.submitted == stats.completed == sum(counts)


@both
@pytest.mark.parametrize("force", [False, True])
async def test_stop_fails_producers_that_wait_for_space(kind: type[Recorder], force: bool) -> None:
    """Trap 38."""
    async with kind(max_queue_size=1, max_queue_time=0) as batcher:
        futures = [await batcher.busy(), batcher.process(1)]
        waiting = [asyncio.create_task(batcher.submit(item)) for item in range(3)]
        await settle()
        stopping = asyncio.create_task(batcher.stop(force=force))
        errors = await finished(*waiting)
        assert [type(error) for error in errors] == [BatcherStoppedError] * 3
        batcher.release()
        await stopping
        answers = await finished(*futures)
        if force:
            assert [type(answer) for answer in answers] == [BatcherStoppedError] * 2
        else:
            assert answers == ["held", 1]


@both
async def test_block_drains_at_its_end(kind: type[Recorder]) -> None:
    """Scenario 25. Trap 39."""
    async with kind(max_queue_time=LONG) as batcher:
        future = batcher.process(1)
    assert future.result() == 1


async def test_block_gives_the_batcher_itself_and_starts_it() -> None:
    """Trap 39."""
    batcher = AsyncRecorder()
    async with batcher as entered:
        assert entered is batcher
        assert await batcher.is_running()
    assert not await batcher.is_running()


@both
@pytest.mark.parametrize("error", [LookupError, asyncio.CancelledError, KeyError])
async def test_error_of_the_body_wins_and_forces(
    kind: type[Recorder], error: type[BaseException]
) -> None:
    """Scenario 32. Trap 39."""
    futures: list[asyncio.Future[Any]] = []
    original = error("body")

    async def body() -> None:
        async with kind(max_queue_time=0) as batcher:
            futures.extend([await batcher.busy(), batcher.process("queued")])
            raise original

    assert await outcome(body) is original
    answers = await finished(*futures)
    assert [type(answer) for answer in answers] == [BatcherStoppedError] * 2


async def test_block_of_a_stopped_batcher_is_refused() -> None:
    """Scenario 25."""
    batcher = AsyncRecorder()
    await batcher.stop()

    async def body() -> None:
        async with batcher:
            pass

    assert isinstance(await outcome(body), BatcherStoppedError)


async def test_items_destructor_may_use_the_batcher_that_stops() -> None:
    """Scenario 60."""
    late: list[asyncio.Future[Any]] = []

    class Reborn(Item):
        def __del__(self) -> None:
            late.append(batcher.process("from the destructor"))

    batcher = AsyncRecorder(max_queue_time=LONG)
    with no_loop_errors():
        future = batcher.process(Reborn())
        await batcher.stop(force=True)
        assert isinstance(future.exception(), BatcherStoppedError)
        del future
        await settle()
        assert [type(answer) for answer in await finished(*late)] == [BatcherStoppedError]


@both
def test_stop_works_on_a_loop_the_batcher_never_saw(kind: type[Recorder]) -> None:
    """Scenario 38."""
    batcher = kind(max_queue_time=0)
    assert run(batcher.call(1)) == 1
    run(batcher.stop())
    assert isinstance(run(outcome(lambda: batcher.call(2))), BatcherStoppedError)


async def test_wrong_arguments_of_stop_are_refused_and_stop_nothing() -> None:
    """Scenario 11."""
    async with AsyncRecorder(max_queue_time=0) as batcher:
        wrong: list[Any] = ["1", object()]
        for timeout in wrong:
            assert isinstance(
                await outcome(lambda timeout=timeout: batcher.stop(timeout=timeout)),
                (TypeError, ValueError),
            )
        assert await batcher.process(1) == 1
