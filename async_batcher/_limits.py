"""The limits of a batcher as properties that may be set while it runs."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from async_batcher import _checks

if TYPE_CHECKING:
    from async_batcher.batcher import AsyncBatcher


def max_workers() -> int:
    """How many threads of its own a batcher starts at most."""
    return min(32, (os.cpu_count() or 1) + 4)


_setting = threading.RLock()  # over a change of limits


def check_limits(limits: dict[str, Any]) -> list[int]:
    """Check all limits; give them in the order and the form of the native part."""
    native = [
        _checks.check_limit(name, limits[name])
        for name in (
            "max_batch_size",
            "max_batch_cost",
            "max_queue_size",
            "max_queue_cost",
            "concurrency",
        )
    ]
    native.append(_checks.check_seconds("max_queue_time", limits["max_queue_time"]))
    native.append(0)  # batches assembled ahead
    return native


def limit(name: str) -> property:
    """Make the property of one limit."""

    def read(self: AsyncBatcher[Any, Any]) -> Any:
        self._check()
        return self._limits[name]

    def write(self: AsyncBatcher[Any, Any], value: Any) -> None:
        self._check()
        with _setting:  # or another thread's setting would be undone
            limits = {**self._limits, name: value}
            self._set_limits(*check_limits(limits))
            self._limits[name] = value

    return property(read, write, doc=f"{name}, as in the constructor; may be set at any time.")
