"""Cancellation at each suspension of each coroutine of the batcher, one after the other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from support import Recorder, both, no_loop_errors, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator


class CancelledAt:
    """Awaits a coroutine and has the task cancelled at its k-th suspension."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], k: int) -> None:
        self.coroutine = coroutine
        self.k = k
        self.suspensions = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        step = lambda: self.coroutine.send(None)  # noqa: E731
        while True:
            try:
                awaited = step()
            except StopIteration as end:
                return end.value
            if self.suspensions == self.k:
                task.cancel()
            self.suspensions += 1
            try:
                yield awaited
            except BaseException as error:
                step = lambda error=error: self.coroutine.throw(error)  # type: ignore[misc] # noqa: E731
            else:
                step = lambda: self.coroutine.send(None)  # noqa: E731


async def lifecycle(batcher: Recorder) -> None:
    async with batcher:
        await batcher.process(1)


async def call(batcher: Recorder) -> None:
    await batcher.call(1)


async def stop(batcher: Recorder) -> None:
    batcher.process(1).add_done_callback(lambda f: f.cancelled() or f.exception())
    await batcher.stop()


async def submit(batcher: Recorder) -> None:
    first = await batcher.submit(1)
    second = await batcher.submit(2)
    await asyncio.gather(first, second)


async def many(batcher: Recorder) -> None:
    await batcher.process_many(range(5))
    await batcher.idle()


async def enter_and_fail(batcher: Recorder) -> None:
    try:
        async with batcher:
            batcher.process(1).add_done_callback(lambda f: f.cancelled() or f.exception())
            raise LookupError
    except LookupError:
        pass


@both
@pytest.mark.parametrize("use", [lifecycle, call, stop, submit, many, enter_and_fail])
async def test_invariants_hold_wherever_the_cancellation_strikes(
    kind: type[Recorder], use: Callable[[Recorder], Coroutine[Any, Any, None]]
) -> None:
    """Scenario 18."""
    for k in range(100):
        with no_loop_errors():
            batcher = kind(max_queue_time=0, max_queue_size=5, max_batch_size=2)
            harness = CancelledAt(use(batcher), k)

            async def drive(harness: CancelledAt = harness) -> None:
                await harness

            task = asyncio.create_task(drive())
            await asyncio.wait([task])
            await batcher.idle()
            stats = batcher.stats
            assert (stats.queued, stats.running) == (0, 0)
            assert stats.submitted == stats.completed + stats.failed + stats.cancelled
            await batcher.stop()
            await settle(3)
        if harness.suspensions <= k:
            return
    pytest.fail("more than 100 suspensions")
