"""No text of an exception or a warning of ours has an item, a result or the text of an error.

What is logged is in test_logging.py.
"""

from __future__ import annotations

import asyncio
import pickle
import traceback
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

import pytest
from support import (
    LONG,
    AsyncRecorder,
    KnownTasks,
    Recorder,
    SyncRecorder,
    both,
    finished,
    new_loop,
    outcome,
    raiser,
    settle,
)
from unspoken import ITEM, RESULT, TEXT, Uncopied, assert_silent

from async_batcher import (
    AsyncBatchException,
    BatchCancelledError,
    BatcherStoppedError,
    BatchResultError,
    QueueFullException,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def own_words(error: BaseException) -> str:
    """Return what `error` says itself, not what the user's error says that caused it."""
    return "\n".join([str(error), repr(error), *getattr(error, "__notes__", [])])


def all_words(error: BaseException) -> str:
    """Return what is printed of `error` and of all that led to it."""
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


class Quoted:
    """No sequence, and its text is a secret."""

    def __repr__(self) -> str:
        return RESULT


class Repeated(list):  # type: ignore[type-arg]
    """A list that names its rows, and is too long."""

    def __len__(self) -> int:
        return super().__len__() + 1


@both
@pytest.mark.parametrize("bound", [{"max_queue_size": 1}, {"max_queue_cost": 1, "cost": len}])
async def test_refusal_of_a_full_queue_does_not_quote_the_item(
    kind: type[Recorder], bound: dict[str, Any]
) -> None:
    """Trap 51."""
    async with kind(max_queue_time=LONG, **bound) as batcher:
        queued = batcher.process(ITEM)
        refused = (batcher.process(ITEM), batcher.process_many([ITEM, ITEM]))
        for error in await finished(*refused):
            assert type(error) is QueueFullException
            assert_silent(all_words(error))
        batcher.flush()
        await queued


@both
async def test_error_of_a_stop_does_not_quote_the_item(kind: type[Recorder]) -> None:
    """Trap 51."""
    async with kind(max_queue_time=0, max_queue_size=1) as batcher:
        futures = [await batcher.busy(ITEM), batcher.process(ITEM)]
        waiting = asyncio.create_task(batcher.submit(ITEM))
        await settle()
        await batcher.stop(force=True)
        for error in await finished(*futures, waiting, batcher.process(ITEM)):
            assert type(error) is BatcherStoppedError
            assert_silent(all_words(error))


WRONG_RESULTS: dict[str, Callable[[list[Any]], Any]] = {
    "items too many": lambda batch: [*batch, ITEM],
    "no items": lambda batch: batch[1:],
    "results too many": lambda batch: [RESULT, RESULT],
    "a length that lies": Repeated,
    "dict": lambda batch: dict.fromkeys(batch, RESULT),
    "set": set,
    "str": lambda batch: RESULT,
    "bytes": lambda batch: RESULT.encode(),
    "generator": lambda batch: (RESULT for _ in batch),
    "no sequence": lambda batch: Quoted(),
}


@both
@pytest.mark.parametrize("function", WRONG_RESULTS.values(), ids=WRONG_RESULTS.keys())
async def test_refusal_of_a_result_quotes_neither_it_nor_the_items(
    kind: type[Recorder], function: Callable[[list[Any]], Any]
) -> None:
    """Trap 51. Scenario 1."""
    async with kind(function, max_queue_time=0) as batcher:
        error = await outcome(lambda: batcher.process(ITEM))
        assert type(error) is BatchResultError
        assert_silent(all_words(error))


@both
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (asyncio.CancelledError(TEXT), BatchCancelledError),
        (StopIteration(TEXT), RuntimeError),
    ],
    ids=["cancelled", "stop iteration"],
)
async def test_error_that_stands_for_another_does_not_quote_it(
    kind: type[Recorder], error: BaseException, told: type[Exception]
) -> None:
    """Trap 51. Scenario 9. Scenario 10."""
    async with kind(raiser(error), max_queue_time=0) as batcher:
        answer = await outcome(lambda: batcher.process(ITEM))
        assert type(answer) is told
        assert_silent(own_words(answer))


