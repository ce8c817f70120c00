"""`process_threadsafe`: from any thread, with or without a loop there."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support import (
    LONG,
    PATIENCE,
    AsyncRecorder,
    Recorder,
    SyncRecorder,
    both,
    in_threads,
    new_loop,
    run,
    settle,
)

from async_batcher import BatcherStoppedError, QueueFullException

if TYPE_CHECKING:
    from collections.abc import Callable


def result_of(start: Callable[[], concurrent.futures.Future[Any]]) -> Any:
    """Return what `start()` gives or raises, through its future or directly."""
    try:
        return start().result(PATIENCE)
    except BaseException as error:
        return error


def test_sync_batcher_needs_no_loop() -> None:
    """Scenario 44."""
    batcher = SyncRecorder(max_queue_time=0)
    future = batcher.process_threadsafe(1)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(PATIENCE) == 1


def test_sync_batcher_keeps_its_window_without_a_loop() -> None:
    """Scenario 44."""
    batcher = SyncRecorder(max_queue_time=0.005)
    futures = [batcher.process_threadsafe(item) for item in range(3)]
    assert [future.result(PATIENCE) for future in futures] == [0, 1, 2]


def test_async_batcher_that_saw_no_loop_is_a_runtime_error() -> None:
    """Scenario 44."""
    batcher = AsyncRecorder()
    assert isinstance(result_of(lambda: batcher.process_threadsafe(1)), RuntimeError)
    assert batcher.stats.queued == 0


def test_item_that_a_thread_gives_while_the_only_loop_closes_is_refused() -> None:
    """Scenario 86. Scenario 44."""
    asked, closed = threading.Event(), threading.Event()

    def cost(item: Any) -> int:
        if item == "late":
            asked.set()
            closed.wait(PATIENCE)
        return 1

    batcher = AsyncRecorder(max_queue_time=0, cost=cost)
    answers: list[Any] = []
    loop = new_loop()
    assert loop.run_until_complete(batcher.call("first")) == "first"
    thread = threading.Thread(
        target=lambda: answers.append(result_of(lambda: batcher.process_threadsafe("late")))
    )
    thread.start()
    asked.wait(PATIENCE)
    loop.close()
    closed.set()
    thread.join()
    assert isinstance(answers[0], RuntimeError)
    assert batcher.stats.queued == 0
    assert run(batcher.call("next")) == "next"


@both
async def test_other_thread_gets_its_result(kind: type[Recorder]) -> None:
    """Scenario 44."""
    async with kind(max_queue_time=0) as batcher:
        await batcher.process(0)
        given = await asyncio.to_thread(result_of, lambda: batcher.process_threadsafe(1))
        assert given == 1


@both
async def test_future_of_another_thread_can_be_wrapped(kind: type[Recorder]) -> None:
    """Scenario 44."""
    async with kind(max_queue_time=0) as batcher:
        await batcher.process(0)
        assert await asyncio.wrap_future(batcher.process_threadsafe(item=2)) == 2


@both
async def test_threads_and_the_loop_share_batches(kind: type[Recorder]) -> None:
    """Scenario 54."""
    async with kind(max_queue_time=LONG, max_batch_size=2) as batcher:
        mine = batcher.process("loop")
        theirs = asyncio.wrap_future(batcher.process_threadsafe("thread"))
        assert await asyncio.gather(mine, theirs) == ["loop", "thread"]
        assert batcher.seen == [["loop", "thread"]]


@both
async def test_many_threads_lose_nothing(kind: type[Recorder]) -> None:
    """Scenario 54. Trap 47."""
    sums = [0] * 8

    async with kind(max_queue_time=0.001, max_batch_size=50) as batcher:
        await batcher.process(0)

        def produce(index: int) -> None:
            futures = [batcher.process_threadsafe(1000 * index + n) for n in range(500)]
            results = [future.result(PATIENCE) for future in futures]
            assert results == [1000 * index + n for n in range(500)]
            sums[index] = len(results)

        await asyncio.to_thread(in_threads, 8, produce)
        assert sums == [500] * 8
        assert len(batcher.items) == 4001


@both
async def test_error_reaches_the_other_thread(kind: type[Recorder]) -> None:
    """Scenario 7."""

    def refuse(batch: list[Any]) -> Any:
        raise LookupError("no")

    async with kind(refuse, max_queue_time=0) as batcher:
        await asyncio.wait([batcher.process(0)])
        error = await asyncio.to_thread(result_of, lambda: batcher.process_threadsafe(1))
        assert isinstance(error, LookupError)


@both
async def test_full_queue_gives_a_failed_future(kind: type[Recorder]) -> None:
    """Trap 30."""
    async with kind(max_queue_time=0, max_queue_size=1) as batcher:
        held = await batcher.busy()
        queued = batcher.process(1)
        refused = batcher.process_threadsafe(2)
        assert refused.done()
        assert isinstance(refused.exception(), QueueFullException)
        batcher.release()
        assert await asyncio.gather(held, queued) == ["held", 1]


@both
async def test_stopped_batcher_gives_a_failed_future(kind: type[Recorder]) -> None:
    """Scenario 25. Trap 35."""
    async with kind(max_queue_time=0) as batcher:
        await batcher.process(0)
    refused = batcher.process_threadsafe(1)
    assert refused.done()
    assert isinstance(refused.exception(), BatcherStoppedError)


@both
async def test_cancelled_future_of_another_thread_is_never_sent(kind: type[Recorder]) -> None:
    """Scenario 15. Trap 3."""
    async with kind(max_queue_time=0) as batcher:
        held = await batcher.busy()
        cancelled = batcher.process_threadsafe("cancelled")
        stays = batcher.process_threadsafe("stays")
        assert cancelled.cancel()
        batcher.release()
        await held
        assert await asyncio.wrap_future(stays) == "stays"
        assert batcher.seen == [["held"], ["stays"]]


@both
async def test_forced_stop_fails_the_future_of_another_thread(kind: type[Recorder]) -> None:
    """Scenario 26."""
    async with kind(max_queue_time=0) as batcher:
        held = await batcher.busy()
        queued = batcher.process_threadsafe(1)
        await batcher.stop(force=True)
        assert isinstance(result_of(lambda: queued), BatcherStoppedError)
        with pytest.raises(BatcherStoppedError):
            await held


@both
async def test_stop_drains_what_other_threads_gave(kind: type[Recorder]) -> None:
    """Scenario 25."""
    async with kind(max_queue_time=LONG) as batcher:
        waiting = batcher.process(0)
        future = batcher.process_threadsafe(1)
        await batcher.stop()
        assert (waiting.result(), future.result(PATIENCE)) == (0, 1)


def test_sync_batcher_is_stopped_on_a_loop_it_never_saw() -> None:
    """Scenario 38."""
    batcher = SyncRecorder(max_queue_time=LONG)
    future = batcher.process_threadsafe(1)
    run(batcher.stop())
    assert future.result(0) == 1


async def test_callback_of_the_future_runs() -> None:
    """Scenario 14."""
    called = threading.Event()
    async with SyncRecorder(max_queue_time=0) as batcher:
        batcher.process_threadsafe(1).add_done_callback(lambda future: called.set())
        assert await asyncio.to_thread(called.wait, PATIENCE)


async def test_idle_waits_for_a_caller_who_is_told_after_a_slow_callback() -> None:
    """Scenario 25. Scenario 44."""
    begun, gate = threading.Event(), threading.Event()

    def hold(future: concurrent.futures.Future[Any]) -> None:
        begun.set()
        gate.wait(PATIENCE)

    async with SyncRecorder(max_batch_size=2, max_queue_time=LONG) as batcher:
        first = batcher.process_threadsafe(1)
        first.add_done_callback(hold)
        second = batcher.process_threadsafe(2)
        await asyncio.to_thread(begun.wait, PATIENCE)
        idle = asyncio.ensure_future(batcher.idle())
        await settle()
        assert not idle.done()
        gate.set()
        await idle
        assert second.done()


async def test_callbacks_that_flush_are_not_called_one_inside_the_other() -> None:
    """Scenario 14. However many are told: each level would take of the recursion limit."""
    depth = most = 0

    def flush(future: concurrent.futures.Future[Any]) -> None:
        nonlocal depth, most
        depth += 1
        most = max(most, depth)
        batcher.flush()
        depth -= 1

    async with SyncRecorder(max_queue_time=LONG) as batcher:
        futures = [batcher.process_threadsafe(item) for item in range(1000)]
        for future in futures:
            future.add_done_callback(flush)
        batcher.flush()
        assert [await asyncio.wrap_future(future) for future in futures] == list(range(1000))
    assert most == 1


async def test_future_that_is_cancelled_as_it_is_refused_wakes_who_waits_for_it() -> None:
    """Scenario 26. Scenario 22. As `concurrent.futures.wait` does."""
    batcher = SyncRecorder(max_queue_time=LONG)
    first, second = batcher.process_threadsafe(1), batcher.process_threadsafe(2)
    first.add_done_callback(lambda _: second.cancel())
    await batcher.stop(force=True)
    assert second.cancelled()
    done, _ = await asyncio.to_thread(concurrent.futures.wait, [second], PATIENCE)
    assert done == {second}


async def test_callback_that_raises_hurts_nobody() -> None:
    """Scenario 14."""
    async with SyncRecorder(max_queue_time=LONG, max_batch_size=2) as batcher:
        first = batcher.process_threadsafe(1)
        first.add_done_callback(lambda future: 1 / 0)
        assert await batcher.process(2) == 2
        assert await asyncio.wrap_future(first) == 1


def test_stopped_async_batcher_gives_a_failed_future_with_and_without_a_loop() -> None:
    """Trap 35."""
    batcher = AsyncRecorder(max_queue_time=0)
    run(batcher.stop())
    assert isinstance(batcher.process_threadsafe(1).exception(), BatcherStoppedError)


def test_forced_stop_in_a_done_callback_on_the_worker_itself_returns() -> None:
    """Scenario 30."""
    assert stop_in_done_callback(force=True) == [None, BatcherStoppedError]


def stop_in_done_callback(force: bool) -> list[type[Exception] | None]:
    """Stop on the worker that told one item, while another waits; return the errors of both."""
    workers: list[int] = []

    def note(batch: list[Any]) -> list[Any]:
        workers.append(threading.get_ident())
        return batch

    batcher = SyncRecorder(note, max_batch_size=1, max_queue_time=0)
    ended: concurrent.futures.Future[int] = concurrent.futures.Future()

    def stop(_: Any) -> None:
        try:
            run(batcher.stop(force=force, timeout=PATIENCE / 3))
        except BaseException as error:
            ended.set_exception(error)
        else:
            ended.set_result(threading.get_ident())

    batcher.hold()
    futures = [batcher.process_threadsafe(item) for item in range(2)]
    futures[0].add_done_callback(stop)
    batcher.release()
    assert ended.result(PATIENCE) == workers[0]
    errors = [future.exception(PATIENCE) for future in futures]
    return [None if error is None else type(error) for error in errors]


def test_graceful_stop_in_a_done_callback_on_the_worker_itself_returns() -> None:
    """Scenario 30. It does not wait for the worker that it runs on."""
    assert stop_in_done_callback(force=False) == [None, None]
