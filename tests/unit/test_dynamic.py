"""DynamicBatcher: its names, its arguments, and every kind of process_fn."""

from __future__ import annotations

import functools
import inspect
import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest
from dynamics import running
from support import counts_threads, finished, os_threads, outcome, run

import async_batcher
from async_batcher import DynamicBatcher, TokenBatcher, dynamic

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = [
    "BatchStats",
    "CostEstimator",
    "DynamicBatcher",
    "Prompt",
    "TokenBatcher",
    "TokenEstimator",
]
DEFAULTS: dict[str, Any] = {
    "process_fn": inspect.Parameter.empty,
    "cost_estimator": None,
    "target_batch_cost": 32_000,
    "max_batch_size": 256,
    "min_batch_size": 1,
    "batch_timeout_s": 0.05,
    "max_queue_size": 5_000,
    "prefetch_batches": 2,
    "default_cost": 1,
}
WRONG: list[tuple[str, Any]] = [
    *(("target_batch_cost", value) for value in (0, -2, 1.5, "8", True, None, 2**63)),
    *(("max_batch_size", value) for value in (0, -2, 1.5, "8", True, None, 2**63)),
    *(("min_batch_size", value) for value in (0, -1, 1.5, "8", True, None, 2**63, 257)),
    *(("max_queue_size", value) for value in (-2, 1.5, "8", True, None, 2**63)),
    *(("prefetch_batches", value) for value in (-2, 1.5, "8", True, None, 2**63)),
    *(("default_cost", value) for value in (-1, 1.5, "8", True, None, 2**63)),
    *(("batch_timeout_s", value) for value in (-1, float("nan"), float("inf"), "1", True, None)),
    *(("cost_estimator", value) for value in (3, "len", object())),
    *(("process_fn", value) for value in (None, 3, "list", object())),
]


async def echo(batch: list[Any]) -> list[Any]:
    return batch


@pytest.mark.parametrize("name", NAMES)
def test_name_is_the_same_in_the_package_and_in_its_module(name: str) -> None:
    assert getattr(async_batcher, name) is getattr(dynamic, name)
    assert name in async_batcher.__all__
    assert name in dynamic.__all__


def test_parameters_and_defaults_are_those_of_flyte() -> None:
    parameters = inspect.signature(DynamicBatcher).parameters
    assert {name: parameter.default for name, parameter in parameters.items()} == DEFAULTS


def test_options_are_keywords_only() -> None:
    with pytest.raises(TypeError):
        DynamicBatcher(echo, None)  # type: ignore[call-arg]


