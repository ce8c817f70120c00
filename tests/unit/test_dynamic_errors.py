"""What goes wrong in process_fn reaches the callers of its batch, and nobody else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from dynamics import busy, running
from support import LONG, Recorder, both, finished, outcome

from async_batcher import BatchCancelledError, BatchResultError, DynamicBatcher

THREE = [1, 2, 3]
WRONG_RESULTS: list[Any] = [{}, {1, 2, 3}, "abc", b"abc", 7, iter([1, 2, 3])]
FINAL = [KeyboardInterrupt, SystemExit, GeneratorExit]


def answers(function: Any, kind: type[Recorder]) -> Any:
    """Process three records by `function`, then one more, and give what each caller got."""

    async def ask() -> list[Any]:
        async with running(kind, function, batch_timeout_s=LONG) as (batcher, work):
            futures = await batcher.submit_batch(THREE)
            batcher.flush()  # in one batch: a worker without a window might begin with the first
            got = await finished(*futures)
            work.function = list
            following = await batcher.submit("next")
            batcher.flush()
            assert await following == "next"
            return got

    return ask()


def raising(error: BaseException | type[BaseException]) -> Any:
    def fail(batch: list[Any]) -> list[Any]:
        raise error

    return fail


@both
@pytest.mark.parametrize("count", [0, 1, 2, 4])
async def test_wrong_number_of_results_is_told_with_both_numbers(
    kind: type[Recorder], count: int
) -> None:
    """Scenario 1. Scenario 2. Trap 12."""
    for error in await answers(lambda batch: [0] * count, kind):
        assert isinstance(error, BatchResultError)
        assert isinstance(error, ValueError)
        assert f"returned {count} results" in str(error)
        assert "3" in str(error)


@both
@pytest.mark.parametrize("result", WRONG_RESULTS, ids=lambda result: type(result).__name__)
async def test_result_that_is_no_sequence_is_an_error(kind: type[Recorder], result: Any) -> None:
    """Scenario 4. Trap 12."""
    for error in await answers(lambda batch: result, kind):
        assert isinstance(error, BatchResultError)


@both
async def test_no_result_gives_every_caller_none(kind: type[Recorder]) -> None:
    """Scenario 3."""
    assert await answers(lambda batch: None, kind) == [None] * 3


@both
async def test_exception_among_the_results_is_that_of_one_caller(kind: type[Recorder]) -> None:
    """Scenario 6."""
    first, second, third = await answers(
        lambda batch: [batch[0], LookupError("second"), batch[2]], kind
    )
    assert (first, third) == (1, 3)
    assert isinstance(second, LookupError)


@both
async def test_exception_reaches_every_caller_as_one_of_its_own(kind: type[Recorder]) -> None:
    """Scenario 7. Trap 15."""
    original = LookupError("all")
    errors = await answers(raising(original), kind)
    assert [type(error) for error in errors] == [LookupError] * 3
    assert len({id(error) for error in errors}) == 3
    assert all(error.__cause__ is original for error in errors)


@both
@pytest.mark.parametrize("error", FINAL)
async def test_base_exception_reaches_the_callers_and_stops_nothing(
    kind: type[Recorder], error: type[BaseException]
) -> None:
    """Scenario 8. Trap 9."""
    assert [type(got) for got in await answers(raising(error), kind)] == [error] * 3


@both
async def test_cancelled_error_of_process_fn_does_not_look_like_a_cancelled_caller(
    kind: type[Recorder],
) -> None:
    """Scenario 10. Trap 9."""
    errors = await answers(raising(asyncio.CancelledError), kind)
    assert [type(error) for error in errors] == [BatchCancelledError] * 3


async def test_inner_task_that_is_cancelled_fails_its_batch_alone() -> None:
    """Scenario 10. Trap 9."""

    async def work(batch: list[Any]) -> list[Any]:
        if batch == ["bad"]:
            inner = asyncio.ensure_future(asyncio.Event().wait())
            inner.cancel()
            await inner
        return batch

    async with DynamicBatcher(work, max_batch_size=1, batch_timeout_s=0) as batcher:
        bad, good = await finished(*await batcher.submit_batch(["bad", "good"]))
        assert isinstance(bad, BatchCancelledError)
        assert good == "good"


@both
async def test_stop_iteration_becomes_a_runtime_error(kind: type[Recorder]) -> None:
    """Scenario 9. Trap 10."""
    errors = await answers(raising(StopIteration(1)), kind)
    assert [type(error) for error in errors] == [RuntimeError] * 3


@both
async def test_cancelled_caller_leaves_its_batch_to_the_others(kind: type[Recorder]) -> None:
    """Scenario 16. Trap 1."""
    async with running(kind, batch_timeout_s=3600, max_batch_size=3) as (batcher, work):
        work.hold()
        futures = await batcher.submit_batch(THREE)
        await work.begun()
        futures[1].cancel()
        work.release()
        first, second, third = await finished(*futures)
        assert (first, third) == (1, 3)
        assert isinstance(second, asyncio.CancelledError)


@both
async def test_cancelled_record_that_still_waits_is_never_sent(kind: type[Recorder]) -> None:
    """Scenario 15. Trap 3."""
    async with running(kind) as (batcher, work):
        held = await busy(batcher, work)
        futures = await batcher.submit_batch(THREE)
        futures[1].cancel()
        work.release()
        await finished(held, *futures)
        assert work.items == ["held", 1, 3]


async def test_list_of_records_is_a_fresh_one_for_process_fn_to_change() -> None:
    """Trap 13."""

    async def work(batch: list[int]) -> list[int]:
        results = [2 * record for record in batch]
        batch.clear()
        return results

    async with DynamicBatcher(work, batch_timeout_s=0) as batcher:
        records = [1, 2, 3]
        assert await finished(*await batcher.submit_batch(records)) == [2, 4, 6]
        assert records == [1, 2, 3]


async def test_plain_function_that_returns_a_coroutine_is_an_error_that_says_so() -> None:
    """Trap 12."""

    async def echo(batch: list[Any]) -> list[Any]:
        return batch

    batcher: DynamicBatcher[Any, Any] = DynamicBatcher(lambda batch: echo(batch))
    async with batcher:
        future = await batcher.submit(1)
        error = await outcome(lambda: future)
        assert isinstance(error, BatchResultError)
        assert "coroutine" in str(error)
