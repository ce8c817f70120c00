"""Batches so large that their loop goes round while they are cut, and while they are answered."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import pytest
from support import LONG, Item, KnownTasks, SyncRecorder, finished, new_loop, settle

from async_batcher import BatchCancelledError, BatcherStoppedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

PIECE = 20_000
"""No iteration of a loop cuts or stores more than that."""
MANY = 50_000
"""Items in a batch of several pieces."""


class Large(KnownTasks):
    """Has a batch of many items wait for its window."""

    def __init__(self, function: Callable[[list[Any]], Any] = list, **options: Any) -> None:
        super().__init__(function, max_queue_time=LONG, **options)
        self.futures = [self.process(item) for item in range(MANY)]

    async def half_cut(self) -> asyncio.Task[Any]:
        """Go on until the batch is being cut; return its task."""
        before = asyncio.all_tasks()
        self.flush()
        (task,) = asyncio.all_tasks() - before
        while self.stats.running == 0:
            await asyncio.sleep(0)
        assert self.seen == []
        return task

    async def half_stored(self) -> asyncio.Task[Any]:
        """Go on until process_batch has returned and nobody is told yet."""
        self.flush()
        while not self.tasks or self.active > 0:
            await asyncio.sleep(0)
        assert not self.tasks[0].done()
        return self.tasks[0]


@asynccontextmanager
async def large_batch() -> AsyncIterator[Large]:
    """Give a batcher that goes on working afterwards, unless it is stopped."""
    batcher = Large()
    yield batcher
    del batcher.futures[:]
    if await batcher.is_running():
        batcher.function = list
        last = batcher.process("last")
        batcher.flush()
        assert await last == "last"
        await batcher.stop()
    stats = batcher.stats
    assert (stats.queued, stats.running) == (0, 0)
    assert stats.submitted == stats.completed + stats.failed + stats.cancelled


async def rounds_until(condition: Callable[[], Any]) -> int:
    """Count the iterations of the loop until `condition()` holds."""
    rounds = 0
    while not condition():
        await asyncio.sleep(0)
        rounds += 1
    return rounds


async def test_large_batch_is_cut_in_pieces() -> None:
    """Scenario 78."""
    async with large_batch() as large:
        large.flush()
        assert await rounds_until(lambda: large.seen) >= MANY // PIECE
        assert await finished(*large.futures) == list(range(MANY))
        assert large.seen == [list(range(MANY))]
        assert large.stats.queue_wait.count == MANY


async def test_large_result_is_stored_in_pieces() -> None:
    """Scenario 78."""
    async with large_batch() as large:
        await large.half_stored()
        assert await rounds_until(lambda: large.futures[0].done()) >= MANY // PIECE - 1
        assert await finished(*large.futures) == list(range(MANY))


async def test_items_that_come_while_a_large_batch_is_cut_do_not_prolong_it() -> None:
    """Scenario 78. A batch takes what was queued at its cut; a last piece may take some more."""
    async with large_batch() as large:

        def feed() -> None:
            if not large.seen:
                large.futures += [large.process(None) for _ in range(PIECE)]
                asyncio.get_running_loop().call_soon(feed)

        await large.half_cut()
        feed()
        await rounds_until(lambda: large.seen)
        assert MANY <= len(large.seen[0]) <= MANY + PIECE
        large.flush()
        await finished(*large.futures)


@pytest.mark.parametrize("half", [Large.half_cut, Large.half_stored])
async def test_forced_stop_in_the_middle_of_a_large_batch_tells_everybody(half: Any) -> None:
    """Scenario 26."""
    async with large_batch() as large:
        await half(large)
        await large.stop(force=True)
        answers = await finished(*large.futures)
        assert {type(answer) for answer in answers} == {BatcherStoppedError}
        await settle()
        assert len(large.seen) == (half is Large.half_stored)


@pytest.mark.parametrize("half", [Large.half_cut, Large.half_stored])
async def test_graceful_stop_waits_for_a_large_batch(half: Any) -> None:
    """Scenario 25."""
    async with large_batch() as large:
        await half(large)
        await large.stop()
        assert [future.result() for future in large.futures] == list(range(MANY))


async def test_cancelled_task_of_a_half_cut_batch_is_an_error_to_its_callers() -> None:
    """Scenario 22. Those who were not cut yet go on waiting."""
    async with large_batch() as large:
        task = await large.half_cut()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await settle()
        large.flush()
        answers = await finished(*large.futures)
        cut = [answer for answer in answers if isinstance(answer, BatchCancelledError)]
        assert 0 < len(cut) <= 2 * PIECE
        assert answers[len(cut) :] == list(range(len(cut), MANY))
        assert large.items == answers[len(cut) :]


async def test_cancelled_task_of_a_half_stored_batch_has_answered_all_the_same() -> None:
    """Scenario 22."""
    async with large_batch() as large:
        task = await large.half_stored()
        task.cancel()
        assert await finished(*large.futures) == list(range(MANY))
        await asyncio.wait([task])
        assert task.cancelled()


async def test_list_changed_while_it_is_stored_does_not_change_the_answers() -> None:
    """Trap 13."""
    async with large_batch() as large:
        kept: list[Any] = []

        def keep(batch: list[Any]) -> list[Any]:
            kept[:] = batch
            return kept

        large.function = keep
        await large.half_stored()
        kept.clear()
        assert await finished(*large.futures) == list(range(MANY))


async def test_exception_in_two_pieces_is_one_of_its_own_for_each_caller() -> None:
    """Trap 15."""
    async with large_batch() as large:
        error = LookupError("shared")
        large.function = lambda batch: [error, *batch[1:-1], error]
        large.flush()
        answers = await finished(*large.futures)
        first, last = answers[0], answers[-1]
        assert type(first) is type(last) is LookupError
        assert first is not last
        assert answers[1:-1] == list(range(1, MANY - 1))


async def test_row_that_cannot_be_read_fails_all_pieces() -> None:
    """Scenario 5."""
    async with large_batch() as large:

        class Rows:
            def __len__(self) -> int:
                return MANY

            def __getitem__(self, i: int) -> int:
                if i == MANY - 1:
                    raise LookupError
                return i

        large.function = lambda batch: Rows()
        large.flush()
        answers = await finished(*large.futures)
        assert {type(answer) for answer in answers} == {LookupError}


async def test_caller_that_leaves_a_half_cut_batch_hurts_nobody() -> None:
    """Scenario 16."""
    async with large_batch() as large:
        await large.half_cut()
        large.futures[0].cancel()
        large.futures[-1].cancel()
        await asyncio.wait(large.futures)
        assert [future.result() for future in large.futures[1:-1]] == list(range(1, MANY - 1))
        assert MANY - 1 not in large.items  # it was not cut yet


@pytest.mark.parametrize("half", [Large.half_cut, Large.half_stored])
def test_loop_closed_in_the_middle_of_a_large_batch_releases_all(half: Any) -> None:
    """Scenario 36. Scenario 86."""
    first = new_loop()

    async def begin() -> tuple[Large, list[weakref.ref[Any]]]:
        large = Large()
        items = [Item() for _ in range(10)]
        large.futures += [large.process(item) for item in items]
        await half(large)
        return large, [weakref.ref(item) for item in items]

    large, items = first.run_until_complete(begin())
    del large.futures[:]
    with pytest.warns(ResourceWarning) if half is Large.half_cut else nullcontext():
        first.close()
    large.tasks.clear()
    large.seen.clear()
    gc.collect()
    assert [item for item in items if item() is not None] == []
    second = new_loop()
    try:
        large.max_queue_time = 0
        assert second.run_until_complete(large.call("second")) == "second"
        second.run_until_complete(large.stop())
    finally:
        second.close()
    assert large.stats.running == 0


def test_loop_stopped_in_the_middle_of_a_large_batch_goes_on_when_it_runs_again() -> None:
    """Scenario 87."""
    loop = new_loop()

    async def begin() -> Large:
        large = Large()
        await large.half_cut()
        return large

    async def end(large: Large) -> list[Any]:
        answers = await finished(*large.futures)
        await large.stop()
        return answers

    try:
        large = loop.run_until_complete(begin())
        assert loop.run_until_complete(end(large)) == list(range(MANY))
    finally:
        loop.close()


async def test_large_batch_of_a_worker_is_answered_whole() -> None:
    """Scenario 78."""
    async with SyncRecorder(max_queue_time=LONG) as batcher:
        futures = [batcher.process(item) for item in range(MANY)]
        batcher.flush()
        assert await finished(*futures) == list(range(MANY))
        assert batcher.seen == [list(range(MANY))]
