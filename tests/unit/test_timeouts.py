"""Callers with a timeout of their own: asyncio's, around what the batcher gives them."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from support import LONG, TIMEOUTS, Recorder, both

since_311 = pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")


async def within(timeout: float, future: asyncio.Future[Any]) -> Any:
    """Await `future` no longer than `timeout` seconds."""
    if sys.version_info < (3, 11):
        return await asyncio.wait_for(future, timeout)
    async with asyncio.timeout(timeout):
        return await future


@since_311
@both
async def test_timeout_around_a_slow_batch_is_a_timeout_error(kind: type[Recorder]) -> None:
    """Trap 4."""
    async with kind(max_queue_time=0) as batcher:
        batcher.hold()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await batcher.process(1)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        batcher.release()


@both
async def test_wait_for_gives_up_on_a_held_item(kind: type[Recorder]) -> None:
    """Trap 4."""
    async with kind(max_queue_time=0) as batcher:
        held = await batcher.busy()
        with pytest.raises(TIMEOUTS):
            await asyncio.wait_for(batcher.process("gone"), 0.001)
        batcher.release()
        assert await held == "held"
        assert batcher.seen == [["held"]]


async def storm(batcher: Recorder) -> tuple[list[asyncio.Future[Any]], list[Any]]:
    """Return the futures of 1,000 callers, and what each caller got: its item or a TimeoutError.

    The timeouts are spread over 100 ms, but that each tenth caller has an hour. The batches are
    held until 300 have passed, so that there is something of both.
    """
    batcher.hold()
    futures = [batcher.process(item) for item in range(1000)]
    passed = 0

    async def caller(item: int) -> Any:
        nonlocal passed
        timeout = LONG if item % 10 == 0 else (item * 7919 % 1000) / 10_000
        try:
            return await within(timeout, futures[item])
        except TIMEOUTS as error:
            passed += 1
            if passed == 300:
                batcher.release()
            return error

    return futures, await asyncio.gather(*map(caller, range(1000)))


@both
async def test_storm_of_timeouts_gives_each_caller_one_answer(kind: type[Recorder]) -> None:
    """Scenario 20."""
    async with kind(max_batch_size=50, max_queue_time=0) as batcher:
        _, answers = await storm(batcher)
        late = [item for item, answer in enumerate(answers) if isinstance(answer, TIMEOUTS)]
        answered = [item for item, answer in enumerate(answers) if answer == item]
        assert sorted(late + answered) == list(range(1000))
        assert len(late) >= 300
        assert set(range(0, 1000, 10)) <= set(answered)


@both
async def test_callers_whose_timeout_came_first_are_counted_as_cancelled(
    kind: type[Recorder],
) -> None:
    """Scenario 20. One that passes in the tick of the answer is the caller's, and not counted."""
    async with kind(max_batch_size=50, max_queue_time=0) as batcher:
        futures, answers = await storm(batcher)
        await batcher.idle()
        late = [future for future in futures if future.cancelled()]
        assert 300 <= len(late) <= sum(isinstance(answer, TIMEOUTS) for answer in answers)
        stats = batcher.stats
        assert (stats.submitted, stats.failed, stats.rejected) == (1000, 0, 0)
        assert (stats.cancelled, stats.completed) == (len(late), 1000 - len(late))
