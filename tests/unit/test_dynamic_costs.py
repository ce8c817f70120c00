"""What a record costs: who is asked, in which order, and what nonsense leads to."""

from __future__ import annotations

from typing import Any

import pytest
from dynamics import own, running
from support import outcome

from async_batcher import CostEstimator, DynamicBatcher

WRONG: list[Any] = [-1, 1.5, float("nan"), "3", True, 2**63, 2**70, [], object()]


class Priced:
    """A record that knows its cost."""

    def __init__(self, cost: Any) -> None:
        self.cost = cost

    def estimate_cost(self) -> Any:
        if isinstance(self.cost, BaseException):
            raise self.cost
        return self.cost


async def cost_of(batcher: Any, record: Any, **given: Any) -> int:
    """Return what `record` cost, by what `stats` counts."""
    before = batcher.stats.total_batch_cost
    await (await batcher.submit(record, **given))
    return int(batcher.stats.total_batch_cost - before)


async def test_default_cost_is_that_of_a_record_of_which_nothing_is_known() -> None:
    async with running(default_cost=7) as (batcher, _):
        assert await cost_of(batcher, "record") == 7


async def test_default_cost_is_one() -> None:
    async with running() as (batcher, _):
        assert await cost_of(batcher, "record") == 1


async def test_record_is_asked_before_the_default() -> None:
    async with running(default_cost=7) as (batcher, _):
        assert await cost_of(batcher, Priced(5)) == 5


async def test_estimator_is_asked_before_the_record() -> None:
    async with running(default_cost=7, cost_estimator=lambda record: 3) as (batcher, _):
        assert await cost_of(batcher, Priced(5)) == 3


async def test_cost_of_the_call_comes_first() -> None:
    async with running(default_cost=7, cost_estimator=lambda record: 3) as (batcher, _):
        assert await cost_of(batcher, Priced(5), estimated_cost=2) == 2


@pytest.mark.parametrize("sources", range(4))
async def test_zero_is_a_cost_from_every_source(sources: int) -> None:
    """Trap 17."""
    options: dict[str, Any] = {"default_cost": 0 if sources == 0 else 9}
    if sources >= 2:
        options["cost_estimator"] = lambda record: 0 if sources == 2 else 9
    given = {"estimated_cost": 0} if sources == 3 else {}
    async with running(**options) as (batcher, _):
        assert await cost_of(batcher, Priced(0) if sources == 1 else 9, **given) == 0


async def test_largest_cost_is_counted_in_full() -> None:
    """Trap 17."""
    async with running() as (batcher, _):
        for _ in range(3):
            assert await cost_of(batcher, 1, estimated_cost=2**63 - 1) == 2**63 - 1
        assert batcher.stats.total_batch_cost == 3 * (2**63 - 1)


async def test_source_that_loses_is_not_asked() -> None:
    """Trap 17."""
    async with running() as (batcher, _):
        assert await cost_of(batcher, Priced(LookupError("asked")), estimated_cost=4) == 4


async def test_nobody_is_asked_for_a_record_that_is_refused() -> None:
    """Trap 31."""
    asked: list[Any] = []

    def price(record: Any) -> int:
        asked.append(record)
        return 1

    batcher: DynamicBatcher[Any, Any] = DynamicBatcher(list, cost_estimator=price)
    assert isinstance(await outcome(lambda: batcher.submit(1)), RuntimeError)
    assert isinstance(await outcome(lambda: batcher.submit_batch([1])), RuntimeError)
    assert asked == []


async def test_each_record_is_priced_once() -> None:
    asked: list[Any] = []

    def price(record: Any) -> int:
        asked.append(record)
        return 1

    async with running(cost_estimator=price) as (batcher, _):
        await batcher.submit(1)
        await batcher.submit_batch([2, 3])
        assert asked == [1, 2, 3]


@pytest.mark.parametrize("value", WRONG, ids=repr)
async def test_nonsense_of_the_estimator_names_it_and_its_value(value: Any) -> None:
    """Trap 17. Scenario 14."""
    async with running(cost_estimator=lambda record: value) as (batcher, work):
        error = await outcome(lambda: batcher.submit(1))
        assert isinstance(error, (TypeError, ValueError))
        assert "cost_estimator" in str(error)
        assert repr(value)[:50] in str(error)
        assert work.seen == []


@pytest.mark.parametrize("value", WRONG, ids=repr)
async def test_nonsense_of_the_record_names_its_method(value: Any) -> None:
    """Trap 17. Scenario 14."""
    async with running() as (batcher, _):
        error = await outcome(lambda: batcher.submit(Priced(value)))
        assert isinstance(error, (TypeError, ValueError))
        assert "estimate_cost" in str(error)


