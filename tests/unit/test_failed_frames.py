"""What a failed batch leaves alone: generators and coroutines that caught the error and go on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from async_batcher import AsyncBatcher

if TYPE_CHECKING:
    from collections.abc import Generator

Order = tuple[int, "asyncio.Future[int]"]


async def divide(orders: asyncio.Queue[Order]) -> None:
    """Serve `orders` for ever: the usual loop of a model that has a task of its own."""
    while True:
        item, answer = await orders.get()
        try:
            answer.set_result(10 // item)
        except ZeroDivisionError as error:
            answer.set_exception(error)


def divider() -> Generator[Any, int, None]:
    """Answer what it is sent for ever, with a result or with the exception."""
    answer: Any = None
    while True:
        item = yield answer
        try:
            answer = 10 // item
        except ZeroDivisionError as error:
            answer = error


async def test_coroutine_that_caught_the_error_goes_on_after_the_batch_failed() -> None:
    """Scenario 7. Trap 15."""
    orders: asyncio.Queue[Order] = asyncio.Queue()

    class Divide(AsyncBatcher[int, int]):
        async def process_batch(self, batch: list[int]) -> list[int]:
            answer = asyncio.get_running_loop().create_future()
            orders.put_nowait((batch[0], answer))
            return [await answer]

    serving = asyncio.create_task(divide(orders))
    async with Divide(max_queue_time=0) as batcher:
        with pytest.raises(ZeroDivisionError):
            await batcher.process(0)
        later = batcher.process(5)
        await asyncio.wait({serving, later}, return_when=asyncio.FIRST_COMPLETED)
        assert not serving.done()
        assert await later == 2
    serving.cancel()
    await asyncio.wait([serving])


async def test_generator_that_caught_the_error_goes_on_after_the_batch_failed() -> None:
    """Scenario 7. Trap 15."""
    answers = divider()
    next(answers)

    class Divide(AsyncBatcher[int, int]):
        def process_batch(self, batch: list[int]) -> list[int]:
            answer = answers.send(batch[0])
            if isinstance(answer, Exception):
                raise answer
            return [answer]

    async with Divide(max_queue_time=0) as batcher:
        with pytest.raises(ZeroDivisionError):
            await batcher.process(0)
        assert await batcher.process(5) == 2
