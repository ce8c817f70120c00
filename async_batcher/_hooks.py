"""What the native part asks of Python: looking at process_batch, and at what went wrong in it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import inspect
import logging
import re
import sys
import traceback
import types
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping, Set
from typing import TYPE_CHECKING, Any

from async_batcher.exceptions import AsyncBatchException, BatchCancelledError

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("async_batcher")

_set = BaseException.__setattr__  # also where a frozen dataclass refuses

is_logged = functools.partial(logger.isEnabledFor, logging.DEBUG)

# Errors of the pickle module, and of a pool of interpreters, that say so in their text alone.
_PICKLING = re.compile(
    "(cannot|Can't) (pickle|get local object) |(?s:.*) does not support cross-interpreter data$"
)
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
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
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    # Any keyword will do, unless another parameter is there for the list.
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    takes_one = any(p.kind in _POSITIONAL and p.default is p.empty for p in parameters)
    return is_async, "batch" in names or (takes_any and not takes_one)


def as_rows(result: Any) -> Any:
    """Give the sequence whose elements go to the items in order; None if there is none."""
    if isinstance(result, Coroutine):
        result.close()  # or it would warn, on top of the error, that it was never awaited
    if isinstance(result, _REFUSED_RESULTS):
        return None
    # A table of pandas and its like is indexed by label or column, not by row.
    to_numpy = getattr(result, "to_numpy", None)
    return result if to_numpy is None else to_numpy()


def _copy_fields(error: BaseException) -> BaseException:
    """Copy an exception whose constructor takes something else than its arguments."""
    twin: BaseException = type(error).__new__(type(error), *error.args)
    vars(twin).update(vars(error))
    for kind in type(error).__mro__:
        for member in vars(kind).values():
            if isinstance(member, types.MemberDescriptorType):
                with contextlib.suppress(AttributeError, TypeError):  # not set, or read-only
                    member.__set__(twin, member.__get__(error))
    return twin


def _twin(
    make: Callable[[BaseException], BaseException], error: BaseException
) -> BaseException | None:
    try:
        twin = make(error)
        if type(twin) is not type(error) or twin is error:
            return None
        # A constructor that formats its text would format it twice.
        _set(twin, "args", error.args)
        notes = getattr(error, "__notes__", None)
        if notes is not None:
            _set(twin, "__notes__", list(notes))
    except (MemoryError, KeyboardInterrupt):
        raise  # the callers then share the error, which tells them more than another type would
    except BaseException:  # whatever a constructor may raise
        return None
    return twin


def _rebuild(error: BaseException) -> BaseException:
    """A new exception of the same type, arguments and attributes."""
    twin = _twin(copy.copy, error)
    if twin is None:
        twin = _twin(_copy_fields, error)
    if twin is None:
        twin = AsyncBatchException(f"process_batch raised {type(error).__qualname__}")
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
    _set(own, "__cause__", error)
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
    """Say the cure where an executor could not pickle what it was given, or the results."""
    pickle = sys.modules.get("pickle")  # whatever pickles has imported it
    if pickle is None or not (
        isinstance(error, pickle.PicklingError)
        or (isinstance(error, (TypeError, AttributeError)) and _PICKLING.match(str(error)))
    ):
        return error
    cure: BaseException = pickle.PicklingError(
        "the executor could not pickle process_batch, its items or its results: make process_batch"
        " a static method, a function or a functools.partial of one, and the others picklable"
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
