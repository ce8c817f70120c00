"""What the native part asks of Python: looking at process_batch, and at what went wrong in it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import inspect
import logging
import sys
import traceback
import types
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping, Set
from typing import Any

from async_batcher.exceptions import AsyncBatchException, BatchCancelledError

logger = logging.getLogger("async_batcher")

is_logged = functools.partial(logger.isEnabledFor, logging.DEBUG)

_REFUSED_RESULTS = (str, bytes, bytearray, Mapping, Set, Iterator, AsyncGenerator, Coroutine)


def inspect_process_batch(batcher: Any) -> tuple[bool, bool]:
    """Tell whether process_batch is async, and whether it takes its list as ``batch=``."""
    function = batcher.process_batch
    is_async = inspect.iscoroutinefunction(function)
    if getattr(batcher, "_calls_by_position", False):
        return is_async, False
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin may have no signature
        return is_async, False
    takes_keyword = any(
        parameter.kind is parameter.VAR_KEYWORD
        or (parameter.name == "batch" and parameter.kind is not parameter.POSITIONAL_ONLY)
        for parameter in parameters
    )
    return is_async, takes_keyword


def as_rows(result: Any) -> Any:
    """Give the sequence whose elements go to the items in order; None if there is none."""
    if isinstance(result, Coroutine):
        result.close()  # or it would warn, on top of the error, that it was never awaited
    if isinstance(result, _REFUSED_RESULTS):
        return None
    # A table of pandas and its like is indexed by label or column, not by row.
    to_numpy = getattr(result, "to_numpy", None)
    return result if to_numpy is None else to_numpy()


def _rebuild(error: BaseException) -> BaseException:
    """A new exception of the same type, arguments and attributes."""
    try:
        twin = copy.copy(error)
        if type(twin) is not type(error) or twin is error:
            raise TypeError
        # A constructor that formats its text would format it twice.
        twin.args = error.args
    except MemoryError:
        raise  # the callers then share the error, which tells them more than another type would
    except Exception:  # whatever a constructor may raise
        return AsyncBatchException(f"process_batch raised {type(error).__qualname__}")
    notes = getattr(error, "__notes__", None)
    if notes is not None:
        twin.__notes__ = list(notes)  # type: ignore[attr-defined]  # Python 3.11
    return twin


def own_exception(error: BaseException) -> BaseException:
    """Make an exception for one of several callers, with ``error`` as its cause."""
    own: BaseException
    if isinstance(error, asyncio.CancelledError):
        own = BatchCancelledError("process_batch was cancelled")
    elif isinstance(error, StopIteration):
        own = RuntimeError("process_batch raised StopIteration")
    else:
        own = _rebuild(error)
    own.__cause__ = error
    return own


def _clear_frames(trace: types.TracebackType | None) -> None:
    # Not traceback.clear_frames: before Python 3.13 it closes coroutines and
    # generators that caught the error and are suspended now.
    core = sys.modules.get("async_batcher._core")  # which imports this module
    if core is None:
        return  # the interpreter ends
    while trace is not None:
        if not core._is_unfinished(trace.tb_frame):
            with contextlib.suppress(RuntimeError):  # it is being executed
                trace.tb_frame.clear()
        trace = trace.tb_next


def executor_error(error: BaseException) -> BaseException:
    """Say the cure where an executor could not pickle what it was given."""
    pickle = sys.modules.get("pickle")  # whatever pickles has imported it
    if pickle is None or not (isinstance(error, pickle.PicklingError) or "pickle" in str(error)):
        return error
    cure: BaseException = pickle.PicklingError(
        "the executor could not pickle process_batch or its items: make process_batch"
        " a static method, a function or a functools.partial of one, and its items picklable"
    )
    cure.__cause__ = error
    return cure


def log_batch(batcher: object, size: int, reason: str, seconds: float) -> None:
    """Log a batch that ended well."""
    logger.debug(
        "%s: a batch of %d items, sent by %s, took %.6f s",
        type(batcher).__qualname__,
        size,
        reason,
        seconds,
    )


def note_failure(batcher: object, size: int, error: BaseException) -> None:
    """Log a batch that failed: type and frames, for a text may quote an item.

    The frames are emptied: they would keep the batch alive as long as any
    caller keeps its exception.
    """
    logger.error(
        "%s: a batch of %d items failed with %s\n%s",
        type(batcher).__qualname__,
        size,
        type(error).__qualname__,
        "".join(traceback.format_tb(error.__traceback__)),
    )
    _clear_frames(error.__traceback__)
