"""What `process_batch` may return, and what becomes of the rest."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from support import LONG, Recorder, both, finished, outcome

from async_batcher import AsyncBatcher, AsyncBatchException, BatchResultError

ITEMS = [0, 1, 2]


class Rows(Sequence[int]):
    """A sequence of its own make."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self.length:
            raise IndexError(index)
        return index


class Tensor:
    """What a tensor of torch is to a reader: a length, rows by index, and no Sequence."""

    __iter__ = None

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> int:
        return range(3)[index.__index__()]

    def __bool__(self) -> bool:
        raise RuntimeError("the truth value of a tensor of three rows is ambiguous")


def batch_of_three(kind: type[Recorder], function: Callable[[list[Any]], Any]) -> Recorder:
    """Return a batcher whose batches are three items."""
    return kind(function, max_batch_size=3, max_queue_time=LONG)


async def answers(batcher: Recorder, items: Sequence[Any] = ITEMS) -> list[Any]:
    """Return what each caller of one batch gets."""
    return await finished(*map(batcher.process, items))


GOOD_RESULTS: list[tuple[str, Callable[[list[Any]], Any]]] = [
    ("list", list),
    ("tuple", tuple),
    ("range", lambda batch: range(3)),
    ("deque", collections.deque),
    ("custom", lambda batch: Rows(3)),
    ("same list", lambda batch: batch),
    ("userlist", collections.UserList),
    ("tensor", lambda batch: Tensor()),
]


@both
@pytest.mark.parametrize(("name", "function"), GOOD_RESULTS, ids=[n for n, _ in GOOD_RESULTS])
async def test_sequence_is_read_by_index(
    kind: type[Recorder], name: str, function: Callable[[list[Any]], Any]
) -> None:
    """Scenario 4. Trap 12."""
    async with batch_of_three(kind, function) as batcher:
        assert await answers(batcher) == ITEMS


@both
async def test_none_gives_every_waiter_none(kind: type[Recorder]) -> None:
    """Scenario 3. Trap 12."""
    async with batch_of_three(kind, lambda batch: None) as batcher:
        futures = [batcher.process(item) for item in ITEMS]
        await asyncio.wait(futures)
        assert [future.result() for future in futures] == [None] * 3


@both
async def test_rows_of_a_numpy_array_go_by_index(kind: type[Recorder]) -> None:
    """Scenario 4. Trap 12. Trap 14."""
    async with batch_of_three(kind, lambda batch: np.arange(6).reshape(3, 2)) as batcher:
        futures = [batcher.process(item) for item in ITEMS]
        await asyncio.wait(futures)
        assert [future.result().tolist() for future in futures] == [[0, 1], [2, 3], [4, 5]]


@both
async def test_one_dimensional_numpy_array_gives_scalars(kind: type[Recorder]) -> None:
    """Scenario 4. Trap 12."""
    async with batch_of_three(kind, lambda batch: np.array([0.5, 1.5, 2.5])) as batcher:
        futures = [batcher.process(item) for item in ITEMS]
        await asyncio.wait(futures)
        assert [float(future.result()) for future in futures] == [0.5, 1.5, 2.5]


@both
async def test_results_may_be_falsy(kind: type[Recorder]) -> None:
    """Trap 14."""
    async with batch_of_three(kind, lambda batch: [0, "", []]) as batcher:
        futures = [batcher.process(item) for item in ITEMS]
        await asyncio.wait(futures)
        assert [future.result() for future in futures] == [0, "", []]


@both
async def test_results_are_never_compared_or_tested_for_truth(kind: type[Recorder]) -> None:
    """Trap 14."""

    class Untouchable:
        def refuse(self, *arguments: Any) -> Any:
            raise AssertionError("touched")

        __eq__ = __bool__ = __len__ = __iter__ = __hash__ = refuse

    results = [Untouchable() for _ in ITEMS]
    async with batch_of_three(kind, lambda batch: results) as batcher:
        futures = [batcher.process(item) for item in ITEMS]
        await asyncio.wait(futures)
        assert all(future.result() is row for future, row in zip(futures, results, strict=True))


async def make_coroutine() -> list[int]:
    return ITEMS


class Unsized:
    """Has items but no length."""

    def __getitem__(self, index: int) -> int:
        return index


REFUSED: list[tuple[str, Callable[[list[Any]], Any]]] = [
    ("short", lambda batch: batch[:-1]),
    ("long", lambda batch: [*batch, 3]),
    ("empty", lambda batch: []),
    ("short array", lambda batch: np.zeros((2, 3))),
    ("dict", lambda batch: dict.fromkeys(batch)),
    ("set", set),
    ("frozenset", frozenset),
    ("str", lambda batch: "abc"),
    ("bytes", lambda batch: b"abc"),
    ("generator", lambda batch: (item for item in batch)),
    ("map", lambda batch: map(str, batch)),
    ("number", lambda batch: 3),
    ("object", lambda batch: object()),
    ("type", lambda batch: list),
]
refused = pytest.mark.parametrize(("name", "function"), REFUSED, ids=[n for n, _ in REFUSED])


@both
@refused
async def test_refused_result_is_an_error_to_every_caller(
    kind: type[Recorder], name: str, function: Callable[[list[Any]], Any]
) -> None:
    """Scenario 1. Scenario 2. Scenario 4. Trap 12."""
    async with batch_of_three(kind, function) as batcher:
        assert [type(answer) for answer in await answers(batcher)] == [BatchResultError] * 3


