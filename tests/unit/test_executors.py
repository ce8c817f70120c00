"""`executor=`: thread pools of the user. Process pools are in runtime/test_processes.py."""

from __future__ import annotations

import asyncio
import functools
import threading
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from support import (
    LONG,
    PATIENCE,
    AsyncRecorder,
    SyncRecorder,
    counts_threads,
    finished,
    no_loop_errors,
    os_threads,
    outcome,
    run,
    settle,
)

from async_batcher import AsyncBatcher, BatcherStoppedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """A pool of two threads."""
    with ThreadPoolExecutor(2, thread_name_prefix="pool") as pool:
        yield pool


async def test_sync_process_batch_runs_in_the_executor(pool: ThreadPoolExecutor) -> None:
    names: list[str] = []
    async with SyncRecorder(
        lambda batch: names.append(threading.current_thread().name), executor=pool
    ) as batcher:
        await batcher.process(1)
    assert names[0].startswith("pool")


async def test_async_process_batch_stays_on_the_loop(pool: ThreadPoolExecutor) -> None:
    threads: list[int] = []
    async with AsyncRecorder(
        lambda batch: threads.append(threading.get_ident()), executor=pool
    ) as batcher:
        await batcher.process(1)
    assert threads == [threading.get_ident()]


@counts_threads
@pytest.mark.thread_unsafe(reason="counts the threads of the process")
async def test_executor_starts_no_workers_of_our_own(pool: ThreadPoolExecutor) -> None:
    meet = threading.Barrier(2)  # so that both threads of the pool are there
    assert len({*pool.map(lambda _: meet.wait(PATIENCE), range(2))}) == 2
    async with AsyncRecorder() as other, SyncRecorder(executor=pool) as batcher:
        await other.process(1)  # with its window comes the aggregation thread
        before = os_threads()
        await batcher.process(1)
        assert os_threads() <= before


async def test_items_go_in_batches_of_the_given_size(pool: ThreadPoolExecutor) -> None:
    async with SyncRecorder(executor=pool, max_batch_size=4, max_queue_time=0) as batcher:
        assert await batcher.process_many(range(10)) == list(range(10))
        assert batcher.seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_permits_bound_what_runs_in_the_executor(pool: ThreadPoolExecutor) -> None:
    async with SyncRecorder(
        executor=pool, max_batch_size=1, max_queue_time=0, concurrency=1
    ) as batcher:
        await batcher.process_many(range(20))
        assert batcher.peak == 1


async def test_permits_beyond_the_size_of_the_executor_do_no_harm(
    pool: ThreadPoolExecutor,
) -> None:
    async with SyncRecorder(
        executor=pool, max_batch_size=1, max_queue_time=0, concurrency=8
    ) as batcher:
        assert await batcher.process_many(range(50)) == list(range(50))
        assert batcher.peak <= 2


async def test_error_in_the_executor_reaches_every_caller(pool: ThreadPoolExecutor) -> None:
    """Scenario 7."""
    original = LookupError("in the pool")

    def refuse(batch: list[Any]) -> Any:
        raise original

    async with SyncRecorder(refuse, executor=pool, max_queue_time=0) as batcher:
        errors = await finished(batcher.process(1), batcher.process(2))
        assert [type(error) for error in errors] == [LookupError] * 2
        assert [error.__cause__ for error in errors] == [original] * 2


async def test_error_in_the_executor_may_speak_of_pickles(pool: ThreadPoolExecutor) -> None:
    """Scenario 7. Trap 45. Nothing is pickled here."""

    def refuse(batch: list[Any]) -> Any:
        raise LookupError("no recipe for pickled cucumbers")

    async with SyncRecorder(refuse, executor=pool, max_queue_time=0) as batcher:
        (error,) = await finished(batcher.process(1))
        assert type(error) is LookupError


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_exit_request_in_the_executor_reaches_the_callers(
    pool: ThreadPoolExecutor, error: type[BaseException]
) -> None:
    """Scenario 8. Trap 9."""

    def refuse(batch: list[Any]) -> Any:
        raise error

    async with SyncRecorder(refuse, executor=pool, max_queue_time=0) as batcher:
        (answer,) = await finished(batcher.process(1))
        assert isinstance(answer, error)
        batcher.function = list
        assert await batcher.process(2) == 2


