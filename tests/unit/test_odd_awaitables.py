"""What an async process_batch returns is awaitable, and no coroutine."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

from support import settle, soon

from async_batcher import AsyncBatcher, BatchCancelledError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Endless:
    """An awaitable whose iterator takes no exception: it has no throw()."""

    def __await__(self) -> Iterator[None]:
        return itertools.repeat(None)


class Compiled:
    """An async function as a compiler makes it: `inspect` knows it by its code."""

    def __init__(self, function: Any) -> None:
        self.__name__ = function.__name__
        self.__code__ = function.__code__
        self.__defaults__ = self.__kwdefaults__ = None
        self.__annotations__: dict[str, Any] = {}

    def __call__(self, batch: list[Any]) -> Endless:
        return Endless()


async def pattern(batch: list[Any]) -> list[Any]:
    """Give `Compiled` its looks."""
    return batch


class Odd(AsyncBatcher[Any, Any]):
    process_batch: Any = Compiled(pattern)


async def cancelled() -> tuple[asyncio.Future[Any], asyncio.Task[Any]]:
    """Return the future of a batch that is being cancelled, and its task."""
    future = Odd(max_queue_time=0).process(1)
    await settle()
    (task,) = asyncio.all_tasks() - {asyncio.current_task()}
    assert not future.done()
    task.cancel()
    return future, task


async def test_task_that_takes_no_exception_ends_cancelled() -> None:
    """Scenario 22."""
    _, task = await cancelled()
    await soon(task)
    assert task.cancelled()


async def test_callers_of_a_task_that_takes_no_exception_know_of_its_cancellation() -> None:
    """Scenario 22."""
    future, _ = await cancelled()
    (answer,) = await soon(future)
    assert isinstance(answer, BatchCancelledError)
