"""`process_many`: any iterable of items for one future."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from support import LONG, AsyncRecorder, Recorder, both, finished, no_loop_errors, outcome, settle

from async_batcher import AsyncBatcher, QueueFullException

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ITERABLES: list[Callable[[], Iterable[int]]] = [
    lambda: [0, 1, 2],
    lambda: (0, 1, 2),
    lambda: range(3),
    lambda: (item for item in range(3)),
    lambda: {0: "a", 1: "b", 2: "c"},
    lambda: iter([0, 1, 2]),
]


def fail_bad(batch: list[Any]) -> list[Any]:
    """Answer each "bad…" item with an error of its own."""
    return [ValueError(item) if str(item).startswith("bad") else item for item in batch]


@both
@pytest.mark.parametrize("make", ITERABLES, ids=["list", "tuple", "range", "gen", "dict", "iter"])
async def test_any_iterable_is_taken(
    kind: type[Recorder], make: Callable[[], Iterable[int]]
) -> None:
    """Scenario 83."""
    async with kind(max_queue_time=0) as batcher:
        many = batcher.process_many(make())
        assert isinstance(many, asyncio.Future)
        assert await many == [0, 1, 2]


@both
async def test_results_keep_the_order_of_the_items_over_several_batches(
    kind: type[Recorder],
) -> None:
    """Scenario 83."""
    async with kind(max_batch_size=3, max_queue_time=0, concurrency=2) as batcher:
        assert await batcher.process_many(range(50)) == list(range(50))


@both
async def test_items_of_one_call_share_batches_with_others(kind: type[Recorder]) -> None:
    """Trap 24."""
    async with kind(max_batch_size=4, max_queue_time=LONG) as batcher:
        first = batcher.process(0)
        many = batcher.process_many([1, 2])
        last = batcher.process(3)
        assert await finished(first, many, last) == [0, [1, 2], 3]
        assert batcher.seen == [[0, 1, 2, 3]]


@both
async def test_no_items_give_an_empty_list(kind: type[Recorder]) -> None:
    """Scenario 83."""
    async with kind() as batcher:
        assert await batcher.process_many([]) == []
        assert batcher.seen == []


async def test_no_items_give_a_list_of_the_callers_own() -> None:
    """Scenario 83."""
    async with AsyncRecorder() as batcher:
        first = await batcher.process_many([])
        first.append(1)
        assert await batcher.process_many([]) == []


async def test_what_cannot_be_iterated_is_a_type_error() -> None:
    """Scenario 11."""
    async with AsyncRecorder() as batcher:
        assert isinstance(await outcome(lambda: batcher.process_many(3)), TypeError)  # type: ignore[arg-type]
        assert batcher.stats.submitted == 0


async def test_iterable_that_raises_queues_nothing() -> None:
    """Scenario 14."""
    error = LookupError("no more")

    def items() -> Iterator[int]:
        yield 1
        raise error

    async with AsyncRecorder(max_queue_time=0) as batcher:
        assert await outcome(lambda: batcher.process_many(items())) is error
        assert (batcher.stats.submitted, batcher.stats.queued) == (0, 0)


async def test_iterable_may_use_the_batcher() -> None:
    """Scenario 60."""
    inner: list[asyncio.Future[Any]] = []

    async with AsyncRecorder(max_queue_time=0) as batcher:

        def items() -> Iterator[int]:
            for item in range(3):
                inner.append(batcher.process(item + 10))
                yield item

        assert await batcher.process_many(items()) == [0, 1, 2]
        assert await finished(*inner) == [10, 11, 12]


@both
async def test_all_or_nothing_when_the_queue_is_full(kind: type[Recorder]) -> None:
    """Trap 30. Trap 31."""
    async with kind(max_queue_size=3, max_queue_time=0) as batcher:
        held = await batcher.busy()
        queued = batcher.process(1)
        refused = batcher.process_many([2, 3, 4])
        assert refused.done()
        assert isinstance(refused.exception(), QueueFullException)
        assert batcher.stats.queued == 1
        fits = batcher.process_many([5, 6])
        batcher.release()
        assert await finished(held, queued, fits) == ["held", 1, [5, 6]]


@both
async def test_errors_are_raised_as_gather_does(kind: type[Recorder]) -> None:
    """Scenario 6."""
    async with kind(fail_bad, max_queue_time=0) as batcher:
        with pytest.raises(ValueError, match="bad1"):
            await batcher.process_many([0, "bad1", 2])


@both
async def test_errors_stay_in_the_list_when_asked_for(kind: type[Recorder]) -> None:
    """Scenario 6."""
    async with kind(fail_bad, max_batch_size=2, max_queue_time=0) as batcher:
        results = await batcher.process_many([0, "bad1", "bad2", 3], return_exceptions=True)
        assert [str(result) for result in results] == ["0", "bad1", "bad2", "3"]
        assert [type(result) for result in results[1:3]] == [ValueError, ValueError]


class Uneven(AsyncBatcher[str, str]):
    """Fails a batch of "bad" at once and keeps any other until `gate` opens."""

    def __init__(self) -> None:
        super().__init__(max_batch_size=1, max_queue_time=0, concurrency=2)
        self.gate = asyncio.Event()

    async def process_batch(self, batch: list[str]) -> list[str]:
        if batch == ["bad"]:
            raise ValueError("bad")
        await self.gate.wait()
        return batch


@pytest.mark.parametrize("items", [["slow", "bad"], ["bad", "slow"]])
async def test_first_error_is_raised_while_others_still_run(items: list[str]) -> None:
    """Scenario 6."""
    async with Uneven() as batcher:
        with pytest.raises(ValueError, match="bad"):
            await batcher.process_many(items)
        assert batcher.stats.running == 1
        batcher.gate.set()


async def test_later_errors_of_a_failed_call_are_not_logged() -> None:
    """Trap 1."""
    async with AsyncRecorder(fail_bad, max_batch_size=1, max_queue_time=0) as batcher:
        with no_loop_errors():
            with pytest.raises(ValueError, match="bad1"):
                await batcher.process_many(["bad1", "bad2", "bad3"])
            await batcher.idle()


@both
async def test_cancelling_cancels_all_that_still_waits(kind: type[Recorder]) -> None:
    """Scenario 15."""
    async with kind(max_queue_time=0) as batcher:
        held = await batcher.busy()
        many = batcher.process_many([1, 2, 3])
        other = batcher.process("other")
        assert many.cancel()
        batcher.release()
        assert await finished(held, other) == ["held", "other"]
        assert batcher.seen == [["held"], ["other"]]
        assert batcher.stats.cancelled == 3


@both
async def test_cancelling_while_some_run_leaves_the_rest_unsent(kind: type[Recorder]) -> None:
    """Scenario 17."""
    async with kind(max_batch_size=2, max_queue_time=0) as batcher:
        batcher.hold()
        many = batcher.process_many(range(6))
        await batcher.begun(1)
        many.cancel()
        batcher.release()
        assert await batcher.process("after") == "after"
        assert batcher.seen == [[0, 1], ["after"]]


@both
async def test_cancelled_call_hurts_no_neighbour_in_the_batch(kind: type[Recorder]) -> None:
    """Scenario 16."""
    async with kind(max_batch_size=3, max_queue_time=LONG) as batcher:
        batcher.hold()
        many = batcher.process_many([0, 1])
        neighbour = batcher.process(2)
        await batcher.begun(1)
        many.cancel()
        await settle()
        batcher.release()
        assert await neighbour == 2


async def test_failed_batch_fails_the_whole_call() -> None:
    """Scenario 7."""

    def refuse(batch: list[Any]) -> Any:
        raise LookupError("all")

    async with AsyncRecorder(refuse, max_queue_time=0) as batcher:
        results = await batcher.process_many(range(3), return_exceptions=True)
        assert [type(result) for result in results] == [LookupError] * 3
        with pytest.raises(LookupError, match="all"):
            await batcher.process_many(range(3))


async def test_ten_thousand_items_come_back_in_order() -> None:
    """Scenario 78."""
    async with AsyncRecorder(max_batch_size=64, max_queue_time=0) as batcher:
        assert await batcher.process_many(range(10_000)) == list(range(10_000))
