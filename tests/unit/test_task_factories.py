"""Task factories that fail halfway: the batch is over for good, and its callers know."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from support import AsyncRecorder, finished, settle, told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


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


@pytest.fixture
async def factory() -> AsyncIterator[Halfway]:
    """Give the running loop such a task factory."""
    halfway = Halfway()
    asyncio.get_running_loop().set_task_factory(halfway)
    yield halfway
    asyncio.get_running_loop().set_task_factory(None)


async def fail(batcher: AsyncRecorder, factory: Halfway) -> list[Any]:
    """Return what the callers get of a batch whose task cannot be had."""
    futures = [batcher.process(item) for item in range(3)]
    factory.fails = True
    batcher.flush()
    answers = await finished(*futures)
    factory.fails = False
    await asyncio.wait(factory.made)
    for task in factory.made:
        told(task)  # or its exception would be reported as never retrieved
    return answers


async def test_callers_get_the_error_of_the_task_factory(factory: Halfway) -> None:
    """Trap 11."""
    async with AsyncRecorder(max_queue_time=0) as batcher:
        answers = await fail(batcher, factory)
        assert [type(answer) for answer in answers] == [LookupError] * 3


async def test_batch_whose_task_factory_failed_is_never_run(factory: Halfway) -> None:
    """Trap 11."""
    async with AsyncRecorder(max_queue_time=0) as batcher:
        await fail(batcher, factory)
        await settle()
        assert batcher.seen == []


async def test_batch_whose_task_factory_failed_gives_its_permit_back(factory: Halfway) -> None:
    """Trap 11."""
    async with AsyncRecorder(max_queue_time=0) as batcher:
        await fail(batcher, factory)
        assert await batcher.process("fine") == "fine"
        await batcher.idle()
        assert (batcher.peak, batcher.stats.running) == (1, 0)
