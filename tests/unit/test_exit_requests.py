"""Exceptions of `process_batch` that are no Exception: requests to exit, and others."""

from __future__ import annotations

import asyncio
import collections
from typing import TYPE_CHECKING, Any

import pytest
from support import AsyncRecorder, Recorder, both, clean_script, finished, raiser, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Unusual(BaseException):
    """A BaseException of the user's own."""


# No loop runs, which could be the one that tells it.
ON_A_WORKER = """
import builtins, sys, threading
from async_batcher import AsyncBatcher
from scripted import PATIENCE

is_watched, reached = threading.Event(), threading.Event()

class Held(AsyncBatcher):
    def process_batch(self, batch):
        assert is_watched.wait(PATIENCE)
        return batch

def leave(future):
    assert threading.current_thread() is not threading.main_thread()
    reached.set()
    raise getattr(builtins, sys.argv[1])

batcher = Held(max_queue_time=0)
batcher.process_threadsafe(1).add_done_callback(leave)
is_watched.set()
assert reached.wait(PATIENCE)
assert batcher.process_threadsafe(2).result(PATIENCE) == 2
print("went on")
"""

requests = pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])


@both
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), Unusual("rare")], ids=repr
)
async def test_error_that_is_no_exception_reaches_every_caller(
    kind: type[Recorder], error: BaseException
) -> None:
    """Scenario 8. Trap 9."""
    async with kind(raiser(error), max_queue_time=0) as batcher:
        futures = [batcher.process(item) for item in range(3)]
        answers = await finished(*futures)
        assert [type(answer) for answer in answers] == [type(error)] * 3
        assert [answer.__cause__ for answer in answers] == [error] * 3
        assert not any(future.cancelled() for future in futures)


@both
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, Unusual])
async def test_batch_after_an_error_that_is_no_exception_works(
    kind: type[Recorder], error: type[BaseException]
) -> None:
    """Scenario 8. Trap 9."""
    async with kind(raiser(error), max_queue_time=0) as batcher:
        await finished(batcher.process(1))
        assert await batcher.process("fine") == "fine"
        await batcher.idle()
        assert batcher.stats.running == 0


@both
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, Unusual])
async def test_error_that_is_no_exception_while_rows_are_read_reaches_every_caller(
    kind: type[Recorder], error: type[BaseException]
) -> None:
    """Scenario 5. Scenario 8."""

    class Raising(collections.UserList[Any]):
        def __getitem__(self, index: Any) -> Any:
            raise error

    async with kind(Raising, max_queue_time=0) as batcher:
        futures = [batcher.process(item) for item in range(3)]
        assert [type(answer) for answer in await finished(*futures)] == [error] * 3
        assert not any(future.cancelled() for future in futures)


def end_of(main: Callable[[], Any]) -> Any:
    """Return what `main` returns or raises: pytest itself would heed a KeyboardInterrupt."""
    try:
        return run(main())
    except BaseException as error:
        return error


@both
@requests
def test_exit_request_is_not_raised_out_of_the_batch_as_well(
    kind: type[Recorder], error: type[BaseException]
) -> None:
    """Scenario 8."""

    async def main() -> str:
        async with kind(raiser(error), max_queue_time=0) as batcher:
            await asyncio.wait([batcher.process(1)])
            return "went on"

    assert end_of(main) == "went on"


async def abandon(batcher: Recorder) -> None:
    """Let a batch end that its only caller has left."""
    held = await batcher.busy()
    held.cancel()
    batcher.release()
    await batcher.idle()


@requests
def test_exit_request_that_no_caller_is_left_to_hear_ends_the_loop(
    error: type[BaseException],
) -> None:
    """Scenario 8."""
    batcher = AsyncRecorder(raiser(error), max_queue_time=0)
    with pytest.raises(error):
        run(abandon(batcher))


@requests
def test_batcher_works_on_after_an_exit_request_that_ended_the_loop(
    error: type[BaseException],
) -> None:
    """Scenario 8."""
    batcher = AsyncRecorder(raiser(error), max_queue_time=0)
    with pytest.raises(error):
        run(abandon(batcher))
    assert run(batcher.call("fine")) == "fine"


@requests
def test_exit_request_that_one_caller_is_left_to_hear_does_not_end_the_loop(
    error: type[BaseException],
) -> None:
    """Scenario 8."""

    async def main() -> Any:
        async with AsyncRecorder(raiser(error), max_queue_time=0) as batcher:
            batcher.hold()
            gone, left = batcher.process(1), batcher.process(2)
            await batcher.begun(1)
            gone.cancel()
            batcher.release()
            (answer,) = await finished(left)
            return type(answer)

    assert end_of(main) is error


@requests
def test_exit_request_of_a_callback_on_a_worker_does_not_end_the_program(
    tmp_path: Path, error: type[BaseException]
) -> None:
    """Scenario 8. As with an executor of the standard library."""
    assert clean_script(tmp_path, ON_A_WORKER, error.__name__) == "went on\n"
