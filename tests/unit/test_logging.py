"""What is logged: one logger, types and frames, never an item and never an error's text."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from support import AsyncRecorder, Recorder, both, outcome, settle, told

from async_batcher import BatcherStoppedError

SECRET = "secret-in-the-error"
ITEM = "item-nobody-may-read"


def refuse(batch: list[Any]) -> Any:
    """Raise an error that must not be quoted."""
    raise ZeroDivisionError(SECRET)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Catch everything down to DEBUG."""
    caplog.set_level(logging.DEBUG)
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
async def test_text_of_an_error_is_never_logged(
    kind: type[Recorder], log: pytest.LogCaptureFixture
) -> None:
    """Trap 51."""
    async with kind(refuse, max_queue_time=0) as batcher:
        await outcome(lambda: batcher.process(ITEM))
    assert SECRET not in log.text
    assert not any(SECRET in repr(vars(record)) for record in log.records)


@both
@pytest.mark.parametrize("function", [list, refuse, lambda batch: [*batch, ITEM]])
async def test_items_are_never_logged(
    kind: type[Recorder], function: Any, log: pytest.LogCaptureFixture
) -> None:
    """Trap 51."""
    async with kind(function, max_queue_time=0) as batcher:
        await outcome(lambda: batcher.process(ITEM))
        await outcome(lambda: batcher.process_many([ITEM]))
    assert ITEM not in log.text
    assert not any(ITEM in repr(vars(record)) for record in log.records)


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
    async with AsyncRecorder(lambda batch: [ValueError(SECRET)], max_queue_time=0) as batcher:
        await outcome(lambda: batcher.process(ITEM))
    assert SECRET not in log.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
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
