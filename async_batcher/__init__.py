"""Collect single asyncio calls into batches and give each caller its own answer."""

from __future__ import annotations

from async_batcher._decorator import batched
from async_batcher._stats import BatcherStats, Histogram
from async_batcher.batcher import AsyncBatcher
from async_batcher.exceptions import (
    AsyncBatchException,
    BatchCancelledError,
    BatcherStoppedError,
    BatchResultError,
    QueueFullException,
)

__all__ = [
    "AsyncBatchException",
    "AsyncBatcher",
    "BatchCancelledError",
    "BatchResultError",
    "BatcherStats",
    "BatcherStoppedError",
    "Histogram",
    "QueueFullException",
    "batched",
]

__version__ = "1.0.0"
