"""When a batch of DynamicBatcher closes, and what is in it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from dynamics import busy, greedy, own, running
from support import LONG, Recorder, both, finished, settle

if TYPE_CHECKING:
    from conftest import Clock


# ---- what closes a batch ----


@both
async def test_batch_goes_when_its_budget_is_reached(kind: type[Recorder]) -> None:
    """Trap 21."""
    async with running(kind, target_batch_cost=100, batch_timeout_s=LONG, cost_estimator=own) as (
        batcher,
        work,
    ):
        await finished(*await batcher.submit_batch([60, 40]))
        assert work.seen == [[60, 40]]


@both
async def test_batch_goes_when_its_size_is_reached(kind: type[Recorder]) -> None:
    async with running(kind, max_batch_size=3, batch_timeout_s=LONG) as (batcher, work):
        await finished(*await batcher.submit_batch("abc"))
        assert work.seen == [["a", "b", "c"]]


@both
async def test_batch_goes_at_its_timeout_and_not_before(kind: type[Recorder], clock: Clock) -> None:
    """Trap 18."""
    async with running(kind, batch_timeout_s=1) as (batcher, work):
        first = await batcher.submit("first")
        clock.advance(0.9)
        second = await batcher.submit("second")
        await settle()
        assert work.seen == []
        clock.advance(0.2)
        await finished(first, second)
        assert work.seen == [["first", "second"]]


async def test_record_that_would_exceed_the_budget_sends_those_before_it(clock: Clock) -> None:
    """Trap 21."""
    async with running(target_batch_cost=100, batch_timeout_s=1, cost_estimator=own) as (
        batcher,
        work,
    ):
        small, large = await batcher.submit_batch([10, 95])
        await small
        assert work.seen == [[10]]
        clock.advance(1.1)
        await large
        assert work.seen == [[10], [95]]


@pytest.mark.parametrize("minimum", [2, 4])
async def test_full_budget_goes_at_once_whatever_the_minimum(minimum: int) -> None:
    """Trap 23."""
    async with running(
        min_batch_size=minimum, target_batch_cost=10, batch_timeout_s=LONG, cost_estimator=own
    ) as (batcher, work):
        assert await (await batcher.submit(10)) == 10
        assert work.seen == [[10]]


async def test_full_size_goes_at_once_whatever_the_minimum() -> None:
    """Trap 23."""
    async with running(min_batch_size=2, max_batch_size=2, batch_timeout_s=LONG) as (batcher, _):
        assert await finished(*await batcher.submit_batch("ab")) == ["a", "b"]


async def test_fewer_than_the_minimum_go_at_the_timeout(clock: Clock) -> None:
    """Trap 23."""
    async with running(min_batch_size=3, batch_timeout_s=1) as (batcher, work):
        futures = await batcher.submit_batch("ab")
        clock.advance(1.1)
        await finished(*futures)
        assert work.seen == [["a", "b"]]


async def test_minimum_without_a_full_budget_waits_for_the_timeout(clock: Clock) -> None:
    """Trap 23."""
    async with running(min_batch_size=2, batch_timeout_s=1) as (batcher, work):
        futures = await batcher.submit_batch("abc")
        await settle()
        assert work.seen == []
        clock.advance(1.1)
        await finished(*futures)


async def test_without_a_timeout_all_that_is_there_goes() -> None:
    """Trap 19."""
    async with running(batch_timeout_s=0, min_batch_size=64) as (batcher, work):
        await finished(*await batcher.submit_batch(range(50)))
        assert work.seen == [list(range(50))]


@both
async def test_without_a_timeout_all_that_gathered_behind_a_batch_goes(
    kind: type[Recorder],
) -> None:
    """Trap 19. Trap 20."""
    async with running(kind, batch_timeout_s=0) as (batcher, work):
        held = await busy(batcher, work)
        futures = await batcher.submit_batch(range(50))
        work.release()
        await finished(held, *futures)
        assert work.seen == [["held"], list(range(50))]


@both
async def test_batch_whose_timeout_passed_behind_another_goes_at_its_turn(
    kind: type[Recorder], clock: Clock
) -> None:
    """Trap 18. Trap 20."""
    async with running(kind, batch_timeout_s=1) as (batcher, work):
        held = await busy(batcher, work)
        future = await batcher.submit("late")
        clock.advance(1.1)
        await settle()
        assert work.seen == [["held"]]
        work.release()
        assert await finished(held, future) == ["held", "late"]


async def test_batch_behind_another_waits_only_for_the_rest_of_its_timeout(clock: Clock) -> None:
    """Trap 18."""
    async with running(batch_timeout_s=1) as (batcher, work):
        held = await busy(batcher, work)
        future = await batcher.submit("next")
        clock.advance(0.9)
        work.release()
        await held
        await settle()
        assert work.seen == [["held"]]
        clock.advance(0.2)
        assert await future == "next"


# ---- what is in it ----


@both
async def test_dearer_record_goes_alone(kind: type[Recorder]) -> None:
    """Trap 22."""
    async with running(kind, target_batch_cost=100, cost_estimator=own) as (batcher, work):
        held = await busy(batcher, work)
        futures = await batcher.submit_batch([1, 500, 2, 3])
        work.release()
        await finished(held, *futures)
        assert work.seen == [["held"], [1], [500], [2, 3]]


async def test_free_records_do_not_join_a_dearer_one() -> None:
    """Trap 22."""
    async with running(target_batch_cost=100, cost_estimator=own) as (batcher, work):
        held = await busy(batcher, work)
        futures = await batcher.submit_batch([0, 500, 0])
        work.release()
        await finished(held, *futures)
        assert work.seen == [["held"], [0], [500], [0]]


@both
@pytest.mark.parametrize("seed", range(6))
async def test_batches_are_the_fullest_that_keep_order_and_limits(
    kind: type[Recorder], seed: int
) -> None:
    """Trap 21. Trap 24. Scenario 83."""
    dice = random.Random(seed)
    budget, size = dice.randint(1, 40), dice.randint(1, 12)
    costs = [dice.randint(0, 20) for _ in range(200)]
    async with running(
        kind,
        target_batch_cost=budget,
        max_batch_size=size,
        prefetch_batches=dice.randint(0, 3),
        cost_estimator=own,
    ) as (batcher, work):
        held = await busy(batcher, work)
        futures = await batcher.submit_batch(costs)
        work.release()
        assert await finished(held, *futures) == ["held", *costs]
        assert work.seen[1:] == greedy(costs, budget, size)


async def test_no_limit_of_cost_sends_any_cost() -> None:
    async with running(target_batch_cost=-1, cost_estimator=own) as (batcher, work):
        records = [2**63 - 1] * 3
        await finished(*await batcher.submit_batch(records))
        assert work.seen == [records]


async def test_no_limit_of_size_sends_any_number() -> None:
    async with running(max_batch_size=-1) as (batcher, work):
        await finished(*await batcher.submit_batch(range(1000)))
        assert work.seen == [list(range(1000))]


@both
async def test_one_batch_runs_at_a_time(kind: type[Recorder]) -> None:
    async with running(kind, max_batch_size=1) as (batcher, work):
        await finished(*await batcher.submit_batch(range(20)))
        assert (work.peak, work.seen) == (1, [[number] for number in range(20)])


async def test_cancelled_record_gives_its_share_of_the_budget_back() -> None:
    """Trap 7."""
    async with running(target_batch_cost=100, cost_estimator=own) as (batcher, work):
        held = await busy(batcher, work)
        futures = await batcher.submit_batch([60, 30, 40])
        futures[1].cancel()
        work.release()
        await finished(held, *futures)
        assert work.seen == [["held"], [60, 40]]
