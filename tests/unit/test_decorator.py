"""`@batched`: on functions and on methods."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import pickle
import weakref
from typing import Any

import pytest
from support import LONG, finished, outcome, run

from async_batcher import AsyncBatcher, batched


@batched(max_batch_size=3, max_queue_time=LONG)
async def triple(numbers: list[int]) -> list[int]:
    """Triple each number."""
    return [3 * number for number in numbers]


class Scaler:
    """Has an async and a sync batched method, and keeps the batches."""

    def __init__(self, factor: int) -> None:
        self.factor = factor
        self.batches: list[list[int]] = []

    @batched(max_batch_size=64, max_queue_time=0)
    async def scale(self, numbers: list[int]) -> list[int]:
        self.batches.append(numbers)
        return [self.factor * number for number in numbers]

    @batched(max_batch_size=64, max_queue_time=0)
    def scale_sync(self, numbers: list[int]) -> list[int]:
        self.batches.append(numbers)
        return [self.factor * number for number in numbers]


both_methods = pytest.mark.parametrize("name", ["scale", "scale_sync"])


async def test_function_called_with_one_item_returns_its_future() -> None:
    @batched(max_queue_time=0)
    async def double(numbers: list[int]) -> list[int]:
        return [2 * number for number in numbers]

    future = double(2)
    assert isinstance(future, asyncio.Future)
    assert await future == 4


async def test_sync_function_is_taken_too() -> None:
    @batched(max_queue_time=0)
    def double(numbers: list[int]) -> list[int]:
        return [2 * number for number in numbers]

    assert await asyncio.gather(double(1), double(2)) == [2, 4]
    await double.batcher.stop()


async def test_items_of_a_function_share_a_batch() -> None:
    seen: list[list[int]] = []

    @batched(max_batch_size=3, max_queue_time=LONG)
    async def keep(numbers: list[int]) -> list[int]:
        seen.append(numbers)
        return numbers

    assert await finished(*map(keep, range(3))) == [0, 1, 2]
    assert seen == [[0, 1, 2]]


async def test_batcher_of_a_function_is_reached() -> None:
    @batched(max_batch_size=7)
    async def keep(numbers: list[int]) -> list[int]:
        return numbers

    assert isinstance(keep.batcher, AsyncBatcher)
    assert keep.batcher.max_batch_size == 7
    await keep.batcher.stop()


def test_decorated_function_keeps_its_name_and_docstring() -> None:
    assert triple.__name__ == "triple"
    assert triple.__doc__ == "Triple each number."


def test_module_level_function_serves_one_asyncio_run_after_another() -> None:
    """Scenario 38. Trap 42."""

    async def main() -> list[int]:
        return await finished(*map(triple, range(3)))

    assert [run(main()), run(main())] == [[0, 3, 6], [0, 3, 6]]


@both_methods
async def test_method_called_with_one_item_returns_its_future(name: str) -> None:
    scaler = Scaler(5)
    scale = getattr(scaler, name)
    # Without a window a worker may begin with the first item.
    scale.batcher.max_batch_size, scale.batcher.max_queue_time = 4, LONG
    assert await finished(*map(scale, range(4))) == [0, 5, 10, 15]
    assert scaler.batches == [[0, 1, 2, 3]]


@both_methods
async def test_each_instance_has_a_batcher_of_its_own(name: str) -> None:
    one, two = Scaler(1), Scaler(2)
    futures = [getattr(one, name)(10), getattr(two, name)(10)]
    assert await finished(*futures) == [10, 20]
    assert getattr(one, name).batcher is not getattr(two, name).batcher


@both_methods
async def test_batcher_of_an_instance_stays_the_same(name: str) -> None:
    scaler = Scaler(1)
    assert getattr(scaler, name).batcher is getattr(scaler, name).batcher
    assert isinstance(getattr(scaler, name).batcher, AsyncBatcher)


async def test_methods_of_one_instance_have_batchers_of_their_own() -> None:
    scaler = Scaler(1)
    assert scaler.scale.batcher is not scaler.scale_sync.batcher


@both_methods
async def test_instance_is_not_kept_alive_by_its_batcher(name: str) -> None:
    """Scenario 91."""
    scaler = Scaler(1)
    await getattr(scaler, name)(1)
    reference = weakref.ref(scaler)
    await getattr(scaler, name).batcher.idle()
    await getattr(scaler, name).batcher.stop()
    del scaler
    gc.collect()
    assert reference() is None


async def test_instance_with_pending_work_lives_until_it_is_done() -> None:
    """Scenario 88. Scenario 91."""
    future = Scaler(4).scale(2)
    gc.collect()
    assert await future == 8


async def test_equal_instances_do_not_share_a_batcher() -> None:
    """Scenario 91."""

    class Equal(Scaler):
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Equal)

        __hash__ = None  # type: ignore[assignment]

    one, two = Equal(1), Equal(2)
    assert await finished(one.scale(10), two.scale(10)) == [10, 20]


async def test_subclass_may_call_the_method_it_inherits() -> None:
    class Sub(Scaler):
        def twice(self, number: int) -> asyncio.Future[int]:
            return super().scale(2 * number)

    assert await Sub(3).twice(2) == 12


async def test_many_instances_work_side_by_side() -> None:
    """Scenario 91."""
    scalers = [Scaler(factor) for factor in range(500)]
    assert await finished(*(scaler.scale(2) for scaler in scalers)) == list(range(0, 1000, 2))


class Touching:
    """A function that looks at another object's method as it is bound, as a destructor may."""

    def __init__(self) -> None:
        self.touched: list[Any] = []

    def __call__(self, instance: Any, numbers: list[int]) -> list[int]:
        return numbers

    def __get__(self, instance: Any, owner: Any) -> Any:
        if self.touched:
            assert self.touched.pop().echo
        return functools.partial(self, instance)


