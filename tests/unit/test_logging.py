"""What is logged: one logger, types and frames, never an item and never an error's text."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from support import (
    AsyncRecorder,
    Recorder,
    both,
    clean_script,
    finished,
    outcome,
    settle,
    told,
)
from unspoken import ITEM, RESULT, TEXT, Uncopied, assert_silent

from async_batcher import BatcherStoppedError, DynamicBatcher, batched

if TYPE_CHECKING:
    from pathlib import Path


def refuse(batch: list[Any]) -> Any:
    """Raise an error that must not be quoted."""
    raise ZeroDivisionError(TEXT)


def refuse_oddly(batch: list[Any]) -> Any:
    """Raise an error that quotes the items and cannot be copied."""
    raise Uncopied(batch, TEXT)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Catch all that any logger says, at every level."""
    caplog.set_level(1)
    return caplog


def ours(log: pytest.LogCaptureFixture, level: int) -> list[logging.LogRecord]:
    """Return the records of our logger at `level`."""
    return [r for r in log.records if r.name == "async_batcher" and r.levelno == level]


@both
async def test_batch_is_a_debug_line(kind: type[Recorder], log: pytest.LogCaptureFixture) -> None:
    """Trap 51."""
    async with kind(max_queue_time=0) as batcher:
        await batcher.process(ITEM)
        await batcher.process(ITEM)
        await batcher.idle()
    assert len(ours(log, logging.DEBUG)) == 2


@both
async def test_failed_batch_is_an_error_line_with_the_type(
    kind: type[Recorder], log: pytest.LogCaptureFixture
) -> None:
    """Trap 51."""
    async with kind(refuse, max_queue_time=0) as batcher:
        await outcome(lambda: batcher.process(ITEM))
        await batcher.idle()
    (record,) = ours(log, logging.ERROR)
    assert "ZeroDivisionError" in record.getMessage()


@both
async def test_failed_batch_is_logged_with_the_frames_of_the_function(
    kind: type[Recorder], log: pytest.LogCaptureFixture
) -> None:
    """Trap 51."""
    async with kind(refuse, max_queue_time=0) as batcher:
        await outcome(lambda: batcher.process(ITEM))
        await batcher.idle()
    assert "test_logging.py" in log.text
    assert "refuse" in log.text


@both
async def test_only_our_logger_is_used(kind: type[Recorder], log: pytest.LogCaptureFixture) -> None:
    """Trap 51."""
    async with kind(refuse, max_queue_time=0) as batcher:
        await outcome(lambda: batcher.process(ITEM))
    foreign = {record.name for record in log.records} - {"async_batcher", "asyncio"}
    assert foreign == set()


async def test_errors_given_as_results_are_not_failed_batches(
    log: pytest.LogCaptureFixture,
) -> None:
    """Trap 51. Scenario 6."""
    async with AsyncRecorder(lambda batch: [ValueError(TEXT)], max_queue_time=0) as batcher:
        await outcome(lambda: batcher.process(ITEM))
    assert TEXT not in log.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.thread_unsafe(reason="the logger is the process's")
@both
async def test_broken_log_handler_hurts_nobody(kind: type[Recorder]) -> None:
    """Scenario 14. Trap 51."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise LookupError("handler")

    logger = logging.getLogger("async_batcher")
    handler, level = Broken(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        async with kind(max_queue_time=0) as batcher:
            assert await batcher.process(1) == 1
            assert await batcher.process(2) == 2
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


async def test_cancellation_by_a_forced_stop_is_no_failure(log: pytest.LogCaptureFixture) -> None:
    """Trap 36. Its callers know of the stop already."""
    batcher = AsyncRecorder(max_queue_time=0)
    batcher.hold()
    future = batcher.process(1)
    await settle()
    await batcher.stop(force=True)
    await settle()
    assert isinstance(told(future), BatcherStoppedError)
    assert ours(log, logging.ERROR) == []


# ---- nothing of the user's is quoted ----


def logged(log: pytest.LogCaptureFixture, level: int) -> str:
    """Return all that was logged, arguments included, if a line of ours at `level` is there."""
    assert [r for r in log.records if (r.name, r.levelno) == ("async_batcher", level)]
    return "\n".join([log.text, *(repr(vars(record)) for record in log.records)])


@both
@pytest.mark.parametrize("function", [refuse, refuse_oddly, lambda batch: [*batch, RESULT]])
async def test_log_of_a_failed_batch_quotes_nothing(
    kind: type[Recorder], function: Any, log: pytest.LogCaptureFixture
) -> None:
    """Trap 51."""
    async with kind(function, max_queue_time=0) as batcher:
        await outcome(lambda: batcher.process(ITEM))
        await outcome(lambda: batcher.process_many([ITEM]))
    assert_silent(logged(log, logging.ERROR))


@both
async def test_log_of_a_batch_that_ended_well_quotes_nothing(
    kind: type[Recorder], log: pytest.LogCaptureFixture
) -> None:
    """Trap 51."""
    async with kind(lambda batch: [RESULT], max_queue_time=0) as batcher:
        assert await batcher.process(ITEM) == RESULT
    assert_silent(logged(log, logging.DEBUG))


@both
@pytest.mark.parametrize(
    ("function", "level"),
    [(refuse, logging.ERROR), (lambda batch: [RESULT], logging.DEBUG)],
    ids=["failed", "done"],
)
async def test_log_of_a_dynamic_batcher_quotes_nothing(
    kind: type[Recorder], function: Any, level: int, log: pytest.LogCaptureFixture
) -> None:
    """Trap 51."""
    work: Any = kind(function)
    async with DynamicBatcher[Any, Any](work.process_batch, batch_timeout_s=0) as batcher:
        await finished(await batcher.submit(ITEM))
    assert_silent(logged(log, level))


async def test_log_of_a_decorated_function_quotes_nothing(log: pytest.LogCaptureFixture) -> None:
    """Trap 51."""

    @batched(max_queue_time=0)
    async def answer(batch: list[str]) -> list[str]:
        return [RESULT for _ in batch]

    assert await answer(ITEM) == RESULT
    await answer.batcher.stop()
    assert_silent(logged(log, logging.DEBUG))


POOL = """
import logging, multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from async_batcher import AsyncBatcher
from scripted import run

class Failing(AsyncBatcher):
    @staticmethod
    def process_batch(batch):
        raise LookupError(f"{sys.argv[2]} {batch}")

async def main(executor):
    async with Failing(executor=executor, max_queue_time=0) as batcher:
        try:
            await batcher.process(sys.argv[1])
        except LookupError as error:
            assert sys.argv[2] in str(error.__cause__.__cause__)  # the traceback of the worker

if __name__ == "__main__":
    logging.basicConfig(level=1, stream=sys.stdout)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        run(main(executor))
"""


def test_log_of_a_batch_that_failed_in_another_process_quotes_nothing(tmp_path: Path) -> None:
    """Trap 51. Trap 45."""
    told = clean_script(tmp_path, POOL, ITEM, TEXT)
    assert "ERROR:async_batcher:" in told
    assert_silent(told)
