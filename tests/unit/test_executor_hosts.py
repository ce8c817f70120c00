"""Between a batcher and its `executor=`: who sends a batch there, and what comes back."""

from __future__ import annotations

import concurrent.futures
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from support import PATIENCE, SyncRecorder, new_loop, outcome

from async_batcher import BatchCancelledError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """A pool of two threads."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


def answer_of(future: concurrent.futures.Future[Any]) -> Any:
    """Return its result, or what keeps it from having one before long."""
    try:
        return future.result(PATIENCE)
    except BaseException as error:
        return error


@pytest.mark.parametrize("window", [0, 0.002])
def test_plain_code_is_served_while_the_only_loop_is_stopped(
    pool: ThreadPoolExecutor, window: float
) -> None:
    """Scenario 87. Scenario 44."""
    batcher = SyncRecorder(max_queue_time=window, executor=pool)
    loop = new_loop()
    try:
        assert loop.run_until_complete(batcher.call(1)) == 1
        assert answer_of(batcher.process_threadsafe(2)) == 2
    finally:
        loop.close()


def test_item_without_a_loop_is_served_though_the_only_loop_stops_in_its_window(
    pool: ThreadPoolExecutor,
) -> None:
    """Scenario 86. Scenario 44."""
    batcher = SyncRecorder(max_queue_time=0.05, executor=pool)

    async def leave() -> concurrent.futures.Future[Any]:
        await batcher.process(1)
        return batcher.process_threadsafe(2)

    loop = new_loop()
    try:
        assert answer_of(loop.run_until_complete(leave())) == 2
    finally:
        loop.close()


class Early(Executor):
    """Calls back before its future is done, and never ends it."""

    def submit(self, function: Any, *args: Any, **options: Any) -> Any:
        class Lying(Future[Any]):
            def add_done_callback(self, callback: Any) -> None:
                callback(self)

        return Lying()


async def test_executor_that_calls_back_too_early_does_not_hold_the_loop() -> None:
    """Scenario 33. The callers get an error at once; to ask for its result would be to wait."""
    async with SyncRecorder(executor=Early(), max_queue_time=0) as batcher:
        assert isinstance(await outcome(lambda: batcher.process(1)), BatchCancelledError)