@pytest.mark.parametrize("is_same", [False, True])
def test_first_access_may_come_inside_another_first_access(is_same: bool) -> None:
    """Trap 52. The collector runs anywhere, and destructors with it."""
    function = Touching()

    class Model:
        echo = batched()(function)

    model, other = Model(), Model()
    other = model if is_same else other
    function.touched.append(other)
    assert model.echo is model.echo
    assert other.echo is other.echo
    assert (model.echo is other.echo) == is_same


@pytest.mark.parametrize(
    ("option", "value"), [("max_batch_size", 0), ("max_queue_time", -1), ("concurrency", 0)]
)
def test_wrong_option_is_refused(option: str, value: Any) -> None:
    """Scenario 11."""

    def decorate_and_use() -> None:
        @batched(**{option: value})
        async def keep(numbers: list[int]) -> list[int]:
            return numbers

        assert keep.batcher is None

    with pytest.raises(ValueError, match=option):
        decorate_and_use()


async def test_error_of_the_function_reaches_its_callers() -> None:
    """Scenario 7."""

    @batched(max_queue_time=0)
    async def refuse(numbers: list[int]) -> list[int]:
        raise LookupError("no")

    errors = [await outcome(lambda: refuse(1)), await outcome(lambda: refuse(2))]
    assert [type(error) for error in errors] == [LookupError] * 2


class Offset(Scaler):
    """Overrides a batched method and builds on it."""

    @batched(max_queue_time=0)
    async def scale(self, numbers: list[int]) -> list[int]:
        return [1 + number for number in await super().scale.batcher.process_many(numbers)]


async def test_override_may_use_the_method_it_overrides() -> None:
    offset = Offset(10)
    assert [await offset.scale(1), await offset.scale(2)] == [11, 21]


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda scaler: pickle.loads(pickle.dumps(scaler))],
    ids=["copy", "deepcopy", "pickle"],
)
async def test_copy_of_an_instance_has_a_batcher_of_its_own(duplicate: Any) -> None:
    scaler = Scaler(2)
    assert await scaler.scale(1) == 2
    other = duplicate(scaler)
    other.factor = 5
    assert [await other.scale(1), await scaler.scale(1)] == [5, 2]


async def test_batched_function_is_pickled_by_its_name() -> None:
    assert pickle.loads(pickle.dumps(triple)) is triple
