"""What batchers tell of themselves: immutable snapshots."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["BatchStats", "BatcherStats", "Histogram"]


@dataclass(frozen=True)
class Histogram:
    """A histogram of times.

    Attributes:
        count: How many times were measured.
        sum: Their sum, in seconds.
        buckets: ``buckets[k]`` counts times below ``2**k`` microseconds that
            are in no earlier bucket; the last one counts all others.
    """

    count: int = 0
    sum: float = 0.0
    buckets: tuple[int, ...] = ()

    @property
    def mean(self) -> float:
        """The mean time in seconds; 0.0 of nothing."""
        return self.sum / self.count if self.count else 0.0

    def quantile(self, q: float) -> float:
        """Give an upper bound of the ``q``-quantile, in seconds.

        Args:
            q: From 0 to 1.

        Returns:
            The upper edge of the bucket that holds it; 0.0 of nothing.

        Raises:
            ValueError: ``q`` is not from 0 to 1.

        Example:
            >>> Histogram(count=3, sum=6e-6, buckets=(0, 1, 2)).quantile(0.5)
            4e-06
        """
        if not 0 <= q <= 1:
            raise ValueError(f"q must be from 0 to 1, not {q!r}")
        seen = 0
        for k, number in enumerate(self.buckets):
            seen += number
            if seen and seen >= q * self.count:
                return float(2**k) / 1e6
        return 0.0


@dataclass(frozen=True)
class BatcherStats:
    """A snapshot of what a batcher has done, current when a waiter resumes.

    Attributes:
        submitted: Items accepted.
        completed: Items that got a result.
        failed: Items that got an exception.
        cancelled: Items whose callers cancelled first.
        rejected: Items refused: queue full, or stopped.
        batches: Batches started.
        queued: Items that wait in the queue now.
        running: Batches that run now.
        total_cost: Cost of all batches; items without an estimator cost 1.
        mean_batch_size: Items in a batch on average; 0.0 before the first.
        mean_batch_cost: Cost of a batch on average; 0.0 before the first.
        queue_wait: How long items waited for their batch to start.
        batch_time: How long batches ran.
        busy_s: Seconds with at least one batch running.
        idle_s: Seconds without, since the first use.
        utilization: Share of ``busy_s`` in both; 0.0 before the first use.
        reasons: Batches by why they went: ``full``, ``cost``, ``window``,
            ``idle``, ``flush``, ``drain``.
    """

    submitted: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    rejected: int = 0
    batches: int = 0
    queued: int = 0
    running: int = 0
    total_cost: int = 0
    mean_batch_size: float = 0.0
    mean_batch_cost: float = 0.0
    queue_wait: Histogram = field(default_factory=Histogram)
    batch_time: Histogram = field(default_factory=Histogram)
    busy_s: float = 0.0
    idle_s: float = 0.0
    utilization: float = 0.0
    reasons: Mapping[str, int] = field(default_factory=lambda: types.MappingProxyType({}))


def make_stats(counted: dict[str, Any]) -> BatcherStats:
    """Build the snapshot from what the native part counted."""
    counts = {
        name: value for name, value in counted.items() if name not in ("is_used", "prefetched")
    }
    batches = counts["batches"] or 1
    busy_s, total_s = counts["busy_s"], counts["busy_s"] + counts["idle_s"]
    counts["mean_batch_size"] = counts.pop("batched_items") / batches
    counts["mean_batch_cost"] = counts["total_cost"] / batches
    counts["utilization"] = busy_s / total_s if total_s > 0 else 0.0
    for name in ("queue_wait", "batch_time"):
        counts[name] = Histogram(*counts[name])
    counts["reasons"] = types.MappingProxyType(counts["reasons"])
    return BatcherStats(**counts)


@dataclass(frozen=True)
class BatchStats:
    """A snapshot of what a DynamicBatcher has done, over all its runs.

    Attributes:
        total_submitted: Records accepted.
        total_completed: Records that got a result or an exception; not those
            whose callers cancelled first.
        total_batches: Batches started.
        total_batch_cost: Cost of all of them.
        avg_batch_size: Records in a batch on average; 0.0 before the first.
        avg_batch_cost: Cost of a batch on average; 0.0 before the first.
        busy_time_s: Seconds with a batch running, the one in progress included.
        idle_time_s: Seconds without, between start and stop.
        prefetched_batches: Batches that lie assembled behind the running one.
    """

    total_submitted: int = 0
    total_completed: int = 0
    total_batches: int = 0
    total_batch_cost: int = 0
    avg_batch_size: float = 0.0
    avg_batch_cost: float = 0.0
    busy_time_s: float = 0.0
    idle_time_s: float = 0.0
    prefetched_batches: int = 0

    @property
    def utilization(self) -> float:
        """Share of ``busy_time_s`` in busy and idle time, 0.0 to 1.0.

        Example:
            >>> BatchStats(busy_time_s=3.0, idle_time_s=1.0).utilization
            0.75
        """
        total_s = self.busy_time_s + self.idle_time_s
        return self.busy_time_s / total_s if total_s > 0 else 0.0