async def test_executor_is_not_shut_down_by_stop(pool: ThreadPoolExecutor) -> None:
    """Scenario 33."""
    async with SyncRecorder(executor=pool, max_queue_time=0) as batcher:
        await batcher.process(1)
    assert pool.submit(int, "7").result() == 7


async def test_executor_is_not_shut_down_by_a_forced_stop(pool: ThreadPoolExecutor) -> None:
    """Scenario 33."""
    async with SyncRecorder(executor=pool, max_queue_time=0) as batcher:
        held = await batcher.busy()
        await batcher.stop(force=True)
        assert isinstance(held.exception(), BatcherStoppedError)
        batcher.release()
    assert pool.submit(int, "7").result() == 7


async def test_executor_that_was_shut_first_gives_its_error_to_the_callers() -> None:
    """Scenario 33. Trap 46."""
    pool = ThreadPoolExecutor(1)
    async with SyncRecorder(executor=pool, max_queue_time=0) as batcher:
        assert await batcher.process(1) == 1
        pool.shutdown()
        errors = await finished(batcher.process(2), batcher.process(3))
        for error in errors:
            assert isinstance(error, RuntimeError)
            assert not isinstance(error, BatcherStoppedError)
        assert batcher.stats.running == 0


async def test_batcher_with_a_shut_executor_still_stops() -> None:
    """Scenario 33."""
    pool = ThreadPoolExecutor(1)
    batcher = SyncRecorder(executor=pool, max_queue_time=LONG)
    future = batcher.process(1)
    pool.shutdown()
    await batcher.stop()
    assert isinstance(future.exception(), RuntimeError)


async def test_work_that_a_shutdown_dropped_is_an_error_to_its_callers() -> None:
    """Scenario 33. Trap 46."""
    pool = ThreadPoolExecutor(1)
    gate = threading.Event()
    pool.submit(gate.wait, PATIENCE)
    async with SyncRecorder(executor=pool, max_queue_time=0) as batcher:
        future = batcher.process(1)
        await settle()
        pool.shutdown(wait=False, cancel_futures=True)
        gate.set()
        (error,) = await finished(future)
        assert isinstance(error, Exception)
        assert not future.cancelled()
        assert batcher.stats.running == 0


