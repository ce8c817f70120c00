"""Costs: who is asked, what counts as a cost, budgets of batches and of the queue."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from support import LONG, AsyncRecorder, Item, Recorder, both, finished, outcome, settle

from async_batcher import QueueFullException

WRONG_COSTS: list[Any] = [-1, 1.5, float("nan"), "3", True, None, 2**63, 2**70]


def own(item: Any) -> Any:
    """Say that an item is as dear as its value."""
    return item


class Priced(Item):
    """An item that knows its cost."""

    def __init__(self, cost: Any) -> None:
        self.cost = cost

    def estimate_cost(self) -> Any:
        if isinstance(self.cost, Exception):
            raise self.cost
        return self.cost


@both
async def test_batch_is_never_dearer_than_its_budget(kind: type[Recorder]) -> None:
    """Trap 21."""
    async with kind(cost=own, max_batch_cost=100, max_queue_time=0) as batcher:
        assert await batcher.process_many([10, 95]) == [10, 95]
        assert batcher.seen == [[10], [95]]


@both
async def test_batch_takes_all_that_its_budget_allows(kind: type[Recorder]) -> None:
    """Trap 21."""
    async with kind(cost=own, max_batch_cost=100, max_queue_time=0) as batcher:
        await batcher.process_many([60, 40, 1, 99, 100, 50])
        assert batcher.seen == [[60, 40], [1, 99], [100], [50]]


async def test_small_items_do_not_overtake_a_dear_one() -> None:
    """Trap 21."""
    async with AsyncRecorder(cost=own, max_batch_cost=100, max_queue_time=0) as batcher:
        await batcher.process_many([50, 90, 10, 10])
        assert batcher.items == [50, 90, 10, 10]
        assert batcher.seen == [[50], [90, 10], [10]]


@both
async def test_item_dearer_than_the_budget_goes_alone(kind: type[Recorder]) -> None:
    """Trap 22."""
    async with kind(cost=own, max_batch_cost=100, max_queue_time=0) as batcher:
        await batcher.process_many([1, 500, 2, 3])
        assert batcher.seen == [[1], [500], [2, 3]]


async def test_full_budget_goes_before_its_window() -> None:
    """Trap 21."""
    async with AsyncRecorder(cost=own, max_batch_cost=100, max_queue_time=LONG) as batcher:
        assert await finished(batcher.process(60), batcher.process(40)) == [60, 40]


async def test_zero_is_a_cost() -> None:
    """Trap 17."""
    async with AsyncRecorder(cost=lambda item: 0, max_batch_cost=1, max_queue_time=0) as batcher:
        await batcher.process_many(range(10))
        assert batcher.seen == [list(range(10))]
        assert batcher.stats.total_cost == 0


async def test_cost_of_more_digits_than_can_be_shown_is_named() -> None:
    """Trap 17."""
    async with AsyncRecorder(cost=lambda item: 10**5000, max_queue_time=0) as batcher:
        with pytest.raises(ValueError, match=r"^cost: a cost must be an int"):
            await batcher.process(1)


async def test_largest_cost_does_not_overflow() -> None:
    """Trap 17."""
    async with AsyncRecorder(cost=own, max_batch_cost=100, max_queue_time=0) as batcher:
        await batcher.process_many([2**63 - 1, 2**63 - 1, 5])
        assert batcher.seen == [[2**63 - 1], [2**63 - 1], [5]]


@pytest.mark.parametrize("value", WRONG_COSTS)
async def test_wrong_cost_fails_its_caller_and_names_the_value(value: Any) -> None:
    """Trap 17. Scenario 14."""
    async with AsyncRecorder(cost=lambda item: value, max_queue_time=0) as batcher:
        error = await outcome(lambda: batcher.process(1))
        assert isinstance(error, (TypeError, ValueError))
        assert repr(value) in str(error)
        assert batcher.seen == []


@pytest.mark.parametrize("value", WRONG_COSTS)
async def test_wrong_cost_leaves_the_batcher_working(value: Any) -> None:
    """Trap 17. Scenario 14."""
    async with AsyncRecorder(
        cost=lambda item: value if item == "bad" else 1, max_queue_time=0
    ) as batcher:
        calls = [batcher.call(item) for item in ("good", "bad", "fine")]
        good, bad, fine = await asyncio.gather(*calls, return_exceptions=True)
        assert (good, fine) == ("good", "fine")
        assert isinstance(bad, (TypeError, ValueError))


async def test_error_of_the_estimator_reaches_its_caller_unchanged() -> None:
    """Trap 17. Scenario 14."""
    error = LookupError("no price")

    def refuse(item: Any) -> int:
        raise error

    async with AsyncRecorder(cost=refuse) as batcher:
        assert await outcome(lambda: batcher.process(1)) is error
        assert await outcome(lambda: batcher.call(1)) is error


async def test_wrong_cost_queues_nothing() -> None:
    """Trap 31."""
    async with AsyncRecorder(cost=lambda item: -1) as batcher:
        await outcome(lambda: batcher.process(1))
        assert (batcher.stats.submitted, batcher.stats.queued) == (0, 0)


async def test_wrong_cost_of_submit_fails_its_caller() -> None:
    """Trap 17."""

    async def submit() -> Any:
        return await (await batcher.submit(1))

    async with AsyncRecorder(cost=lambda item: -1) as batcher:
        assert isinstance(await outcome(submit), ValueError)
        assert batcher.stats.queued == 0


async def test_wrong_cost_in_process_many_fails_its_caller() -> None:
    """Trap 17."""
    async with AsyncRecorder(cost=own, max_queue_time=0) as batcher:
        error = await outcome(lambda: batcher.process_many([1, -1, 2]))
        assert isinstance(error, ValueError)
        assert await batcher.process(3) == 3


async def test_item_is_asked_for_its_cost() -> None:
    """Trap 17."""
    items = [Priced(60), Priced(41), Priced(40)]
    async with AsyncRecorder(max_batch_cost=100, max_queue_time=0) as batcher:
        await batcher.process_many(items)
        assert batcher.seen == [items[:1], items[1:]]


async def test_cost_comes_before_what_the_item_says() -> None:
    """Trap 17."""
    async with AsyncRecorder(cost=lambda item: 7, max_batch_cost=100, max_queue_time=0) as batcher:
        await batcher.process(Priced(99))
        assert batcher.stats.total_cost == 7


async def test_item_without_estimate_costs_one() -> None:
    """Trap 17."""
    async with AsyncRecorder(max_batch_cost=2, max_queue_time=0) as batcher:
        await batcher.process_many(range(3))
        assert batcher.seen == [[0, 1], [2]]


async def test_error_of_the_items_estimate_reaches_its_caller_unchanged() -> None:
    """Trap 17. Scenario 14."""
    error = LookupError("no price")
    async with AsyncRecorder(max_batch_cost=100) as batcher:
        assert await outcome(lambda: batcher.process(Priced(error))) is error


async def test_item_is_not_asked_without_a_cost_option() -> None:
    """Trap 17."""
    item = Priced(LookupError("asked"))
    async with AsyncRecorder(max_queue_time=0) as batcher:
        assert await batcher.process(item) is item


@pytest.mark.parametrize("option", ["max_batch_cost", "max_queue_cost"])
async def test_either_budget_asks_the_item(option: str) -> None:
    """Trap 17."""
    error = LookupError("asked")
    async with AsyncRecorder(**{option: 100}) as batcher:
        assert await outcome(lambda: batcher.process(Priced(error))) is error


@both
async def test_queue_cost_bounds_what_waits(kind: type[Recorder]) -> None:
    """Trap 30. Scenario 77."""
    async with kind(cost=own, max_queue_cost=100, max_queue_time=0) as batcher:
        held = await batcher.busy(1)
        queued = batcher.process(70)
        with pytest.raises(QueueFullException):
            await batcher.process(31)
        fits = batcher.process(30)
        batcher.release()
        assert await finished(held, queued, fits) == [1, 70, 30]


async def test_cancelled_item_gives_its_cost_back() -> None:
    """Trap 7."""
    async with AsyncRecorder(cost=own, max_queue_cost=100, max_queue_time=0) as batcher:
        held = await batcher.busy(1)
        batcher.process(70).cancel()
        fits = batcher.process(100)
        batcher.release()
        assert await finished(held, fits) == [1, 100]


async def test_empty_queue_takes_one_item_of_any_cost() -> None:
    """Trap 22. Trap 30."""
    async with AsyncRecorder(cost=own, max_queue_cost=100, max_queue_time=0) as batcher:
        held = await batcher.busy(1)
        dear = batcher.process(500)
        with pytest.raises(QueueFullException):
            await batcher.process(0)
        batcher.release()
        assert await finished(held, dear) == [1, 500]


@both
async def test_batch_that_goes_frees_its_cost_and_no_more(kind: type[Recorder]) -> None:
    """Trap 30."""
    async with kind(cost=own, max_queue_cost=100, max_batch_size=2, max_queue_time=0) as batcher:
        for _ in range(3):
            batches = len(batcher.seen)
            held = await batcher.busy(1)
            await batcher.begun(batches + 1)
            queued = [batcher.process(cost) for cost in (70, 20, 10)]
            with pytest.raises(QueueFullException):
                await batcher.process(1)
            batcher.release()
            assert await finished(held, *queued) == [1, 70, 20, 10]


@pytest.mark.parametrize("seed", range(5))
async def test_bound_of_cost_admits_exactly_what_fits_after_any_cancellations(seed: int) -> None:
    """Trap 7. Trap 30. Scenario 83."""
    dice = random.Random(seed)
    async with AsyncRecorder(cost=own, max_queue_cost=100, max_queue_time=0) as batcher:
        held = await batcher.busy(1)
        waiting: list[asyncio.Future[Any]] = []
        costs: list[int] = []
        for _ in range(300):
            if waiting and dice.random() < 0.4:
                place = dice.randrange(len(waiting))
                waiting.pop(place).cancel()
                costs.pop(place)
                continue
            cost = dice.randint(0, 60)
            future = batcher.process(cost)
            assert future.done() == (bool(costs) and sum(costs) + cost > 100)
            if future.done():
                assert isinstance(future.exception(), QueueFullException)
            else:
                waiting.append(future)
                costs.append(cost)
        batcher.release()
        assert await finished(held, *waiting) == [1, *costs]


async def test_cheap_caller_waits_behind_a_dear_one_for_space() -> None:
    """Trap 21. Trap 30."""
    async with AsyncRecorder(
        cost=own, max_queue_cost=100, max_batch_size=1, max_queue_time=0
    ) as batcher:
        futures = [await batcher.busy(1), batcher.process(50), batcher.process(40)]
        callers = []
        for cost in (60, 1):
            callers.append(asyncio.create_task(batcher.submit(cost)))
            await settle()
        assert not any(caller.done() for caller in callers)
        batcher.release()
        await finished(*futures, *[await caller for caller in callers])
        assert batcher.items == [1, 50, 40, 60, 1]


class Dear:
    """An item that knows that it costs 50."""

    def estimate_cost(self) -> int:
        """Say so."""
        return 50


async def test_budget_that_is_set_later_is_kept() -> None:
    """Trap 21. From then on items are asked for their cost."""
    async with AsyncRecorder(max_queue_time=LONG) as batcher:
        batcher.max_batch_cost = 100
        futures = [batcher.process(Dear()) for _ in range(4)]
        await finished(*futures)
        assert [len(batch) for batch in batcher.seen] == [2, 2]
        assert batcher.stats.total_cost == 200


async def test_bound_of_cost_that_is_set_later_is_kept() -> None:
    """Scenario 77."""
    async with AsyncRecorder(max_queue_time=LONG) as batcher:
        batcher.max_queue_cost = 100
        futures = [batcher.process(Dear()) for _ in range(4)]
        assert [future.done() for future in futures] == [False, False, True, True]
        assert {type(future.exception()) for future in futures[2:]} == {QueueFullException}
