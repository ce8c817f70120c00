"""What `process_batch` may raise, and what each caller gets of it.

What is no Exception is in test_exit_requests.py.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from typing import Any

import pytest
from support import LONG, AsyncRecorder, Recorder, both, finished, no_loop_errors, outcome, raiser

from async_batcher import (
    AsyncBatcher,
    AsyncBatchException,
    BatchCancelledError,
    BatcherStoppedError,
)


async def answers(batcher: Recorder, count: int = 3) -> list[Any]:
    """Return what each of the `count` callers of one batch gets."""
    return await finished(*map(batcher.process, range(count)))


class Structured(Exception):
    """Needs two arguments, and keeps them elsewhere than in `args`."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class Frozen(Exception):
    """Refuses to be changed, as a frozen dataclass does; a context manager may have its say."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        vars(self)["code"] = code

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "__traceback__":
            raise AttributeError(name)
        super().__setattr__(name, value)


class Slotted(Exception):
    """Has its fields in slots, one of which is empty."""

    __slots__ = ("code", "reason")

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Unbuildable(Exception):
    """Can be built once only."""

    built = 0

    def __new__(cls, *arguments: Any) -> Unbuildable:
        if cls.built:
            raise TypeError("not again")
        return super().__new__(cls, *arguments)


@both
async def test_every_caller_gets_the_error(kind: type[Recorder]) -> None:
    """Scenario 7."""
    async with kind(raiser(ValueError("all", 3)), max_queue_time=0) as batcher:
        for error in await answers(batcher):
            assert type(error) is ValueError
            assert error.args == ("all", 3)


@both
async def test_batch_after_an_error_works(kind: type[Recorder]) -> None:
    """Scenario 7."""
    async with kind(raiser(ValueError()), max_queue_time=0) as batcher:
        await answers(batcher)
        assert await batcher.process("fine") == "fine"
        assert batcher.stats.running == 0


@both
async def test_every_caller_gets_an_object_of_its_own(kind: type[Recorder]) -> None:
    """Trap 15."""
    original = ValueError("shared")
    async with kind(raiser(original), max_queue_time=0) as batcher:
        errors = await answers(batcher)
        assert len({id(error) for error in (*errors, original)}) == 4


@both
async def test_every_error_keeps_the_original_as_its_cause(kind: type[Recorder]) -> None:
    """Trap 15."""
    original = ValueError("shared")
    async with kind(raiser(original), max_queue_time=0) as batcher:
        for error in await answers(batcher):
            assert error.__cause__ is original


@both
async def test_single_caller_gets_the_original_as_cause_too(kind: type[Recorder]) -> None:
    """Trap 15."""
    original = ValueError("one")
    async with kind(raiser(original), max_queue_time=0) as batcher:
        error = await outcome(lambda: batcher.process(1))
        assert error is not original
        assert isinstance(error, ValueError)
        assert error.__cause__ is original


@pytest.mark.skipif(sys.version_info < (3, 11), reason="add_note is new in 3.11")
@both
async def test_note_of_one_caller_is_not_seen_by_the_others(kind: type[Recorder]) -> None:
    """Trap 15."""
    original = ValueError("shared")
    async with kind(raiser(original), max_queue_time=0) as batcher:
        first, *others = await answers(batcher)
        first.add_note("mine alone")
        for error in (*others, original):
            assert getattr(error, "__notes__", []) == []


@both
async def test_traceback_does_not_grow_from_caller_to_caller(kind: type[Recorder]) -> None:
    """Trap 15."""
    lengths: list[int] = []

    async def call(batcher: Recorder) -> None:
        try:
            await batcher.process(1)
        except ValueError as error:
            lengths.append(len(traceback.extract_tb(error.__traceback__)))

    async with kind(raiser(ValueError("shared")), max_queue_time=0) as batcher:
        await asyncio.gather(*(call(batcher) for _ in range(10)))
        assert len(lengths) == 10
        assert len(set(lengths)) == 1


@both
async def test_frames_of_the_function_are_in_the_cause(kind: type[Recorder]) -> None:
    """Trap 15."""
    async with kind(raiser(ValueError("shared")), max_queue_time=0) as batcher:
        (error,) = await answers(batcher, 1)
        names = [frame.name for frame in traceback.extract_tb(error.__cause__.__traceback__)]
        assert names[-1] == "function"


@both
@pytest.mark.parametrize(
    "original",
    [
        Structured(404, reason="gone"),
        Frozen(404),
        Slotted(404, "gone"),
        UnicodeDecodeError("x", b"", 0, 1, "y"),
    ],
    ids=["keyword-only", "frozen", "slots", "five-arguments"],
)
async def test_error_of_any_make_keeps_its_type_and_fields(
    kind: type[Recorder], original: Exception
) -> None:
    """Trap 15."""
    async with kind(raiser(original), max_queue_time=0) as batcher:
        errors = await answers(batcher)
        assert len({id(error) for error in errors}) == 3
        for error in errors:
            assert type(error) is type(original)
            assert (str(error), error.args) == (str(original), original.args)
            assert getattr(error, "code", None) == getattr(original, "code", None)
            assert error.__cause__ is original


@both
async def test_error_that_cannot_be_built_again_comes_as_our_own(
    kind: type[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 15."""
    original = Unbuildable("once")
    monkeypatch.setattr(Unbuildable, "built", 1)
    async with kind(raiser(original), max_queue_time=0) as batcher:
        errors = await answers(batcher)
        assert len({id(error) for error in errors}) == 3
        assert [type(error) for error in errors] == [AsyncBatchException] * 3
        assert [error.__cause__ for error in errors] == [original] * 3


