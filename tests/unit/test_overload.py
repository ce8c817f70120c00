"""Ten times more than a bounded queue holds: refused or held back, in turn, and normal after."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest
from support import AsyncRecorder, Recorder, SyncRecorder, both, finished, settle

from async_batcher import QueueFullException

if TYPE_CHECKING:
    from conftest import Clock

SIZE = 50
"""Places in the queue."""
BATCH = 10
"""Items in a batch."""
LOAD = 10 * SIZE
"""Items that come while the queue has room for a tenth of them."""
ROUNDS = int(os.environ.get("AB_OVERLOADS", "20"))


def bounded(kind: type[Recorder], **options: Any) -> Recorder:
    """Return a batcher of `SIZE` places."""
    return kind(max_queue_size=SIZE, max_batch_size=BATCH, max_queue_time=0, **options)


@both
async def test_overload_is_refused_before_process_returns(kind: type[Recorder]) -> None:
    """Scenario 77. Trap 30."""
    async with bounded(kind) as batcher:
        held = await batcher.busy()
        for round_ in range(ROUNDS):
            futures = [batcher.process((round_, item)) for item in range(LOAD)]
            refused = [future for future in futures if future.done()]
            assert len(refused) == (LOAD - SIZE if round_ == 0 else LOAD)
            assert {type(future.exception()) for future in refused} == {QueueFullException}
            assert batcher.stats.queued == SIZE
        batcher.release()
        await held


@both
async def test_accepted_item_waits_for_no_more_batches_than_the_queue_holds(
    kind: type[Recorder],
) -> None:
    """Scenario 77."""
    async with bounded(kind) as batcher:
        accepted: dict[int, int] = {}
        futures: list[asyncio.Future[Any]] = []
        for item in range(ROUNDS * LOAD):
            begun = len(batcher.seen)
            future = batcher.process(item)
            if future.done():
                assert isinstance(future.exception(), QueueFullException)
            else:
                accepted[item] = begun
                futures.append(future)
            if item % LOAD == LOAD - 1:  # full: some batch has to end
                waiting = [future for future in futures if not future.done()]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        await finished(*futures)
        went = {item: n for n, batch in enumerate(batcher.seen) for item in batch}
        late = [item for item, begun in accepted.items() if went[item] - begun > SIZE // BATCH + 1]
        assert late == []
        assert len(accepted) > SIZE


@both
async def test_producers_of_an_overload_are_held_back_and_enter_in_turn(
    kind: type[Recorder],
) -> None:
    """Scenario 77. Trap 30."""
    async with bounded(kind) as batcher:
        held = await batcher.busy()
        waiting = [asyncio.create_task(batcher.submit(item)) for item in range(LOAD)]
        await settle()
        assert sum(task.done() for task in waiting) == batcher.stats.queued == SIZE
        batcher.release()
        futures = [await task for task in waiting]
        assert await finished(held, *futures) == ["held", *range(LOAD)]
        assert batcher.items[1:] == list(range(LOAD))
        assert batcher.stats.rejected == 0


@both
async def test_queue_never_holds_more_than_its_size_while_it_is_overloaded(
    kind: type[Recorder],
) -> None:
    """Scenario 77."""
    most = 0

    def note(batch: list[Any]) -> list[Any]:
        nonlocal most
        most = max(most, batcher.stats.queued)
        return batch

    async with bounded(kind, concurrency=2) as batcher:
        batcher.function = note

        async def produce() -> int:
            return sum([await (await batcher.submit(1)) for _ in range(ROUNDS)])

        assert sum(await asyncio.gather(*(produce() for _ in range(LOAD)))) == ROUNDS * LOAD
        assert 0 < most <= SIZE


@both
async def test_batcher_is_normal_once_the_overload_is_over(kind: type[Recorder]) -> None:
    """Scenario 77. Trap 31."""
    async with bounded(kind) as batcher:
        for _ in range(ROUNDS):
            held = await batcher.busy()
            futures = [batcher.process(item) for item in range(LOAD)]
            batcher.release()
            await finished(held, *futures)
            batcher.seen.clear()
            # As if nothing had been: all accepted, none waits for more than its own batch.
            assert await finished(*map(batcher.process, range(SIZE))) == list(range(SIZE))
            # A worker may cut while the loop still gives.
            assert len(batcher.seen) == SIZE // BATCH or kind is SyncRecorder
            batcher.seen.clear()
        stats = batcher.stats
        assert (stats.queued, stats.running) == (0, 0)
        assert stats.submitted == stats.completed == ROUNDS * (1 + 2 * SIZE)


@both
async def test_callers_that_give_up_in_an_overload_leave_their_places_to_others(
    kind: type[Recorder],
) -> None:
    """Scenario 77. Scenario 23. Trap 5."""
    async with bounded(kind) as batcher:
        held = await batcher.busy()
        waiting = deque(asyncio.create_task(batcher.submit(item)) for item in range(LOAD))
        await settle()
        gone = [waiting.popleft() for _ in range(SIZE)]
        for task in gone:
            (await task).cancel()
        gone_waiting = [waiting.pop() for _ in range(SIZE)]
        for task in gone_waiting:
            task.cancel()
        await settle()  # a task is cancelled once it has run
        batcher.release()
        answers = await finished(*[await task for task in waiting])
        assert answers == list(range(SIZE, LOAD - SIZE))
        await held
        assert batcher.items[1:] == answers


@pytest.mark.parametrize("cost", [10, 7])
async def test_overload_of_cost_is_refused_like_one_of_number(cost: int) -> None:
    """Scenario 77."""
    async with AsyncRecorder(
        max_queue_cost=500, max_batch_cost=100, cost=lambda item: cost, max_queue_time=0
    ) as batcher:
        held = await batcher.busy()
        futures = [batcher.process(item) for item in range(1000)]
        accepted = [future for future in futures if not future.done()]
        refused = [future.exception() for future in futures if future.done()]
        assert {type(error) for error in refused} == {QueueFullException}
        assert len(accepted) == 500 // cost
        batcher.release()
        assert await finished(held, *accepted) == ["held", *range(500 // cost)]


class Looks:
    """Counts how often waiting futures of threads are asked whether they are done."""

    def __init__(self) -> None:
        self.count = 0


@pytest.fixture
def looks(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Looks:
    """Have each look take 10 us of the clock that otherwise stands still."""
    counted = Looks()
    done = Future.done

    def slow_done(future: Future[Any]) -> bool:
        counted.count += 1
        clock.advance(10e-6)
        return done(future)

    monkeypatch.setattr(Future, "done", slow_done)
    return counted


async def filled(batcher: Recorder) -> tuple[asyncio.Future[Any], list[Future[Any]]]:
    """Hold a batch of `batcher` and fill its queue; return the futures of both."""
    held = await batcher.busy()
    return held, [batcher.process_threadsafe(item) for item in range(SIZE)]


async def test_refusals_spend_little_on_looking_for_cancelled_items(
    looks: Looks, clock: Clock
) -> None:
    """Scenario 77. However many are refused at once."""
    async with bounded(AsyncRecorder) as batcher:
        held, futures = await filled(batcher)
        refused = [batcher.process(item) for item in range(LOAD)]
        assert {type(future.exception()) for future in refused} == {QueueFullException}
        assert 0 < looks.count <= 10 * SIZE
        # A tenth of the time is theirs, so cancelled items are found later on.
        futures[-1].cancel()
        clock.advance(1)
        accepted = batcher.process("accepted")
        batcher.release()
        assert await accepted == "accepted"
        await finished(held, *map(asyncio.wrap_future, futures[:-1]))


async def test_cancelled_producers_that_waited_for_space_look_at_no_queue(looks: Looks) -> None:
    """Scenario 23."""
    async with bounded(AsyncRecorder) as batcher:
        held, futures = await filled(batcher)
        waiting = [asyncio.create_task(batcher.submit(item)) for item in range(LOAD)]
        await settle()
        before = looks.count
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert looks.count == before
        batcher.release()
        await finished(held, *map(asyncio.wrap_future, futures))
