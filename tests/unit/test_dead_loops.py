"""What a dead loop left behind is collected while another one works: it takes nothing along."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from support import (
    LONG,
    LOOP_NAME,
    PATIENCE,
    AsyncRecorder,
    SyncRecorder,
    collected,
    new_loop,
    run,
    settle,
)

from async_batcher import AsyncBatcher, BatchCancelledError

if TYPE_CHECKING:
    from collections.abc import Coroutine

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def leave(batcher: AsyncRecorder) -> asyncio.AbstractEventLoop:
    """Return a loop that has stopped between making a batch's task and its first step."""
    loop = new_loop()

    async def main() -> None:
        loop.call_soon(batcher.process, "dead")

    loop.run_until_complete(main())
    return loop


def test_batch_is_sent_though_the_task_of_a_dead_loop_is_collected() -> None:
    """Scenario 36. Scenario 86. Guarantee 1."""
    batcher = AsyncRecorder(max_queue_time=0)
    leave(batcher).close()

    async def main() -> Any:
        future = batcher.process("alive")
        gc.collect()
        return await future

    assert run(main()) == "alive"


def test_batch_is_sent_though_another_loop_closes_over_a_task_of_its_own() -> None:
    """Scenario 36. Scenario 86. Guarantee 1."""
    batcher = AsyncRecorder(max_queue_time=0)
    loops = [leave(batcher)]

    async def main() -> Any:
        future = batcher.process("alive")
        loops.pop().close()
        gc.collect()
        return await future

    assert run(main()) == "alive"


@pytest.mark.skipif(LOOP_NAME == "uvloop", reason="it goes round once more before it stops")
def test_caller_that_was_admitted_on_a_loop_that_died_is_closed_in_silence() -> None:
    """Scenario 36. Trap 5. It goes as asyncio leaves it: its coroutine is closed with its task."""
    batcher = AsyncRecorder(max_queue_time=LONG, max_queue_size=1)
    loop = new_loop()
    loop.set_exception_handler(lambda _loop, context: None)  # of the tasks it is closed over

    async def begin() -> list[Coroutine[Any, Any, Any]]:
        batcher.process("queued")
        waiting = [batcher.submit("admitted"), batcher.submit("waits")]
        tasks.extend(map(loop.create_task, waiting))
        await settle()
        return waiting

    def admit() -> None:
        batcher.max_queue_size = 2
        loop.stop()

    tasks: list[asyncio.Task[Any]] = []
    waiting = loop.run_until_complete(begin())
    loop.call_soon(admit)
    loop.run_forever()
    assert batcher.stats.queued == 2
    loop.close()
    for coroutine in waiting:
        coroutine.close()
    assert batcher.stats.queued == 0


def test_callers_without_a_loop_are_told_though_there_is_no_memory_for_their_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scenario 36. Scenario 68. Guarantee 4."""
    begun, never = asyncio.Event(), asyncio.Event()

    class Held(AsyncBatcher[str, str]):
        async def process_batch(self, batch: list[str]) -> list[str]:
            begun.set()
            await never.wait()
            return batch

    def refuse(*_args: Any) -> None:
        raise MemoryError

    async def begin() -> None:
        batcher.process("runs as well")  # this loop is the host
        waiting.append(batcher.process_threadsafe("runs"))
        await begun.wait()
        waiting.append(batcher.process_threadsafe("queued"))

    batcher = Held(max_queue_time=0)
    waiting: list[Any] = []
    loop = new_loop()
    loop.set_exception_handler(lambda _loop, context: None)  # of the task it is closed over
    loop.run_until_complete(begin())
    with monkeypatch.context() as patch:
        patch.setattr(BatchCancelledError, "__init__", refuse)
        loop.close()
    assert [type(each.exception(PATIENCE)) for each in waiting] == [MemoryError] * 2


def test_batcher_whose_stop_waited_on_a_loop_that_closed_is_collected() -> None:
    """Scenario 35. Scenario 86. Its last worker leaves after that loop."""

    def leave() -> weakref.ref[Any]:
        batcher = SyncRecorder(max_queue_time=0)
        batcher.hold()

        async def main() -> None:
            batcher.process(1)
            await batcher.begun(1)
            stopping = asyncio.ensure_future(batcher.stop())
            stopping._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001
            await settle()

        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
        batcher.release()
        return weakref.ref(batcher)

    run(collected(leave()))
