"""Task factories that fail halfway: the batch is over for good, and its callers know."""

from __future__ import annotations

import asyncio
import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support import LONG, LOOP_NAME, AsyncRecorder, finished, new_loop, run, settle, told

from async_batcher import BatchCancelledError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Halfway:
    """A task factory that makes the task and then raises, while `fails`."""

    def __init__(self) -> None:
        self.fails = False
        self.made: list[asyncio.Task[Any]] = []

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
        if self.fails:
            self.made.append(task)
            raise LookupError("halfway")
        return task


@contextmanager
def failing_factory() -> Iterator[Halfway]:
    """Give the running loop such a task factory."""
    loop = asyncio.get_running_loop()
    halfway = Halfway()
    loop.set_task_factory(halfway)
    yield halfway
    loop.set_task_factory(None)


async def fail(batcher: AsyncRecorder, factory: Halfway) -> list[Any]:
    """Return what the callers get of a batch whose task cannot be had."""
    factory.fails = True
    futures = [batcher.process(item) for item in range(3)]
    answers = await finished(*futures)
    factory.fails = False
    await asyncio.wait(factory.made)
    for task in factory.made:
        told(task)  # or its exception would be reported as never retrieved
    return answers


async def test_callers_get_the_error_of_the_task_factory() -> None:
    """Trap 11."""
    with failing_factory() as factory:
        async with AsyncRecorder(max_queue_time=0) as batcher:
            answers = await fail(batcher, factory)
            assert [type(answer) for answer in answers] == [LookupError] * 3


async def test_batch_whose_task_factory_failed_is_never_run() -> None:
    """Trap 11."""
    with failing_factory() as factory:
        async with AsyncRecorder(max_queue_time=0) as batcher:
            await fail(batcher, factory)
            await settle()
            assert batcher.seen == []


async def test_batch_whose_task_factory_failed_gives_its_permit_back() -> None:
    """Trap 11."""
    with failing_factory() as factory:
        async with AsyncRecorder(max_queue_time=0) as batcher:
            await fail(batcher, factory)
            assert await batcher.process("fine") == "fine"
            await batcher.idle()
            assert (batcher.peak, batcher.stats.running) == (1, 0)


async def test_batch_whose_task_factory_fails_for_long_is_refused_in_pieces() -> None:
    """Trap 11. Each piece in an iteration of its own: no deep recursion."""
    with failing_factory() as factory:
        async with AsyncRecorder(max_queue_time=LONG, max_batch_size=2) as batcher:
            batcher.hold()
            first = batcher.process_many(range(2))
            await settle()
            factory.fails = True
            rest = [batcher.process(item) for item in range(4000)]
            batcher.release()
            assert await first == [0, 1]
            answers = await finished(*rest)
            factory.fails = False
            assert {type(answer) for answer in answers} == {LookupError}
            for task in factory.made:
                told(task)


class Dropper:
    """A task factory that does not run what it is given, while `drops`."""

    drops = True

    def __init__(self, closes: bool) -> None:
        self.closes = closes

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Future[Any]:
        if not self.drops:
            return asyncio.Task(coroutine, loop=loop, **options)
        if self.closes:
            coroutine.close()
        return asyncio.Task(asyncio.sleep(0), loop=loop)  # asyncio itself gives it a name


@pytest.mark.parametrize("closes", [True, False])
async def test_batch_that_a_task_factory_drops_is_rejected(closes: bool) -> None:
    """Trap 11."""
    async with AsyncRecorder(max_queue_time=0) as batcher:
        dropper = Dropper(closes)
        asyncio.get_running_loop().set_task_factory(dropper)
        future = batcher.process(1)
        dropper.drops = False
        with pytest.raises(BatchCancelledError):
            await future
        assert await batcher.process("fine") == "fine"


# ---- a task that was started for a batch and has not cut it yet ----


def unstarted() -> list[asyncio.Task[Any]]:
    """Every task of the running loop but the current one."""
    return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_items_survive_the_cancellation_of_a_task_that_has_not_cut() -> None:
    """Scenario 22."""
    async with AsyncRecorder(max_queue_time=0) as batcher:
        future = batcher.process(1)
        for task in unstarted():
            task.cancel()
        assert await future == 1
        assert batcher.seen == [[1]]


async def test_batch_grows_until_its_task_runs() -> None:
    """Trap 19."""
    async with AsyncRecorder(max_queue_time=0) as batcher:
        futures = [batcher.process(1)]
        asyncio.get_running_loop().call_soon(lambda: futures.append(batcher.process(2)))
        await finished(*futures)
        await finished(*futures)
        assert batcher.items == [1, 2]


async def test_callers_that_come_back_at_once_share_the_next_batch() -> None:
    """Trap 20. They are told before the next batch is cut, though there is no window."""

    async def caller() -> None:
        for item in range(5):
            await batcher.process(item)

    async with AsyncRecorder(max_queue_time=0) as batcher:
        await asyncio.gather(*(caller() for _ in range(10)))
        assert [len(batch) for batch in batcher.seen] == [10] * 5


@pytest.mark.skipif(LOOP_NAME == "uvloop", reason="it goes round once more before it stops")
def test_loop_closed_over_a_task_that_has_not_cut_is_silent() -> None:
    """Scenario 36. But for the one warning of items that are left."""
    batcher = AsyncRecorder(max_queue_time=0)
    loop = new_loop()
    errors: list[Any] = []
    loop.set_exception_handler(lambda _loop, context: errors.append(context))

    def leave() -> None:
        batcher.process(1)
        raise SystemExit  # which ends the loop at once

    loop.call_soon(leave)
    with pytest.raises(SystemExit):
        loop.run_forever()
    with pytest.warns(ResourceWarning, match="1 item"):
        loop.close()
    gc.collect()
    assert errors == []
    assert run(batcher.call(2)) == 2
