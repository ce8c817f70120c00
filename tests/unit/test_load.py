"""Bursts and long runs of small work, at a size that a fast suite can bear."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import pytest
from support import PATIENCE, AsyncRecorder, Recorder, SyncRecorder, both, finished

BURST = int(os.environ.get("AB_BURST", "50000"))
BLOCKED = int(os.environ.get("AB_BLOCKED", "20000"))
ROUNDS = int(os.environ.get("AB_ROUNDS", "3000"))


@both
async def test_burst_in_one_tick_is_answered_whole(kind: type[Recorder]) -> None:
    """Scenario 78."""
    async with kind(max_batch_size=1000, max_queue_time=0) as batcher:
        futures = [batcher.process(item) for item in range(BURST)]
        assert await finished(*futures) == list(range(BURST))


@both
async def test_one_huge_batch_is_answered_whole(kind: type[Recorder]) -> None:
    """Scenario 78."""
    async with kind(max_queue_time=0) as batcher:
        futures = [batcher.process(item) for item in range(BURST)]
        assert await finished(*futures) == list(range(BURST))
        assert len(batcher.seen) == 1 or kind is SyncRecorder


@both
@pytest.mark.timeout(60 + ROUNDS // 1000)
@pytest.mark.parametrize("window", [0, 0.0001])
async def test_single_items_one_after_another_never_stall(
    kind: type[Recorder], window: float
) -> None:
    """Scenario 80."""
    async with kind(max_queue_time=window) as batcher:
        for item in range(ROUNDS):
            assert await batcher.process(item) == item


@pytest.mark.timeout(60 + BLOCKED // 1000)
async def test_batches_of_one_that_finish_while_the_loop_is_blocked_are_all_told_after() -> None:
    """Scenario 79. A worker that had to wait for the loop would never finish them."""
    async with SyncRecorder(max_queue_time=0, max_batch_size=1) as batcher:
        futures = [batcher.process(item) for item in range(BLOCKED)]
        while batcher.stats.queued or batcher.stats.running:
            time.sleep(0.001)  # the loop is blocked on purpose: that is the scenario
        assert len(batcher.seen) == BLOCKED
        assert not futures[-1].done()
        assert await finished(*futures) == list(range(BLOCKED))


async def test_loop_that_is_blocked_while_batches_finish_gets_them_all() -> None:
    """Scenario 79."""
    async with SyncRecorder(max_queue_time=0, max_batch_size=2) as batcher:
        await batcher.process(0)
        futures = [batcher.process_threadsafe(item) for item in range(2000)]
        for future in futures:
            future.result(PATIENCE)
        assert await batcher.process("after") == "after"


async def test_windows_that_pass_while_the_loop_is_blocked_are_all_served() -> None:
    """Scenario 79. Guarantee 4."""
    batchers = [AsyncRecorder(max_queue_time=0.0001) for _ in range(100)]
    futures = [batcher.process(index) for index, batcher in enumerate(batchers)]
    time.sleep(0.02)  # the loop is blocked on purpose: that is the scenario
    assert await finished(*futures) == list(range(100))
    for batcher in batchers:
        await batcher.stop()


@both
async def test_callers_in_closed_loops_share_the_batcher_fairly(kind: type[Recorder]) -> None:
    """Scenario 77. Guarantee 3."""
    async with kind(max_batch_size=16, max_queue_time=0.0005, concurrency=2) as batcher:

        async def caller(first: int) -> list[Any]:
            return [await batcher.process(first + step) for step in range(20)]

        answers = await asyncio.gather(*(caller(100 * number) for number in range(100)))
        assert answers == [[100 * n + step for step in range(20)] for n in range(100)]
        assert max(map(len, batcher.seen)) <= 16
