"""The limits of a batcher as properties that may be set while it runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from async_batcher import _checks

if TYPE_CHECKING:
    from async_batcher.batcher import AsyncBatcher


def max_workers() -> int:
    """How many threads of its own a batcher starts at most."""
    return min(32, (os.cpu_count() or 1) + 4)


def check_limits(limits: dict[str, Any]) -> list[Any]:
    """Check all limits; give them in the order and the form of the native part."""
    native: list[Any] = [
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
    native.append(limits["max_batch_cost"] != -1 or limits["max_queue_cost"] != -1)
    return native


def limit(name: str) -> property:
    """Make the property of one limit."""

    def read(self: AsyncBatcher[Any, Any]) -> Any:
        self._check()
        return self._limits[name]

    def write(self: AsyncBatcher[Any, Any], value: Any) -> None:
        self._check()
        is_set = False
        while not is_set:  # or another thread's setting would be undone
            before = self._limits
            after = {**before, name: value}
            is_set = self._set_limits(before, after, *check_limits(after))

    return property(read, write, doc=f"{name}, as in the constructor; may be set at any time.")
