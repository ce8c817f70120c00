"""One loop after another: closed, stopped, left open."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from support import (
    LONG,
    AsyncRecorder,
    Item,
    Recorder,
    SyncRecorder,
    both,
    new_loop,
    run,
    settle,
    told,
)

if TYPE_CHECKING:
    from conftest import Clock

loses_work = pytest.mark.filterwarnings("ignore::ResourceWarning")
cancelled_at_the_end = pytest.mark.thread_unsafe(reason="asyncio.run looks at all threads")


@both
def test_same_batcher_works_in_one_run_after_another(kind: type[Recorder]) -> None:
    """Scenario 38. Trap 42."""
    batcher = kind(max_queue_time=0.001)
    assert [run(batcher.call(item)) for item in range(5)] == list(range(5))


@both
def test_items_of_a_closed_loop_are_released(kind: type[Recorder]) -> None:
    """Scenario 36. Guarantee 1."""
    batcher = kind(max_queue_time=LONG)

    async def begin() -> weakref.ref[Item]:
        item = Item()
        batcher.process(item)
        return weakref.ref(item)

    loop = new_loop()
    reference = loop.run_until_complete(begin())
    assert reference() is not None
    with pytest.warns(ResourceWarning):
        loop.close()
    gc.collect()
    assert reference() is None


@loses_work
@both
def test_items_of_a_closed_loop_are_never_sent(kind: type[Recorder]) -> None:
    """Scenario 36. Trap 42."""
    batcher = kind(max_queue_time=LONG)

    async def begin() -> None:
        batcher.process("dead")

    loop = new_loop()
    loop.run_until_complete(begin())
    loop.close()

    async def main() -> Any:
        async with batcher:
            future = batcher.process("alive")
            batcher.flush()
            return await future

    assert run(main()) == "alive"
    assert batcher.seen == [["alive"]]


@loses_work
def test_sync_batch_of_a_closed_loop_ends_and_gives_its_permit_back() -> None:
    """Scenario 36. Scenario 37."""
    batcher = SyncRecorder(max_queue_time=0)
    references: list[weakref.ref[Item]] = []

    async def begin() -> None:
        item = Item()
        references.append(weakref.ref(item))
        batcher.hold()
        batcher.process(item)
        del item
        await batcher.begun(1)

    loop = new_loop()
    loop.run_until_complete(begin())
    loop.close()
    batcher.seen.clear()
    batcher.release()
    assert run(batcher.call(2)) == 2
    run(batcher.stop())
    gc.collect()
    assert references[0]() is None
    assert batcher.stats.running == 0


@loses_work
def test_answer_to_a_stopped_loop_that_is_then_closed_leaks_nothing() -> None:
    """Scenario 37."""
    batcher = SyncRecorder(max_queue_time=0)

    async def begin() -> tuple[asyncio.Future[Any], weakref.ref[Item]]:
        item = Item()
        batcher.hold()
        future = batcher.process(item)
        await batcher.begun(1)
        return future, weakref.ref(item)

    loop = new_loop()
    future, reference = loop.run_until_complete(begin())
    batcher.release()
    batcher.seen.clear()
    other = new_loop()
    assert other.run_until_complete(batcher.call(2)) == 2
    loop.close()
    other.close()
    del future
    run(batcher.stop())
    gc.collect()
    assert reference() is None


@cancelled_at_the_end
@loses_work
def test_asyncio_run_ends_with_work_pending() -> None:
    """Trap 41."""
    batcher = AsyncRecorder(max_queue_time=LONG)
    answers: list[Any] = []

    async def caller() -> None:
        try:
            await batcher.process(1)
        except BaseException as error:
            answers.append(type(error))
            raise

    async def main() -> str:
        tasks = [asyncio.create_task(caller()) for _ in range(3)]
        await settle()
        return f"left {len(tasks)} tasks"

    assert run(main()) == "left 3 tasks"
    assert answers == [asyncio.CancelledError] * 3


@cancelled_at_the_end
@loses_work
def test_asyncio_run_that_ends_under_an_async_batch_costs_no_permit() -> None:
    """Trap 41."""
    batcher = AsyncRecorder(max_queue_time=0)

    async def main() -> asyncio.Future[Any]:
        return await batcher.busy()

    future = run(main())
    if future.done():
        told(future)
    batcher.release()
    assert run(batcher.call(2)) == 2


@loses_work
@both
@pytest.mark.parametrize("rounds", range(6))
def test_loop_that_stops_anywhere_before_the_answer_costs_no_permit(
    kind: type[Recorder], rounds: int
) -> None:
    """Scenario 86."""
    batcher = kind(max_queue_time=0)

    async def begin() -> None:
        batcher.process("dead")
        await settle(rounds)

    run(begin())
    assert run(batcher.call("alive")) == "alive"
    run(batcher.stop())
    assert batcher.stats.running == 0


@loses_work
def test_loop_that_is_closed_between_hint_and_cut_costs_no_permit(clock: Clock) -> None:
    """Scenario 86."""
    batcher = AsyncRecorder(max_queue_time=1)

    async def begin() -> None:
        batcher.process("dead")
        clock.advance(2)

    loop = new_loop()
    loop.run_until_complete(begin())
    loop.close()
    batcher.max_queue_time = 0
    assert run(batcher.call("alive")) == "alive"


def test_loop_left_open_holds_nobody_up_and_works_when_it_runs_again() -> None:
    """Scenario 87."""
    batcher = AsyncRecorder(max_batch_size=2, max_queue_time=LONG)
    first = new_loop()

    async def begin() -> asyncio.Future[Any]:
        return batcher.process("first")

    try:
        future = first.run_until_complete(begin())
        assert run(batcher.call("second")) == "second"
        assert first.run_until_complete(future) == "first"
    finally:
        first.close()
    assert batcher.seen == [["first", "second"]]


@both
def test_other_loops_go_on_while_one_is_left_open(kind: type[Recorder]) -> None:
    """Scenario 87. Scenario 86."""
    batcher = kind(max_queue_time=0, concurrency=2)
    first, other = new_loop(), new_loop()

    async def begin() -> asyncio.Future[Any]:
        await batcher.process("warm")
        return batcher.process("first")

    try:
        future = first.run_until_complete(begin())
        assert other.run_until_complete(batcher.call("second")) == "second"
        assert first.run_until_complete(future) == "first"
    finally:
        first.close()
        other.close()


@both
def test_loop_that_runs_again_keeps_its_batcher(kind: type[Recorder]) -> None:
    """Scenario 87."""
    batcher = kind(max_queue_time=0)
    loop = new_loop()
    try:
        for item in range(5):
            assert loop.run_until_complete(batcher.call(item)) == item
    finally:
        loop.close()


@both
def test_two_hundred_short_loops_leave_no_fds(kind: type[Recorder]) -> None:
    """Scenario 45."""
    batcher = kind(max_queue_time=0.0001)
    for item in range(200):
        assert run(batcher.call(item)) == item


@loses_work
def test_two_hundred_loops_closed_under_pending_work_leave_no_fds() -> None:
    """Scenario 45. Scenario 90."""
    batcher = AsyncRecorder(max_queue_time=LONG)

    async def begin() -> None:
        batcher.process(1)

    for _ in range(200):
        loop = new_loop()
        loop.run_until_complete(begin())
        loop.close()
    gc.collect()
    assert batcher.stats.queued == 0


@loses_work
def test_sockets_on_the_fds_of_a_closed_loop_stay_silent(clock: Clock) -> None:
    """Scenario 46. Scenario 90."""
    batcher = AsyncRecorder(max_queue_time=1)

    async def begin() -> None:
        batcher.process(1)
        await settle(2)

    loop = new_loop()
    loop.run_until_complete(begin())
    loop.close()
    pairs = [socket.socketpair() for _ in range(20)]
    try:
        clock.advance(5)

        async def talk() -> list[bytes]:
            running = asyncio.get_running_loop()
            for left, right in pairs:
                left.setblocking(False)
                right.setblocking(False)
            other = asyncio.ensure_future(batcher.process(2))
            clock.advance(5)
            await other
            for left, _ in pairs:
                await running.sock_sendall(left, b"x")
            return [await running.sock_recv(right, 10) for _, right in pairs]

        assert run(talk()) == [b"x"] * 20
        for left, _ in pairs:
            with pytest.raises(BlockingIOError):
                left.recv(1)
    finally:
        for left, right in pairs:
            left.close()
            right.close()