class Refusing(Executor):
    """An executor whose submit raises."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        raise OSError("no room")


class Immediate(Executor):
    """An executor that is done before submit returns, and notes what it was given."""

    def __init__(self) -> None:
        self.given: list[tuple[Any, ...]] = []

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.given.append((function, *args, *kwargs.values()))
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


async def test_executor_whose_submit_raises_fails_the_callers() -> None:
    """Scenario 14. Scenario 33."""
    async with SyncRecorder(executor=Refusing(), max_queue_time=0) as batcher:
        for _ in range(3):
            assert isinstance(await outcome(lambda: batcher.process(1)), OSError)
        assert batcher.stats.running == 0


async def test_executor_that_is_done_at_once_works() -> None:
    """Scenario 52."""
    async with SyncRecorder(executor=Immediate(), max_batch_size=2, max_queue_time=0) as batcher:
        assert await batcher.process_many(range(9)) == list(range(9))


async def test_executor_gets_the_function_and_the_batch_and_nothing_else() -> None:
    """Scenario 52. Trap 45."""

    class Static(AsyncBatcher[int, int]):
        @staticmethod
        def process_batch(batch: list[int]) -> list[int]:
            return batch

    executor = Immediate()
    async with Static(executor=executor, max_queue_time=0) as batcher:
        await batcher.process(1)
    ((function, batch),) = executor.given
    assert function is Static.process_batch
    assert (type(batch), batch) == (list, [1])


async def test_cancelled_item_is_never_sent_to_the_executor(pool: ThreadPoolExecutor) -> None:
    """Scenario 15. Trap 3."""
    async with SyncRecorder(executor=pool, max_queue_time=0) as batcher:
        held = await batcher.busy()
        gone, stays = batcher.process("gone"), batcher.process("stays")
        gone.cancel()
        batcher.release()
        assert await finished(held, stays) == ["held", "stays"]
        assert batcher.seen == [["held"], ["stays"]]


async def test_caller_that_leaves_a_batch_in_the_executor_hurts_nobody(
    pool: ThreadPoolExecutor,
) -> None:
    """Scenario 16. Trap 1."""
    async with SyncRecorder(executor=pool, max_batch_size=2, max_queue_time=LONG) as batcher:
        with no_loop_errors():
            batcher.hold()
            gone, stays = batcher.process("gone"), batcher.process("stays")
            await batcher.begun(1)
            gone.cancel()
            batcher.release()
            assert await stays == "stays"


def test_executor_serves_one_asyncio_run_after_another(pool: ThreadPoolExecutor) -> None:
    """Scenario 38."""
    batcher = SyncRecorder(executor=pool, max_queue_time=0)
    assert [run(batcher.call(item)) for item in range(3)] == [0, 1, 2]


def test_executor_works_without_any_loop(pool: ThreadPoolExecutor) -> None:
    """Scenario 44."""
    batcher = SyncRecorder(executor=pool, max_queue_time=0)
    assert batcher.process_threadsafe(1).result(PATIENCE) == 1


async def test_two_batchers_share_an_executor(pool: ThreadPoolExecutor) -> None:
    async with (
        SyncRecorder(executor=pool, max_queue_time=0) as one,
        SyncRecorder(executor=pool, max_queue_time=0) as two,
    ):
        assert await asyncio.gather(one.process_many(range(9)), two.process_many("abc")) == [
            list(range(9)),
            list("abc"),
        ]


class Called:
    """A callable object."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, batch: list[Any]) -> list[Any]:
        result: list[Any] = self.function(batch)
        return result


@pytest.mark.parametrize(
    "form",
    [lambda function: function, functools.partial, Called, lambda f: functools.partial(Called(f))],
    ids=["function", "partial", "object", "partial of an object"],
)
async def test_stop_inside_a_batch_in_an_executor_does_not_wait_for_it(form: Any) -> None:
    """Scenario 30. Nothing of ours runs there, but process_batch is on the stack."""

    def stop(batch: list[Any]) -> list[Any]:
        asyncio.run(asyncio.wait_for(batcher.stop(), PATIENCE))
        return batch

    with ThreadPoolExecutor(1) as executor:
        batcher = SyncRecorder(executor=executor, max_queue_time=0)
        batcher.process_batch = form(stop)  # type: ignore[method-assign]
        assert await batcher.process(1) == 1
        await batcher.stop()


async def test_idle_inside_a_batch_in_an_executor_is_refused() -> None:
    """Scenario 30."""

    def wait(batch: list[Any]) -> list[Any]:
        asyncio.run(asyncio.wait_for(batcher.idle(), PATIENCE))
        return batch

    with ThreadPoolExecutor(1) as executor:
        async with SyncRecorder(wait, executor=executor, max_queue_time=0) as batcher:
            assert isinstance(await outcome(lambda: batcher.process(1)), RuntimeError)


async def test_stop_inside_the_batch_of_another_batcher_waits() -> None:
    """Scenario 30. Of the same class, and with the same code on the stack."""
    with ThreadPoolExecutor(2) as executor:
        other = SyncRecorder(executor=executor, max_queue_time=LONG)
        item = other.process("drained")

        def stop(batch: list[Any]) -> list[Any]:
            asyncio.run(asyncio.wait_for(other.stop(), PATIENCE))
            return [other.items]

        async with SyncRecorder(stop, executor=executor, max_queue_time=0) as batcher:
            assert await batcher.process(1) == ["drained"]
        assert await item == "drained"
