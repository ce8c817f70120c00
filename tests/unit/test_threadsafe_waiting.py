"""Who waits for futures of `process_threadsafe`: with `wait`, `as_completed`, or a dead loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from support import LONG, PATIENCE, AsyncRecorder, SyncRecorder, new_loop, run

from async_batcher import BatchCancelledError

if TYPE_CHECKING:
    from conftest import Clock


def is_seen(future: concurrent.futures.Future[Any]) -> bool:
    """Tell whether those who wait for `future` know now that it is done."""
    done, _ = concurrent.futures.wait([future], timeout=0)
    return future in done


def test_cancelled_future_is_seen_by_wait_once_its_batch_is_cut() -> None:
    """Scenario 15. Scenario 44."""
    batcher = SyncRecorder(max_queue_time=LONG)
    cancelled, stays = batcher.process_threadsafe(1), batcher.process_threadsafe(2)
    assert cancelled.cancel()
    batcher.flush()
    assert stays.result(PATIENCE) == 2
    assert is_seen(cancelled)


def test_cancelled_future_is_seen_by_wait_once_stats_are_read() -> None:
    """Scenario 15. Scenario 44."""
    batcher = SyncRecorder(max_queue_time=LONG)
    cancelled, stays = batcher.process_threadsafe(1), batcher.process_threadsafe(2)
    assert cancelled.cancel()
    assert batcher.stats.cancelled == 1
    assert is_seen(cancelled)
    run(batcher.stop())
    assert stays.result(0) == 2


def test_cancelled_future_is_seen_by_wait_after_a_forced_stop() -> None:
    """Scenario 26. Scenario 44."""
    batcher = SyncRecorder(max_queue_time=LONG)
    cancelled = batcher.process_threadsafe(1)
    assert cancelled.cancel()
    run(batcher.stop(force=True))
    assert is_seen(cancelled)


def test_all_futures_of_a_queue_are_seen_by_wait_after_a_forced_stop() -> None:
    """Scenario 26. Scenario 44."""
    batcher = SyncRecorder(max_queue_time=LONG)
    futures = [batcher.process_threadsafe(item) for item in range(3)]
    assert futures[1].cancel()
    run(batcher.stop(force=True))
    assert all(map(is_seen, futures))


def test_cancelled_future_is_yielded_by_as_completed() -> None:
    """Scenario 15. Scenario 44."""
    batcher = SyncRecorder(max_queue_time=LONG)
    futures = [batcher.process_threadsafe(item) for item in range(3)]
    assert futures[1].cancel()
    batcher.flush()
    assert futures[2].result(PATIENCE) == 2
    assert set(concurrent.futures.as_completed(futures, timeout=PATIENCE)) == set(futures)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_item_of_a_loop_that_closes_before_it_is_served_fails() -> None:
    """Trap 42. Scenario 44."""
    batcher = AsyncRecorder(max_queue_time=LONG)

    async def main() -> concurrent.futures.Future[Any]:
        first = batcher.process(1)
        batcher.flush()
        assert await first == 1
        return batcher.process_threadsafe(2)

    left = run(main())
    assert isinstance(left.exception(PATIENCE), BatchCancelledError)


def test_async_batcher_whose_only_loop_closed_while_idle_refuses_other_threads() -> None:
    """Trap 42. Scenario 44."""
    batcher = AsyncRecorder(max_queue_time=0)
    assert run(batcher.call(1)) == 1
    with pytest.raises(RuntimeError):
        batcher.process_threadsafe(2).result(PATIENCE)
    assert batcher.stats.queued == 0


def test_executor_serves_other_threads_after_the_only_loop_closed_while_idle() -> None:
    """Trap 42. Scenario 44."""
    with ThreadPoolExecutor(1) as executor:
        batcher = SyncRecorder(max_queue_time=0, executor=executor)
        assert run(batcher.call(1)) == 1
        assert batcher.process_threadsafe(2).result(PATIENCE) == 2


def test_idle_loop_serves_other_threads_while_the_home_loop_is_stopped(clock: Clock) -> None:
    """Scenario 87. Scenario 44."""
    batcher = AsyncRecorder(max_queue_time=0)
    home, idle = new_loop(), new_loop()
    thread = threading.Thread(target=idle.run_forever)
    thread.start()

    async def meet() -> None:
        batcher.process("cancelled").cancel()
        assert batcher.stats.queued == 0

    try:
        assert home.run_until_complete(batcher.call(1)) == 1
        asyncio.run_coroutine_threadsafe(meet(), idle).result(PATIENCE)
        assert home.run_until_complete(batcher.call(2)) == 2
        future = batcher.process_threadsafe(3)
        for _ in range(3000):  # PATIENCE
            clock.advance(0.02)  # a loop that does not answer is asked again, and others too
            if concurrent.futures.wait([future], timeout=0.01).done:
                break
        assert future.result(0) == 3
    finally:
        idle.call_soon_threadsafe(idle.stop)
        thread.join()
        idle.close()
        home.close()