@both
async def test_os_error_keeps_its_errno(kind: type[Recorder]) -> None:
    """Trap 15."""
    async with kind(raiser(FileNotFoundError(2, "none", "path")), max_queue_time=0) as batcher:
        (error,) = await answers(batcher, 1)
        assert isinstance(error, FileNotFoundError)
        assert error.__cause__.errno == 2


@both
@pytest.mark.parametrize("error", [StopIteration(1), StopAsyncIteration(1)], ids=["sync", "async"])
async def test_stop_iteration_becomes_a_runtime_error_or_stays_harmless(
    kind: type[Recorder], error: Exception
) -> None:
    """Scenario 9. Trap 10."""
    wanted = RuntimeError if isinstance(error, StopIteration) else (RuntimeError, type(error))
    async with kind(raiser(error), max_queue_time=0) as batcher:
        for answer in await answers(batcher):
            assert isinstance(answer, wanted)
        assert await batcher.process("fine") == "fine"


@both
async def test_cancelled_error_of_the_function_is_not_the_callers_own(
    kind: type[Recorder],
) -> None:
    """Scenario 10. Trap 9."""
    async with kind(raiser(asyncio.CancelledError()), max_queue_time=0) as batcher:
        futures = [batcher.process(item) for item in range(3)]
        assert [type(answer) for answer in await finished(*futures)] == [BatchCancelledError] * 3
        assert not any(future.cancelled() for future in futures)
        assert await batcher.process("fine") == "fine"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup is new in 3.11")
@both
async def test_task_group_fails_when_the_function_was_cancelled(kind: type[Recorder]) -> None:
    """Scenario 10."""
    async with kind(raiser(asyncio.CancelledError()), max_queue_time=0) as batcher:

        async def group() -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(batcher.call(1))

        error = await outcome(group)
        assert type(error).__name__ == "ExceptionGroup"
        assert [type(inner) for inner in error.exceptions] == [BatchCancelledError]  # type: ignore[union-attr]


async def test_cancelled_inner_task_is_an_error_to_the_callers() -> None:
    """Scenario 10. Trap 9."""

    class Inner(AsyncBatcher[int, int]):
        async def process_batch(self, batch: list[int]) -> list[int]:
            inner = asyncio.ensure_future(asyncio.sleep(LONG))
            inner.cancel()
            await inner
            return batch

    async with Inner(max_queue_time=0) as batcher:
        with pytest.raises(BatchCancelledError):
            await batcher.process(1)


async def test_wrapper_that_raises_before_it_awaits_fails_its_callers() -> None:
    """Trap 11."""

    class Wrapped(AsyncBatcher[int, int]):
        async def process_batch(self, batch: list[int]) -> list[int]:
            return batch

    async with Wrapped(max_queue_time=0) as batcher:

        async def refuse(batch: list[int], extra: int) -> list[int]:
            return batch

        batcher.process_batch = refuse  # type: ignore[assignment, method-assign]
        assert isinstance(await outcome(lambda: batcher.process(1)), TypeError)
        del batcher.process_batch
        assert await batcher.process(2) == 2


@both
async def test_function_of_the_wrong_signature_fails_its_callers(kind: type[Recorder]) -> None:
    """Trap 11. Scenario 12."""
    async with kind(max_queue_time=0) as batcher:
        batcher.process_batch = lambda: None  # type: ignore[attr-defined]
        assert isinstance(await outcome(lambda: batcher.process(1)), TypeError)


@both
async def test_stopped_error_of_another_batcher_is_the_functions_error(
    kind: type[Recorder],
) -> None:
    """Scenario 7."""
    original = BatcherStoppedError("the other one")
    async with kind(raiser(original), max_queue_time=0) as batcher:
        error = await outcome(lambda: batcher.process(1))
        assert isinstance(error, BatcherStoppedError)
        assert await batcher.process("fine") == "fine"


@both
async def test_error_of_a_batch_whose_callers_left_is_not_logged_as_never_retrieved(
    kind: type[Recorder],
) -> None:
    """Scenario 7. Trap 1."""
    with no_loop_errors():
        async with kind(raiser(ValueError("late")), max_queue_time=0) as batcher:
            held = await batcher.busy()
            held.cancel()
            batcher.release()
            await batcher.idle()


async def test_done_callback_that_raises_hurts_nobody() -> None:
    """Scenario 14."""
    errors: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
    async with AsyncRecorder(max_batch_size=2, max_queue_time=LONG) as batcher:
        first = batcher.process(1)
        first.add_done_callback(lambda future: 1 / 0)
        assert await batcher.process(2) == 2
        assert await first == 1
        assert [type(context["exception"]) for context in errors] == [ZeroDivisionError]
