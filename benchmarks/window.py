"""How late is a window?

One caller awaits one item at a time with an otherwise idle loop; the time from ``process()`` to
the start of ``process_batch``, less ``max_queue_time``, is how late the batch was. Beside it, in
the same run, a window kept by ``loop.call_later``, which is what code without a thread of its own
has.

Run it on an idle machine: ``python -m benchmarks.window``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

from async_batcher import AsyncBatcher

WINDOWS_S = (0.0002, 0.001, 0.01)
TARGET_MS = 0.15
"""How late a window of 0.2 ms may be at the median."""


class Stopwatch(AsyncBatcher[float, float]):
    """Answers each item, the time at which it was handed in, with its wait in seconds."""

    async def process_batch(self, batch: list[float]) -> list[float]:
        """Measure the waits of a batch."""
        now = time.perf_counter()
        return [now - start for start in batch]


async def wait_by_call_later(window_s: float) -> float:
    """Wait for a window as a timer of the event loop keeps it."""
    loop = asyncio.get_running_loop()
    fired: asyncio.Future[float] = loop.create_future()
    start = time.perf_counter()
    loop.call_later(window_s, lambda: fired.set_result(time.perf_counter() - start))
    return await fired


async def lateness_ms(
    window_s: float, wait: Callable[[], Awaitable[float]], rounds: int
) -> list[float]:
    """Measure `rounds` windows; how late each was, in milliseconds, in ascending order."""
    return sorted([(await wait() - window_s) * 1e3 for _ in range(rounds)])


def quantile(ascending: list[float], q: float) -> float:
    """Return the value below which a share `q` of the ascending values lies."""
    return ascending[min(len(ascending) - 1, int(q * len(ascending)))]


async def measure(rounds: int) -> list[dict[str, float | str]]:
    """Measure every window both ways, in turn."""
    rows: list[dict[str, float | str]] = []
    for window_s in WINDOWS_S:
        async with Stopwatch(max_queue_time=window_s) as batcher:
            ways: dict[str, Callable[[], Awaitable[float]]] = {
                "async_batcher": lambda b=batcher: b.process(time.perf_counter()),  # type: ignore[misc]
                "call_later": lambda w=window_s: wait_by_call_later(w),  # type: ignore[misc]
            }
            for name, wait in ways.items():
                late = await lateness_ms(window_s, wait, rounds)
                rows.append(
                    {
                        "window_ms": window_s * 1e3,
                        "way": name,
                        "p50_ms": round(statistics.median(late), 4),
                        "p99_ms": round(quantile(late, 0.99), 4),
                    }
                )
    return rows


def main() -> int:
    """Measure, print a line of JSON for each row, and say whether the target is met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=500, help="windows of each length and way")
    rows = asyncio.run(measure(parser.parse_args().rounds))
    for row in rows:
        print(json.dumps(row))
    is_met = float(rows[0]["p50_ms"]) <= TARGET_MS
    print(f"0.2 ms window: {rows[0]['p50_ms']} ms late at the median, target {TARGET_MS} ms")
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
