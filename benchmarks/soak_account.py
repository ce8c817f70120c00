"""What a soak came to: the account that it keeps of every item, and the verdict on the whole.

The first quarter is the warm-up. Threads, file descriptors and memory of the last quarter may not
be above those of the first half (memory: by 15 %), nor the p99 of the last minute by more than 20 %
above that of the minute after the warm-up.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SAMPLE_S = 1.0
RSS_GROWTH = 1.15  # the last quarter over the first half
P99_GROWTH = 1.2


@dataclass
class Account:
    """What became of every item, how long it took, and what the process held meanwhile."""

    outcomes: Counter[str] = field(default_factory=Counter)
    submitted: int = 0
    wrong: list[str] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)  # seconds, since the sample before
    samples: list[dict[str, float]] = field(default_factory=list)
    mutex: threading.Lock = field(default_factory=threading.Lock)

    def note(self, outcome: str, began: float, *, timed: bool = False) -> None:
        """Count one ended item."""
        now = time.monotonic()
        with self.mutex:
            self.outcomes[outcome] += 1
            if timed:
                self.recent.append(now - began)

    def sample(self) -> None:
        """Note what the process holds, and the 99th percentile since the sample before.

        Nothing else is kept of the latencies, or this account would be what grows.
        """
        with self.mutex:
            recent, self.recent = self.recent, []
        recent.sort()
        p99_ms = recent[int(len(recent) * 0.99)] * 1e3 if recent else 0.0
        self.samples.append({**held(), "p99_ms": p99_ms})

    def series(self, begin: float) -> dict[str, list[float]]:
        """Give what was sampled, `at` in seconds since `begin`."""
        names = self.samples[0]
        series = {name: [round(each[name], 3) for each in self.samples] for name in names}
        return {**series, "at": [round(each["at"] - begin, 3) for each in self.samples]}


def held() -> dict[str, float]:
    """Read what the process holds: threads, file descriptors, resident MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return {
        "at": time.monotonic(),
        "threads": len(os.listdir("/proc/self/task")),
        "fds": len(os.listdir("/proc/self/fd")),
        "rss_mb": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
    }


def median(samples: list[dict[str, float]], name: str, begin: float, end: float) -> float:
    """The median of one figure over a span of time."""
    values = sorted(each[name] for each in samples if begin <= each["at"] < end)
    return values[len(values) // 2] if values else 0.0


def judge(account: Account, begin: float, end: float) -> dict[str, Any]:
    """Compare the end with the beginning; `failures` says what does not hold."""
    quarter = (end - begin) / 4
    span = min(60.0, quarter)
    first = median(account.samples, "p99_ms", begin + quarter, begin + quarter + span)
    last = median(account.samples, "p99_ms", end - span, end)
    early = [each for each in account.samples if begin + SAMPLE_S < each["at"] < end - 2 * quarter]
    report: dict[str, Any] = {
        "minutes": (end - begin) / 60,
        "submitted": account.submitted,
        "outcomes": dict(account.outcomes),
        "p99_first_ms": first,
        "p99_last_ms": last,
    }
    failures = account.wrong[:20]
    if sum(account.outcomes.values()) != account.submitted:
        failures.append(f"{account.submitted} submitted, {account.outcomes} ended")
    for name, allowed in (("threads", 1.0), ("fds", 1.0), ("rss_mb", RSS_GROWTH)):
        before = max(each[name] for each in early)
        after = median(account.samples, name, end - quarter, end)
        report[f"{name}_early"], report[f"{name}_late"] = before, after
        if after > before * allowed:
            failures.append(f"{name}: {before:.0f} at most, then {after:.0f}")
    # Other load disturbs a short run: there the figures are only told.
    if quarter >= 300 and last > first * P99_GROWTH:
        failures.append(f"p99: {first:.2f} ms at first, {last:.2f} ms at last")
    return {**report, "failures": failures}


def plot(account: Account, begin: float, path: Path) -> bool:
    """Draw what was sampled; False without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(4, 1, sharex=True, figsize=(9, 9))
    minutes = [(each["at"] - begin) / 60 for each in account.samples]
    for axis, name in zip(axes, ("threads", "fds", "rss_mb", "p99_ms"), strict=True):
        axis.plot(minutes, [each[name] for each in account.samples])
        axis.set_ylabel(name)
        axis.set_ylim(bottom=0)
    axes[-1].set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(path)
    return True
