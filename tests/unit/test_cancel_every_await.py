"""Cancellation at each suspension of each coroutine of the batcher, one after the other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from support import Recorder, both, no_loop_errors, outcome, settle

from async_batcher import BatcherStoppedError, DynamicBatcher

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


async def cancelled_at(k: int, coroutine: Coroutine[Any, Any, None]) -> bool:
    """Run `coroutine` in a task that is cancelled at suspension `k`; whether there was one."""
    harness = CancelledAt(coroutine, k)

    async def drive() -> None:
        await harness

    await asyncio.wait([asyncio.create_task(drive())])
    return harness.suspensions > k


def heard(future: asyncio.Future[Any]) -> asyncio.Future[Any]:
    """Retrieve the exception of `future`, in case nobody awaits it."""
    future.add_done_callback(lambda f: f.cancelled() or f.exception())
    return future


# ---- AsyncBatcher ----


async def lifecycle(batcher: Recorder) -> None:
    async with batcher:
        await batcher.process(1)


async def call(batcher: Recorder) -> None:
    await batcher.call(1)


async def stop(batcher: Recorder) -> None:
    heard(batcher.process(1))
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
            heard(batcher.process(1))
            raise LookupError
    except LookupError:
        pass


USES: list[tuple[Callable[[Any], Coroutine[Any, Any, None]], bool]] = [
    (call, False),
    (submit, False),
    (many, False),
    (stop, True),
    (lifecycle, True),
    (enter_and_fail, True),
]


@both
@pytest.mark.parametrize(("use", "stops"), USES)
async def test_invariants_hold_wherever_the_cancellation_strikes(
    kind: type[Recorder], use: Callable[[Recorder], Coroutine[Any, Any, None]], stops: bool
) -> None:
    """Scenario 18. The next item is answered, or refused where the use itself stops."""
    for k in range(100):
        with no_loop_errors():
            batcher = kind(max_queue_time=0, max_queue_size=5, max_batch_size=2)
            was_cancelled = await cancelled_at(k, use(batcher))
            await batcher.idle()
            stats = batcher.stats
            assert (stats.queued, stats.running) == (0, 0)
            assert stats.submitted == stats.completed + stats.failed + stats.cancelled
            answer = await outcome(lambda batcher=batcher: batcher.process("next"))
            assert isinstance(answer, BatcherStoppedError) if stops else answer == "next"
            await batcher.stop()
            await settle(3)
        if not was_cancelled:
            return
    pytest.fail("more than 100 suspensions")


# ---- DynamicBatcher ----


async def submit_records(batcher: DynamicBatcher[Any, Any]) -> None:
    futures = [heard(await batcher.submit(record)) for record in range(6)]
    await asyncio.gather(*futures)


async def submit_batch(batcher: DynamicBatcher[Any, Any]) -> None:
    futures = await batcher.submit_batch(range(6))
    await asyncio.gather(*map(heard, futures))


async def stop_with_records(batcher: DynamicBatcher[Any, Any]) -> None:
    heard(await batcher.submit(1))
    await batcher.stop()


async def leave_block(batcher: DynamicBatcher[Any, Any]) -> None:
    await batcher.stop()
    async with batcher:
        heard(await batcher.submit(1))


async def leave_block_by_an_error(batcher: DynamicBatcher[Any, Any]) -> None:
    try:
        await batcher.stop()
        async with batcher:
            heard(await batcher.submit(1))
            raise LookupError
    except LookupError:
        pass


DYNAMIC_USES: list[tuple[Callable[[Any], Coroutine[Any, Any, None]], bool]] = [
    (submit_records, False),
    (submit_batch, False),
    (stop_with_records, True),
    (leave_block, True),
    (leave_block_by_an_error, True),
]


@both
@pytest.mark.parametrize(("use", "stops"), DYNAMIC_USES)
async def test_dynamic_batcher_works_on_wherever_the_cancellation_strikes(
    kind: type[Recorder],
    use: Callable[[DynamicBatcher[Any, Any]], Coroutine[Any, Any, None]],
    stops: bool,
) -> None:
    """Scenario 18. At once, or after a start where the use itself stops."""
    for k in range(100):
        with no_loop_errors():
            work: Any = kind()
            batcher: DynamicBatcher[Any, Any] = DynamicBatcher(
                work.process_batch,
                batch_timeout_s=0,
                max_queue_size=1,
                max_batch_size=1,
                prefetch_batches=1,
            )
            await batcher.start()
            was_cancelled = await cancelled_at(k, use(batcher))
            assert batcher.is_running == (not stops)
            if stops:
                await batcher.start()
            assert await (await batcher.submit("next")) == "next"
            await batcher.stop()
            await settle(3)
        if not was_cancelled:
            return
    pytest.fail("more than 100 suspensions")