@both
async def test_batch_after_a_refused_result_works(kind: type[Recorder]) -> None:
    """Scenario 1. Scenario 2."""
    results = iter([[], ["fine"]])
    async with kind(lambda batch: next(results), max_queue_time=0) as batcher:
        with pytest.raises(BatchResultError):
            await batcher.process(1)
        assert await batcher.process(2) == "fine"


@both
@pytest.mark.parametrize("length", [2, 4])
async def test_wrong_length_names_what_came_and_what_was_expected(
    kind: type[Recorder], length: int
) -> None:
    """Scenario 1. Scenario 2."""
    async with batch_of_three(kind, lambda batch: list(range(length))) as batcher:
        for answer in await answers(batcher):
            assert "3" in str(answer)
            assert str(length) in str(answer)


async def test_coroutine_as_result_is_refused_and_never_left_unawaited() -> None:
    """Trap 12."""

    class Forgetful(AsyncBatcher[int, Any]):
        def process_batch(self, batch: list[int]) -> Any:
            return make_coroutine()

    async with Forgetful(max_queue_time=0) as batcher:
        with pytest.raises(BatchResultError):
            await batcher.process(1)


@both
async def test_exception_as_result_is_raised_to_its_caller_alone(kind: type[Recorder]) -> None:
    """Scenario 6."""
    async with batch_of_three(kind, lambda batch: [0, KeyError("one"), 2]) as batcher:
        first, second, third = await answers(batcher)
        assert (first, third) == (0, 2)
        assert isinstance(second, KeyError)
        assert second.args == ("one",)


@both
async def test_exception_class_as_result_is_a_value(kind: type[Recorder]) -> None:
    """Scenario 6."""
    async with batch_of_three(kind, lambda batch: [ValueError] * 3) as batcher:
        assert await answers(batcher) == [ValueError] * 3


@both
async def test_stop_iteration_as_result_is_a_runtime_error_of_its_caller(
    kind: type[Recorder],
) -> None:
    """Trap 10. Scenario 9."""
    async with batch_of_three(kind, lambda batch: [0, StopIteration(1), 2]) as batcher:
        first, second, third = await answers(batcher)
        assert (first, third) == (0, 2)
        assert isinstance(second, RuntimeError)


@both
async def test_result_without_a_length_is_an_error_to_every_caller(kind: type[Recorder]) -> None:
    """Scenario 5. Trap 12."""
    async with batch_of_three(kind, lambda batch: Unsized()) as batcher:
        for answer in await answers(batcher):
            assert isinstance(answer, (AsyncBatchException, TypeError))


class Liar(Sequence[int]):
    """Says a length it does not have, or fails in some other way while it is read."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def __len__(self) -> int:
        if self.fault == "len":
            raise LookupError("len")
        return -1 if self.fault == "negative" else 3

    def __getitem__(self, index: Any) -> Any:
        if self.fault == "item" and index == 1:
            raise LookupError("item")
        if self.fault == "short" and index == 2:
            raise IndexError(index)
        return index


@both
@pytest.mark.parametrize("fault", ["len", "negative", "item", "short"])
async def test_read_that_fails_fails_the_whole_batch(kind: type[Recorder], fault: str) -> None:
    """Scenario 5. Trap 14."""
    results: list[Any] = [Liar(fault), [7]]
    async with batch_of_three(kind, lambda batch: results.pop(0)) as batcher:
        for answer in await answers(batcher):
            assert isinstance(answer, (AsyncBatchException, LookupError, ValueError))
        batcher.max_queue_time = 0
        assert await batcher.process(1) == 7


@both
async def test_function_may_empty_its_batch(kind: type[Recorder]) -> None:
    """Trap 13. Scenario 5."""

    def clear(batch: list[Any]) -> list[Any]:
        results = list(batch)
        batch.clear()
        return results

    async with batch_of_three(kind, clear) as batcher:
        assert await answers(batcher) == ITEMS
        assert (batcher.stats.completed, batcher.stats.running) == (3, 0)


@both
async def test_function_may_grow_its_batch(kind: type[Recorder]) -> None:
    """Trap 13. Scenario 5."""

    def grow(batch: list[Any]) -> list[Any]:
        results = list(batch)
        batch.extend(range(1000))
        return results

    async with batch_of_three(kind, grow) as batcher:
        assert await answers(batcher) == ITEMS


@both
async def test_results_changed_later_do_not_change_what_was_answered(
    kind: type[Recorder],
) -> None:
    """Trap 13."""
    kept: list[list[Any]] = []

    def keep(batch: list[Any]) -> list[Any]:
        kept.append(list(batch))
        return kept[-1]

    async with batch_of_three(kind, keep) as batcher:
        futures = [batcher.process(item) for item in ITEMS]
        futures[0].add_done_callback(lambda future: kept[0].clear())
        assert await finished(*futures) == ITEMS


@both
async def test_nobody_is_told_before_all_rows_are_read(kind: type[Recorder]) -> None:
    """Scenario 5."""
    told: list[bool] = []
    futures: list[asyncio.Future[Any]] = []

    class Watching(Rows):
        def __getitem__(self, index: Any) -> Any:
            told.append(any(future.done() for future in futures))
            return super().__getitem__(index)

    async with batch_of_three(kind, lambda batch: Watching(3)) as batcher:
        futures += map(batcher.process, ITEMS)
        assert await finished(*futures) == ITEMS
        assert not any(told)


@both
async def test_result_error_is_a_value_error_of_ours(kind: type[Recorder]) -> None:
    """Scenario 1."""
    async with kind(lambda batch: 3, max_queue_time=0) as batcher:
        error = await outcome(lambda: batcher.process(1))
        assert isinstance(error, AsyncBatchException)
        assert isinstance(error, ValueError)
