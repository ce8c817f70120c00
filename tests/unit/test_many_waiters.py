"""Many callers told at once: a loop goes round between the pieces."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support import LONG, AsyncRecorder, Recorder, SyncRecorder, both

from async_batcher import BatcherStoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLERS = 20_000
BURST = int(os.environ.get("AB_BURST", "50000"))
PIECE = 5_000
"""No iteration of a loop tells more callers than that."""


class Rounds:
    """Counts what happens in each iteration of the running loop."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.round = 0
        self.is_over = False

    @property
    def most(self) -> int:
        """How much happened in the busiest iteration."""
        return max(self.counts.values(), default=0)

    def note(self, *_: Any) -> None:
        """Note that it happened once more."""
        self.counts[self.round] += 1

    def tick(self) -> None:
        """Begin the next iteration."""
        self.round += 1
        if not self.is_over:
            asyncio.get_running_loop().call_soon(self.tick)

    @contextmanager
    def counted(self) -> Iterator[Rounds]:
        """Count the iterations inside."""
        self.tick()
        try:
            yield self
        finally:
            self.is_over = True


class Noted(Exception):
    """Notes when one is made."""

    rounds: Rounds

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.rounds.note()


def fail(batch: list[Any]) -> Any:
    """Raise what a batch of the tests fails with."""
    raise Noted("no")


@pytest.mark.thread_unsafe(reason="the class of the error counts for all threads")
@both
async def test_callers_of_a_failed_batch_are_told_in_pieces(kind: type[Recorder]) -> None:
    """Scenario 7."""
    rounds = Rounds()
    async with kind(fail, max_queue_time=LONG) as batcher:
        Noted.rounds = Rounds()
        futures = [batcher.process(item) for item in range(CALLERS)]
        for future in futures:
            future.add_done_callback(rounds.note)
        with rounds.counted():
            batcher.flush()
            await asyncio.wait(futures)
        assert {type(future.exception()) for future in futures} == {Noted}
        assert sum(rounds.counts.values()) == CALLERS
        assert rounds.most <= PIECE


@pytest.mark.thread_unsafe(reason="the class of the error counts for all threads")
@both
async def test_errors_of_a_failed_batch_are_made_in_pieces(kind: type[Recorder]) -> None:
    """Scenario 7."""
    rounds = Noted.rounds = Rounds()
    async with kind(fail, max_queue_time=LONG) as batcher:
        futures = [batcher.process(item) for item in range(CALLERS)]
        with rounds.counted():
            batcher.flush()
            await asyncio.wait(futures)
        assert {type(future.exception()) for future in futures} == {Noted}
        assert sum(rounds.counts.values()) >= CALLERS
        assert rounds.most <= PIECE


@pytest.mark.thread_unsafe(reason="the class of the error counts for all threads")
@both
@pytest.mark.parametrize("returns_exceptions", [False, True])
async def test_errors_of_process_many_are_made_in_pieces(
    kind: type[Recorder], returns_exceptions: bool
) -> None:
    """Scenario 7."""
    rounds = Noted.rounds = Rounds()
    async with kind(fail, max_queue_time=LONG) as batcher:
        future = batcher.process_many(range(CALLERS), return_exceptions=returns_exceptions)
        with rounds.counted():
            batcher.flush()
            await asyncio.wait([future])
            await batcher.idle()
        errors = future.result() if returns_exceptions else [future.exception()]
        assert {type(error) for error in errors} == {Noted}
        assert rounds.most <= PIECE


@both
async def test_forced_stop_tells_its_callers_in_pieces(
    kind: type[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario 26."""
    made, told = Rounds(), Rounds()

    def note(error: BatcherStoppedError, *args: Any) -> None:
        RuntimeError.__init__(error, *args)
        made.note()

    monkeypatch.setattr(BatcherStoppedError, "__init__", note, raising=False)
    batcher = kind(max_queue_time=LONG)
    futures = [batcher.process(item) for item in range(CALLERS)]
    for future in futures:
        future.add_done_callback(told.note)
    with made.counted(), told.counted():
        await batcher.stop(force=True)
        await asyncio.wait(futures)
    assert {type(future.exception()) for future in futures} == {BatcherStoppedError}
    assert sum(told.counts.values()) == CALLERS
    assert told.most <= PIECE
    assert made.most <= PIECE


async def test_results_of_a_batch_are_told_in_pieces() -> None:
    """Scenario 1."""
    rounds = Rounds()
    async with AsyncRecorder(max_queue_time=LONG) as batcher:
        futures = [batcher.process(item) for item in range(CALLERS)]
        for future in futures:
            future.add_done_callback(rounds.note)
        with rounds.counted():
            batcher.flush()
            await asyncio.wait(futures)
        assert [future.result() for future in futures] == list(range(CALLERS))
        assert rounds.most <= PIECE


@both
@pytest.mark.timeout(60 + BURST // 5000)
@pytest.mark.parametrize("size", [-1, 1000])
async def test_burst_of_one_tick_is_told_in_pieces(kind: type[Recorder], size: int) -> None:
    """Scenario 78."""
    rounds = Rounds()
    async with kind(max_queue_time=0, max_batch_size=size) as batcher:
        with rounds.counted():
            futures = [batcher.process(item) for item in range(BURST)]
            for future in futures:
                future.add_done_callback(rounds.note)
            await asyncio.wait(futures)
        assert [future.result() for future in futures] == list(range(BURST))
        assert rounds.most <= PIECE


@pytest.mark.timeout(60 + BURST // 5000)
async def test_batches_that_ended_while_the_loop_was_blocked_are_told_in_pieces() -> None:
    """Scenario 78. Scenario 79."""
    rounds = Rounds()
    async with SyncRecorder(max_queue_time=0, max_batch_size=1000) as batcher:
        futures = [batcher.process(item) for item in range(BURST)]
        for future in futures:
            future.add_done_callback(rounds.note)
        with rounds.counted():
            while len(batcher.items) < BURST:
                time.sleep(0.001)  # the loop is blocked on purpose: that is the scenario
            await asyncio.wait(futures)
        assert [future.result() for future in futures] == list(range(BURST))
        assert rounds.most <= PIECE