def test_unknown_keyword_is_refused() -> None:
    """Scenario 11. Trap 28."""
    with pytest.raises(TypeError, match="max_size"):
        DynamicBatcher(echo, max_size=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_wrong_argument_is_refused_by_name_and_value(name: str, value: Any) -> None:
    """Scenario 11. Trap 28."""
    options: dict[str, Any] = {"process_fn": echo, name: value}
    with pytest.raises((TypeError, ValueError)) as caught:
        DynamicBatcher(**options)
    assert name in str(caught.value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [pair for pair in WRONG if pair[0] != "process_fn"])
def test_refusal_says_what_is_allowed(name: str, value: Any) -> None:
    """Scenario 11."""
    options: dict[str, Any] = {name: value}
    with pytest.raises((TypeError, ValueError), match=r"an int|seconds|callable or None"):
        DynamicBatcher(echo, **options)


def test_minimum_above_the_maximum_is_refused_with_both() -> None:
    """Trap 23."""
    with pytest.raises(ValueError, match=r"min_batch_size.*max_batch_size, 3, not 4"):
        DynamicBatcher(echo, min_batch_size=4, max_batch_size=3)


@pytest.mark.parametrize("most", [4, -1])
def test_minimum_within_the_maximum_is_taken(most: int) -> None:
    """Trap 23."""
    DynamicBatcher(echo, min_batch_size=4, max_batch_size=most)


@counts_threads
@pytest.mark.thread_unsafe(reason="counts the threads of the process")
def test_refused_arguments_start_no_thread() -> None:
    """Scenario 11."""
    before = os_threads()
    for name, value in WRONG:
        options: dict[str, Any] = {"process_fn": list, name: value}
        with pytest.raises((TypeError, ValueError)):
            DynamicBatcher(**options)
    assert os_threads() <= before


def test_new_batcher_needs_no_loop_and_does_not_run() -> None:
    assert not DynamicBatcher(echo).is_running


async def test_batcher_whose_init_was_skipped_says_so_in_every_call() -> None:
    """Scenario 12."""

    class Skipping(DynamicBatcher[Any, Any]):
        def __init__(self) -> None:
            pass

    batcher = Skipping()
    for call in (
        batcher.start,
        batcher.stop,
        lambda: batcher.submit(1),
        lambda: batcher.submit_batch([1]),
    ):
        error = await outcome(call)
        assert isinstance(error, TypeError), error
        assert "super().__init__()" in str(error)
    for name in ("is_running", "stats"):
        with pytest.raises(TypeError, match=r"super\(\).__init__\(\)"):
            getattr(batcher, name)


async def test_second_init_is_refused_and_changes_nothing() -> None:
    """Scenario 12."""
    async with running() as (batcher, _):
        with pytest.raises(TypeError, match="twice"):
            batcher.__init__(echo)
        assert await (await batcher.submit(1)) == 1


def test_batcher_cannot_be_pickled() -> None:
    with pytest.raises(TypeError, match="DynamicBatcher"):
        pickle.dumps(DynamicBatcher(echo))


# ---- process_fn ----


class Model:
    """An object whose method or call is the process_fn."""

    async def infer(self, batch: list[Any]) -> list[Any]:
        return batch

    def infer_sync(self, batch: list[Any]) -> list[Any]:
        return batch

    @staticmethod
    async def infer_statically(batch: list[Any]) -> list[Any]:
        return batch


class AsyncCall:
    """An object that is awaited like a coroutine function."""

    async def __call__(self, batch: list[Any]) -> list[Any]:
        return batch


class SyncCall:
    """An object that is called like a plain function."""

    def __call__(self, batch: list[Any]) -> list[Any]:
        return batch


async def scaled(factor: int, batch: list[int]) -> list[int]:
    return [factor * record for record in batch]


async def named_otherwise(prompts: list[Any]) -> list[Any]:
    return prompts


async def by_position_only(records: list[Any], /) -> list[Any]:
    return records


async def with_batch_second(records: list[Any], batch: None = None) -> list[Any]:
    assert batch is None
    return records


async def with_keywords(records: list[Any], **batch: Any) -> list[Any]:
    assert batch == {}
    return records


KINDS: dict[str, Callable[..., Any]] = {
    "coroutine function": echo,
    "bound async method": Model().infer,
    "bound sync method": Model().infer_sync,
    "static async method": Model.infer_statically,
    "partial": functools.partial(scaled, 1),
    "partial of a plain function": functools.partial(sorted, reverse=False),
    "async call": AsyncCall(),
    "partial of an async call": functools.partial(AsyncCall()),
    "sync call": SyncCall(),
    "lambda": lambda batch: batch,
    "class": list,
    "other name": named_otherwise,
    "position only": by_position_only,
    "batch is another parameter": with_batch_second,
    "keywords": with_keywords,
}


@pytest.mark.parametrize("function", KINDS.values(), ids=KINDS.keys())
async def test_every_kind_of_process_fn_is_called_with_the_records(
    function: Callable[..., Any],
) -> None:
    async with DynamicBatcher(function, batch_timeout_s=0) as batcher:
        assert await finished(*await batcher.submit_batch([1, 2, 3])) == [1, 2, 3]


@pytest.mark.parametrize("function", [Model().infer_sync, SyncCall(), lambda batch: batch])
async def test_plain_function_runs_in_another_thread(function: Callable[..., Any]) -> None:
    threads: list[int] = []

    def note(batch: list[Any]) -> Any:
        threads.append(threading.get_ident())
        return function(batch)

    async with DynamicBatcher(note, batch_timeout_s=0) as batcher:
        await (await batcher.submit(1))
    assert threads != [threading.get_ident()]


async def test_coroutine_function_runs_on_the_loop() -> None:
    async def note(batch: list[Any]) -> list[int]:
        return [threading.get_ident()]

    async with DynamicBatcher(note, batch_timeout_s=0) as batcher:
        assert await (await batcher.submit(1)) == threading.get_ident()


@pytest.mark.parametrize("record", [None, 0, [], {}, [1, 2], float("nan"), ValueError("input")])
async def test_record_is_passed_on_as_it_is(record: Any) -> None:
    """Trap 29. Scenario 13."""
    async with running() as (batcher, work):
        await finished(await batcher.submit(record))
        assert work.items[0] is record


@pytest.mark.parametrize("function", [echo, list], ids=["async", "sync"])
def test_one_batcher_serves_one_asyncio_run_after_another(function: Callable[..., Any]) -> None:
    """Scenario 38. Trap 42."""
    batcher: DynamicBatcher[Any, Any] = DynamicBatcher(function, batch_timeout_s=0.001)

    async def main() -> list[Any]:
        async with batcher:
            return await finished(*await batcher.submit_batch("abc"))

    assert [run(main()) for _ in range(3)] == [["a", "b", "c"]] * 3


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("function", [echo, list], ids=["async", "sync"])
def test_batcher_left_running_by_one_asyncio_run_works_in_the_next(
    function: Callable[..., Any],
) -> None:
    """Scenario 38. Trap 42."""
    batcher: DynamicBatcher[Any, Any] = DynamicBatcher(function, batch_timeout_s=0.001)

    async def first() -> None:
        await batcher.start()
        await batcher.submit("lost with its loop")

    async def second() -> Any:
        answer = await (await batcher.submit("kept"))
        await batcher.stop()
        return answer

    run(first())
    assert run(second()) == "kept"


@pytest.mark.parametrize("maker", [DynamicBatcher, TokenBatcher])
async def test_batcher_is_generic_at_run_time(maker: Any) -> None:
    async with maker[int, int](echo, batch_timeout_s=0) as batcher:
        assert await (await batcher.submit(1)) == 1
