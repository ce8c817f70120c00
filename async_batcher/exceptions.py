"""The exceptions of async_batcher."""

from __future__ import annotations

import asyncio

__all__ = [
    "AsyncBatchException",
    "BatchCancelledError",
    "BatchResultError",
    "BatcherStoppedError",
    "QueueFullException",
]


class AsyncBatchException(Exception):  # noqa: N818 - the name is part of the API
    """Base of all exceptions of this package.

    Raised itself where ``process_batch`` raised something that cannot be
    rebuilt for each caller; the original is its ``__cause__``.
    """


class QueueFullException(AsyncBatchException, asyncio.QueueFull):
    """The queue holds ``max_queue_size`` items, or items worth ``max_queue_cost``."""


class BatcherStoppedError(AsyncBatchException, RuntimeError):
    """The batcher is stopped, or was stopped by force while the item waited."""


class BatchResultError(AsyncBatchException, ValueError):
    """``process_batch`` did not return one result for each item."""


class BatchCancelledError(AsyncBatchException):
    """What ran the batch was cancelled: its task, its executor, its event loop.

    It is not :class:`asyncio.CancelledError`, which would look like the
    caller's own cancellation.
    """
