"""Many loops in many threads at once, sharing one batcher."""

from __future__ import annotations

import asyncio
import threading
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
    in_threads,
    outcome,
    run,
    settle,
)


@both
def test_loops_in_threads_share_one_batcher(kind: type[Recorder]) -> None:
    """Scenario 39. Trap 47."""
    batcher = kind(max_queue_time=0.001, max_batch_size=64)
    done = threading.Barrier(8)

    async def main(index: int) -> None:
        loop = asyncio.get_running_loop()
        items = [(index, number) for number in range(500)]
        answers = []
        for start in range(0, 500, 100):
            answers += await finished(*map(batcher.process, items[start : start + 100]))
        assert answers == items
        await loop.run_in_executor(None, done.wait, PATIENCE)

    in_threads(8, lambda index: run(main(index)))
    assert sorted(batcher.items) == [(i, n) for i in range(8) for n in range(500)]


@both
def test_every_future_is_told_on_the_thread_of_its_own_loop(kind: type[Recorder]) -> None:
    """Scenario 39."""
    batcher = kind(max_queue_time=0.001)
    done = threading.Barrier(4)

    async def main(index: int) -> None:
        threads: list[int] = []
        futures = [batcher.process(number) for number in range(100)]
        for future in futures:
            future.add_done_callback(lambda f: threads.append(threading.get_ident()))
        await finished(*futures)
        await settle(3)
        assert threads == [threading.get_ident()] * 100
        await asyncio.to_thread(done.wait, PATIENCE)

    in_threads(4, lambda index: run(main(index)))


@both
def test_items_of_two_loops_go_in_one_batch(kind: type[Recorder]) -> None:
    """Scenario 39."""
    batcher = kind(max_batch_size=2, max_queue_time=LONG)
    done = threading.Barrier(2)

    async def main(index: int) -> None:
        assert await batcher.process(index) == index
        await asyncio.to_thread(done.wait, PATIENCE)

    in_threads(2, lambda index: run(main(index)))
    assert [sorted(batch) for batch in batcher.seen] == [[0, 1]]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_loop_that_closes_before_its_answer_hurts_no_other() -> None:
    """Trap 43. Scenario 36."""
    batcher = SyncRecorder(max_batch_size=2, max_queue_time=LONG)
    batcher.hold()

    async def leave() -> None:
        batcher.process("gone")
        await batcher.begun(1)

    async def stay() -> Any:
        thread = threading.Thread(target=lambda: run(leave()))
        future = batcher.process("stays")
        thread.start()
        await batcher.begun(1)
        await asyncio.to_thread(thread.join)
        batcher.release()
        return await future

    assert run(stay()) == "stays"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@both
def test_queued_items_outlive_the_loop_that_came_first(kind: type[Recorder]) -> None:
    """Trap 43. Scenario 86."""
    batcher = kind(max_queue_time=LONG)

    async def leave() -> None:
        batcher.process("gone")
        await settle(3)

    async def stay() -> Any:
        thread = threading.Thread(target=lambda: run(leave()))
        thread.start()
        await asyncio.to_thread(thread.join)
        future = batcher.process("stays")
        batcher.flush()
        return await future

    assert run(stay()) == "stays"
    assert batcher.seen == [["stays"]]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_window_is_kept_for_a_loop_whose_home_loop_has_gone() -> None:
    """Trap 43. Guarantee 4."""
    batcher = AsyncRecorder(max_queue_time=0.05)
    home_has_item, other_has_item = threading.Event(), threading.Event()
    answers: list[Any] = []

    async def home() -> None:
        batcher.process("home")
        home_has_item.set()
        other_has_item.wait(PATIENCE)

    async def other() -> None:
        home_has_item.wait(PATIENCE)
        future = batcher.process("other")
        other_has_item.set()
        answers.append(await outcome(lambda: future))

    in_threads(2, lambda index: run(other() if index else home()))
    assert answers == ["other"]


@both
def test_churn_of_loops_in_threads_loses_nothing(kind: type[Recorder]) -> None:
    """Scenario 39. Scenario 45."""
    batchers = [kind(max_queue_time=0.0001) for _ in range(6)]

    def churn(index: int) -> None:
        for number in range(30):
            assert run(batchers[index].call(number)) == number

    in_threads(6, churn)


def test_sync_batcher_serves_loops_that_come_and_go() -> None:
    """Scenario 39. Trap 43."""
    batcher = SyncRecorder(max_queue_time=0.0001, max_batch_size=8)

    async def main(index: int) -> list[Any]:
        return await batcher.process_many([index] * 5)

    def churn(index: int) -> None:
        for _ in range(20):
            assert run(main(index)) == [index] * 5

    in_threads(6, churn)
    run(batcher.stop())
    assert (batcher.stats.queued, batcher.stats.running) == (0, 0)


def test_first_sync_item_beside_a_busy_loop_is_answered() -> None:
    """Scenario 94. Guarantee 4."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with SyncRecorder(max_queue_time=0) as batcher:
            future = batcher.process(1)

            def spin() -> None:
                end = time.perf_counter() + 0.002
                while time.perf_counter() < end:
                    pass
                if not future.done():
                    loop.call_soon(spin)

            loop.call_soon(spin)
            assert await future == 1

    run(main())


def test_two_busy_loops_and_a_sync_batch_all_go_on() -> None:
    """Scenario 95. A loop that others kept from its turns would not come to its end."""
    batcher = SyncRecorder(max_queue_time=0)
    answered = threading.Barrier(2)

    async def main(index: int) -> None:
        loop = asyncio.get_running_loop()
        stop = False

        def spin() -> None:
            end = time.perf_counter() + 0.001
            while time.perf_counter() < end:
                pass
            if not stop:
                loop.call_soon(spin)

        loop.call_soon(spin)
        for number in range(3):
            assert await batcher.process((index, number)) == (index, number)
        stop = True
        await asyncio.to_thread(answered.wait, PATIENCE)

    in_threads(2, lambda index: run(main(index)))
    run(batcher.stop())