@both
async def test_error_that_stands_for_a_result_does_not_quote_it(kind: type[Recorder]) -> None:
    """Trap 51. Scenario 9."""
    async with kind(lambda batch: [StopIteration(RESULT)], max_queue_time=0) as batcher:
        answer = await outcome(lambda: batcher.process(ITEM))
        assert type(answer) is RuntimeError
        assert_silent(own_words(answer))


async def test_error_of_a_cancelled_batch_does_not_quote_the_message() -> None:
    """Trap 51. Scenario 22."""
    async with KnownTasks(max_queue_time=0) as batcher:
        held = await batcher.busy(ITEM)
        batcher.tasks[0].cancel(TEXT)
        (error,) = await finished(held)
        assert type(error) is BatchCancelledError
        assert_silent(own_words(error))


@both
async def test_error_that_cannot_be_copied_is_named_and_not_quoted(
    kind: type[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 51. Trap 15."""
    original = Uncopied(TEXT)
    monkeypatch.setattr(Uncopied, "is_there", True)
    async with kind(raiser(original), max_queue_time=0) as batcher:
        error = await outcome(lambda: batcher.process(ITEM))
        assert type(error) is AsyncBatchException
        assert "Uncopied" in str(error)
        assert_silent(own_words(error))
        assert error.__context__ is None


class Unpickling(Executor):
    """An executor that cannot pickle what it is given, and quotes it."""

    def __init__(self, kind: type[Exception], text: str) -> None:
        self.kind, self.text = kind, text

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(self.kind(self.text.format(f"{args}, {TEXT}")))
        return future


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (pickle.PicklingError, "cannot pickle {}"),
        (AttributeError, "Can't get local object {}"),
        (TypeError, "({}\n) does not support cross-interpreter data"),
    ],
    ids=["pickle", "local", "interpreters"],
)
async def test_cure_of_what_cannot_be_pickled_does_not_quote_it(
    kind: type[Exception], text: str
) -> None:
    """Trap 51. Trap 45."""
    async with SyncRecorder(executor=Unpickling(kind, text), max_queue_time=0) as batcher:
        error = await outcome(lambda: batcher.process(ITEM))
        assert type(error) is pickle.PicklingError
        assert "static method" in str(error)
        assert_silent(own_words(error))


@both
def test_warning_of_a_closed_loop_does_not_quote_what_is_lost(kind: type[Recorder]) -> None:
    """Trap 51. Scenario 36."""
    batcher = kind(max_queue_time=LONG)

    async def leave() -> None:
        batcher.process(ITEM)

    loop = new_loop()
    loop.run_until_complete(leave())
    with pytest.warns(ResourceWarning) as caught:
        loop.close()
    assert_silent("\n".join(str(warning.message) for warning in caught))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_error_of_a_batch_whose_loop_closed_does_not_quote_the_item() -> None:
    """Trap 51. Scenario 36."""
    batcher = AsyncRecorder(max_queue_time=0)

    async def leave() -> Future[Any]:
        await batcher.process(1)
        batcher.hold()
        future = batcher.process_threadsafe(ITEM)
        await batcher.begun(2)
        return future

    loop = new_loop()
    future = loop.run_until_complete(leave())
    loop.close()
    error = future.exception(0)
    assert type(error) is BatchCancelledError
    assert_silent(all_words(error))


async def test_error_of_a_batch_that_waits_for_itself_does_not_quote_the_item() -> None:
    """Trap 51. Trap 16."""

    class Entangled(AsyncRecorder):
        async def process_batch(self, batch: list[Any]) -> Any:
            return [await outcome(lambda: self.process(ITEM))]

    async with Entangled(lambda batch: batch, max_queue_time=0) as batcher:
        error = await outcome(lambda: batcher.process(ITEM))
        assert type(error) is RuntimeError
        assert_silent(all_words(error))
