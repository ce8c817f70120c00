"""Collect single asyncio calls into batches and give each caller its own answer."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from async_batcher.batcher import AsyncBatcher
from async_batcher.exceptions import (
    AsyncBatchException,
    BatchCancelledError,
    BatcherStoppedError,
    BatchResultError,
    QueueFullException,
)

if TYPE_CHECKING:
    from async_batcher._decorator import batched
    from async_batcher._stats import BatcherStats, Histogram
    from async_batcher.dynamic import (
        BatchStats,
        CostEstimator,
        DynamicBatcher,
        Prompt,
        TokenBatcher,
        TokenEstimator,
    )

__all__ = [
    "AsyncBatchException",
    "AsyncBatcher",
    "BatchCancelledError",
    "BatchResultError",
    "BatchStats",
    "BatcherStats",
    "BatcherStoppedError",
    "CostEstimator",
    "DynamicBatcher",
    "Histogram",
    "Prompt",
    "QueueFullException",
    "TokenBatcher",
    "TokenEstimator",
    "batched",
]

__version__ = "1.0.0"

# Imported when first asked for: classes made at import are most of its time.
_LATER = {
    "BatchStats": "_stats",
    "BatcherStats": "_stats",
    "CostEstimator": "_records",
    "DynamicBatcher": "dynamic",
    "Histogram": "_stats",
    "Prompt": "_records",
    "TokenBatcher": "dynamic",
    "TokenEstimator": "_records",
    "batched": "_decorator",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