@pytest.mark.parametrize("value", WRONG, ids=repr)
async def test_nonsense_in_the_call_names_the_argument(value: Any) -> None:
    """Trap 17. Scenario 14."""
    async with running() as (batcher, _):
        error = await outcome(lambda: batcher.submit(1, estimated_cost=value))
        assert isinstance(error, (TypeError, ValueError))
        assert "estimated_cost" in str(error)


@pytest.mark.parametrize("value", [None, *WRONG], ids=repr)
async def test_nonsense_for_one_record_leaves_the_others_alone(value: Any) -> None:
    """Trap 17. Scenario 14."""

    def price(record: Any) -> Any:
        return value if record == "bad" else 1

    async with running(cost_estimator=price) as (batcher, work):
        before = await batcher.submit("before")
        bad = await outcome(lambda: batcher.submit("bad"))
        after = await batcher.submit("after")
        assert (await before, await after) == ("before", "after")
        assert isinstance(bad, (TypeError, ValueError))
        assert work.items == ["before", "after"]
        assert batcher.stats.total_submitted == 2


@pytest.mark.parametrize("error", [LookupError("no price"), KeyboardInterrupt(), SystemExit(3)])
async def test_error_of_the_estimator_is_raised_as_it_is(error: BaseException) -> None:
    """Trap 17. Scenario 14."""

    def refuse(record: Any) -> int:
        raise error

    async with running(cost_estimator=refuse) as (batcher, _):
        assert await outcome(lambda: batcher.submit(1)) is error
        assert await outcome(lambda: batcher.submit_batch([1])) is error


async def test_error_of_the_record_is_raised_as_it_is() -> None:
    """Trap 17. Scenario 14."""
    error = LookupError("no price")
    async with running() as (batcher, _):
        assert await outcome(lambda: batcher.submit(Priced(error))) is error
        assert await (await batcher.submit(1)) == 1


async def test_estimator_may_submit_records_itself() -> None:
    """Scenario 60."""
    inner: list[Any] = []

    def price(record: Any) -> int:
        if record == "outer":
            inner.append(batcher.process("inner"))
        return 1

    async with running(cost_estimator=price) as (batcher, work):
        assert await (await batcher.submit("outer")) == "outer"
        assert await inner[0] == "inner"
        assert work.items == ["inner", "outer"]


# ---- costs of submit_batch ----


async def test_costs_of_submit_batch_go_with_their_records() -> None:
    async with running(target_batch_cost=10, batch_timeout_s=3600) as (batcher, work):
        futures = await batcher.submit_batch("abcd", estimated_cost=[6, 4, 9, 1])
        assert [await future for future in futures] == list("abcd")
        assert work.seen == [["a", "b"], ["c", "d"]]


async def test_none_among_the_costs_asks_as_in_submit() -> None:
    async with running(cost_estimator=own) as (batcher, _):
        futures = await batcher.submit_batch([5, 6], estimated_cost=[None, 1])
        assert [await future for future in futures] == [5, 6]
        assert batcher.stats.total_batch_cost == 6


@pytest.mark.parametrize("costs", [[], [1], [1, 2, 3]])
async def test_costs_of_another_length_are_refused_with_both_lengths(costs: list[int]) -> None:
    async with running() as (batcher, work):
        with pytest.raises(ValueError, match=f"estimated_cost.* 2, not {len(costs)}"):
            await batcher.submit_batch(["a", "b"], estimated_cost=costs)
        assert (work.seen, batcher.stats.total_submitted) == ([], 0)


async def test_one_cost_for_all_is_refused_by_name() -> None:
    async with running() as (batcher, _):
        with pytest.raises(TypeError, match="estimated_cost"):
            await batcher.submit_batch(["a", "b"], estimated_cost=3)


@pytest.mark.parametrize("place", range(3))
async def test_one_bad_cost_of_the_call_queues_no_record(place: int) -> None:
    """Trap 17. Trap 31."""
    costs = [1, 1, 1]
    costs[place] = -1
    async with running() as (batcher, work):
        with pytest.raises(ValueError, match="estimated_cost"):
            await batcher.submit_batch("abc", estimated_cost=costs)
        assert await (await batcher.submit(5)) == 5
        assert (work.items, batcher.stats.total_submitted) == ([5], 1)


@pytest.mark.parametrize("place", range(3))
async def test_one_bad_cost_of_the_estimator_queues_no_record(place: int) -> None:
    """Trap 17. Trap 31."""
    records = [1, 1, 1]
    records[place] = -1
    async with running(cost_estimator=own) as (batcher, work):
        with pytest.raises(ValueError, match="cost_estimator"):
            await batcher.submit_batch(records)
        assert await (await batcher.submit(5)) == 5
        assert (work.items, batcher.stats.total_submitted) == ([5], 1)


# ---- the protocol ----


def test_record_that_knows_its_cost_is_a_cost_estimator() -> None:
    assert isinstance(Priced(1), CostEstimator)
    assert not isinstance("text", CostEstimator)
