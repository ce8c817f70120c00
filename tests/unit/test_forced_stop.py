"""A forced stop of thousands of callers: nobody waits when it returns."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from support import LONG, TIMEOUTS, AsyncRecorder, new_loop, outcome

from async_batcher import BatcherStoppedError, DynamicBatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Way = Callable[[AsyncRecorder], Coroutine[Any, Any, None]]

CALLERS = 5_000
"""More than a loop is told in one iteration."""


async def by_force(batcher: AsyncRecorder) -> None:
    """Stop without waiting."""
    await batcher.stop(force=True)


async def by_timeout(batcher: AsyncRecorder) -> None:
    """Stop while a batch is held."""
    with pytest.raises(TIMEOUTS):
        await batcher.stop(timeout=0)


async def by_cancellation(batcher: AsyncRecorder) -> None:
    """Cancel a stop that waits for the held batch."""
    task = asyncio.create_task(batcher.stop())
    await asyncio.sleep(0)
    task.cancel()
    assert isinstance(await outcome(lambda: task), asyncio.CancelledError)


async def by_an_error(batcher: AsyncRecorder) -> None:
    """Leave a block by an error."""
    with pytest.raises(LookupError):
        async with batcher:
            raise LookupError


ways = pytest.mark.parametrize("way", [by_force, by_timeout, by_cancellation, by_an_error])


@ways
async def test_nobody_waits_when_a_forced_stop_returns(way: Way) -> None:
    """Scenario 26. Trap 36. However many they are, queued and running."""
    batcher = AsyncRecorder(max_batch_size=CALLERS, max_queue_time=0)
    futures = [batcher.process(item) for item in range(CALLERS)]
    await batcher.busy()
    futures += [batcher.process(item) for item in range(CALLERS)]
    many = batcher.process_many(range(CALLERS))
    await way(batcher)
    assert {type(future.exception()) for future in (*futures, many)} == {BatcherStoppedError}


def test_loop_may_close_after_a_forced_stop() -> None:
    """Scenario 26. Everybody was told before."""
    loop = new_loop()

    async def begin() -> tuple[AsyncRecorder, list[asyncio.Future[Any]]]:
        batcher = AsyncRecorder(max_queue_time=LONG)
        return batcher, [batcher.process(item) for item in range(CALLERS)]

    batcher, futures = loop.run_until_complete(begin())
    loop.run_until_complete(batcher.stop(force=True))
    loop.close()
    assert {type(future.exception()) for future in futures} == {BatcherStoppedError}


async def test_nobody_waits_when_a_dynamic_block_is_left_by_an_error() -> None:
    """Scenario 32."""
    batcher: DynamicBatcher[int, int] = DynamicBatcher(
        list, batch_timeout_s=LONG, max_queue_size=0, max_batch_size=-1
    )
    futures: list[asyncio.Future[Any]] = []

    async def block() -> None:
        async with batcher:
            futures.extend(await batcher.submit_batch(range(CALLERS)))
            raise LookupError

    assert isinstance(await outcome(block), LookupError)
    assert {type(future.exception()) for future in futures} == {BatcherStoppedError}
