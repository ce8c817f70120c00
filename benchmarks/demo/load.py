"""Open-loop load: requests come when they are due, however slow the answers are.

A closed loop (send, wait, send) slows down with the service and so hides its delays. Here the
arrivals are those of a Poisson process, drawn beforehand, and a latency runs from the moment
the request was *due*: what a late generator or a full pool adds is counted, not lost.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.demo.client import FAILED, Pool, post

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.demo.model import Trained

REQUEST_TIMEOUT_S = 5.0
POOL_SIZE = 800
START_LIMIT_S = 30.0
QUIET_LIMIT_S = 15.0
QUIET_MS = 60.0


@dataclass(frozen=True)
class Step:
    """What one endpoint did at one rate. Latencies in milliseconds, from the due time."""

    endpoint: str
    rate: float
    sent: int
    served_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    errors: int
    wrong: int
    send_lag_p99_ms: float
    generator_cpu: float

    def holds(self, limit_ms: float) -> bool:
        """Whether the 95th percentile is under the limit and every answer was right."""
        return self.p95_ms < limit_ms and self.wrong == 0


class LoadGenerator:
    """Asks one service for the rows of the trained model, in random order."""

    def __init__(self, address: tuple[str, int], trained: Trained) -> None:
        self._host, port = address
        self._pool = Pool(self._host, port, size=POOL_SIZE, timeout_s=REQUEST_TIMEOUT_S)
        self._answers = trained.answers
        self._bodies = [json.dumps({"features": row}).encode() for row in trained.rows]

    async def wait_until_up(self) -> None:
        """Wait for the first answer of a service that is starting."""
        give_up = time.perf_counter() + START_LIMIT_S
        while time.perf_counter() < give_up:
            status, _ = await self._pool.ask(post("/plain", self._host, self._bodies[0]))
            if status == 200:
                return
            await asyncio.sleep(0.1)
        raise RuntimeError(f"the service gave no answer within {START_LIMIT_S:.0f} s")

    async def measure(
        self, endpoint: str, rate: float, seconds: float, on_progress: Callable[[float], None]
    ) -> Step:
        """Send at ``rate`` a second for ``seconds``, wait for every answer, sum up.

        Args:
            endpoint: ``plain`` or ``batched``.
            rate: mean arrivals a second.
            seconds: how long requests go on arriving.
            on_progress: told the share of them that was answered, from 0 to 1.
        """
        await self._until_quiet(endpoint)
        payloads = [post(f"/{endpoint}", self._host, body) for body in self._bodies]
        run = _Run(self._pool, payloads, self._answers)
        cpu_start = time.process_time()
        await run.drive(arrivals(rate, seconds), on_progress)
        cpu_s = time.process_time() - cpu_start
        return run.summary(endpoint, rate, cpu_s)

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()

    async def _until_quiet(self, endpoint: str) -> None:
        """Wait until the service has worked off what an earlier step left behind."""
        give_up = time.perf_counter() + QUIET_LIMIT_S
        payload = post(f"/{endpoint}", self._host, self._bodies[0])
        calm = 0
        while calm < 3 and time.perf_counter() < give_up:
            start = time.perf_counter()
            status, _ = await self._pool.ask(payload)
            is_quick = (time.perf_counter() - start) * 1e3 < QUIET_MS
            calm = calm + 1 if status == 200 and is_quick else 0


class _Run:
    """One step under way: the schedule, and what has come back."""

    def __init__(self, pool: Pool, payloads: list[bytes], answers: list[float]) -> None:
        self._pool = pool
        self._payloads = payloads
        self._answers = answers
        self._latencies_s: list[float] = []
        self._lags_s: list[float] = []
        self._errors = 0
        self._wrong = 0
        self._start = 0.0
        self._elapsed_s = 0.0
        self._all_back = asyncio.Event()

    async def drive(self, schedule: list[float], on_progress: Callable[[float], None]) -> None:
        """Send everything when it is due and return when everything is answered."""
        choose = random.Random(len(schedule))
        rows = [choose.randrange(len(self._payloads)) for _ in schedule]
        reporter = asyncio.create_task(self._report(len(schedule), on_progress))
        self._start = time.perf_counter()
        sent = 0
        while sent < len(schedule):
            now = time.perf_counter() - self._start
            while sent < len(schedule) and schedule[sent] <= now:
                self._send(schedule[sent], rows[sent], len(schedule))
                sent += 1
            if sent < len(schedule):
                await asyncio.sleep(max(0.0, schedule[sent] - now))
        await self._all_back.wait()
        self._elapsed_s = time.perf_counter() - self._start
        reporter.cancel()
        on_progress(1.0)

    def summary(self, endpoint: str, rate: float, cpu_s: float) -> Step:
        """The figures of the finished run."""
        latencies_s = sorted(self._latencies_s)
        return Step(
            endpoint=endpoint,
            rate=rate,
            sent=len(latencies_s),
            served_per_s=(len(latencies_s) - self._errors) / self._elapsed_s,
            p50_ms=percentile(latencies_s, 50) * 1e3,
            p95_ms=percentile(latencies_s, 95) * 1e3,
            p99_ms=percentile(latencies_s, 99) * 1e3,
            errors=self._errors,
            wrong=self._wrong,
            send_lag_p99_ms=percentile(sorted(self._lags_s), 99) * 1e3,
            generator_cpu=cpu_s / self._elapsed_s,
        )

    def _send(self, due: float, row: int, total: int) -> None:
        due += self._start

        def on_done(status: int, body: bytes) -> None:
            latency_s = time.perf_counter() - due
            if status != 200:
                self._errors += 1
                # Its answer never came; the limit is the least it would have taken.
                latency_s = max(latency_s, REQUEST_TIMEOUT_S) if status == FAILED else latency_s
            elif not math.isclose(json.loads(body)["prediction"], self._answers[row]):
                self._wrong += 1
            self._latencies_s.append(latency_s)
            if len(self._latencies_s) == total:
                self._all_back.set()

        self._lags_s.append(time.perf_counter() - due)
        self._pool.request(self._payloads[row], on_done)

    async def _report(self, total: int, on_progress: Callable[[float], None]) -> None:
        while True:
            await asyncio.sleep(0.25)
            on_progress(len(self._latencies_s) / total)


def arrivals(rate: float, seconds: float) -> list[float]:
    """Arrival times of a Poisson process, in seconds from the start; the same every time.

    Given their number they are independent and uniform, so the number is fixed at its mean:
    two steps of the same rate then carry the same load.
    """
    draw = random.Random(f"{rate:.3f}")
    return sorted(draw.uniform(0.0, seconds) for _ in range(max(1, round(rate * seconds))))


def percentile(ordered: list[float], percent: float) -> float:
    """The nearest-rank percentile of an ascending list."""
    rank = math.ceil(len(ordered) * percent / 100)
    return ordered[max(rank, 1) - 1]
