"""A real batcher and the reference, step by step: what is done to and must be seen of both."""

from __future__ import annotations

import asyncio
import threading
import time
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from calls import Call, SpoiltError, answer
from hypothesis.stateful import RuleBasedStateMachine
from support import PATIENCE, new_loop, settle
from tickets import Item, Ticket

from async_batcher import AsyncBatcher
from async_batcher._core import _clock_advance, _clock_freeze, _clock_resume

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from reference import Reference

ROUNDS = 60
"""Loop iterations after which nothing that needs no other thread can still be on its way."""
SECOND_NS = 10**9
TICK_S = 2**-9
"""Exact as a float and in nanoseconds; far below a window, so that sums of it never are one."""


@dataclass(eq=False)
class Job:
    """A real batch that runs until `gate` opens."""

    items: list[Item]
    gate: asyncio.Event | threading.Event
    spoiled: set[Item] = field(default_factory=set)
    raises: bool = False

    def results(self) -> list[Any]:
        if self.raises:
            raise SpoiltError
        return [SpoiltError() if item in self.spoiled else answer(item) for item in self.items]


class Echo(AsyncBatcher[None, None]):
    """Ends when the aggregation thread has seen to all that was due before."""

    async def process_batch(self, batch: list[None]) -> None:
        return None


class LockStep(RuleBasedStateMachine):
    """A machine that steps; the rules are those of its subclasses."""

    batcher: Any
    model: Reference
    is_threaded = False
    looks = True
    """Whether `stats`, whose reading notices what is cancelled, is read after each rule."""
    patience_s = PATIENCE

    def __init__(self) -> None:
        super().__init__()
        _clock_freeze()
        self.loop = self.open_loop()
        self.sentinel = Echo(max_queue_time=TICK_S / 2)
        self.jobs: list[Job] = []  # every one that began
        self.open_jobs: list[Job] = []
        self.mutex = threading.Lock()
        self.calls: list[Call] = []
        self.stops: list[asyncio.Task[None]] = []  # those that wait
        self.idlers: list[asyncio.Task[None]] = []
        self.numbers = 0
        self.is_over = False
        self.grow_young()

    def grow_young(self) -> None:
        """Begin again to count the steps: what ends everything is not to come too soon."""
        self.steps = self.steps_after_stop = 0

    def open_loop(self) -> asyncio.AbstractEventLoop:
        loop = new_loop()
        loop.set_exception_handler(lambda _loop, _context: None)  # lost futures and tasks
        return loop

    def teardown(self) -> None:
        self.is_over = True
        for job in self.open_jobs:
            job.gate.set()
        try:
            if hasattr(self, "batcher"):  # hypothesis may give an example up before it is made
                stopping = self.loop.create_task(self.batcher.stop())
                waiting = asyncio.wait({stopping}, timeout=LockStep.patience_s)
                self.loop.run_until_complete(waiting)
        finally:
            self.close()
            _clock_resume()

    def close(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # it says how many items are released
            self.loop.close()

    # ---- the real batches ----

    async def run_async(self, batch: list[Item]) -> list[Any]:
        gate = asyncio.Event()
        job = self.begin(batch, gate)
        await gate.wait()
        return job.results()

    def run_sync(self, batch: list[Item]) -> list[Any]:
        gate = threading.Event()
        job = self.begin(batch, gate)
        gate.wait(PATIENCE)
        return job.results()

    def begin(self, batch: list[Item], gate: asyncio.Event | threading.Event) -> Job:
        job = Job(list(batch), gate)
        with self.mutex:
            self.jobs.append(job)
            self.open_jobs.append(job)
        if self.is_over:
            gate.set()
        return job

    def begun(self) -> list[list[Item]]:
        with self.mutex:
            return [job.items for job in self.jobs]

    def pick_job(self, which: int) -> Job:
        with self.mutex:
            self.open_jobs.sort(key=lambda job: job.items)
            return self.open_jobs[which % len(self.open_jobs)]

    def end(self, job: Job) -> None:
        with self.mutex:
            self.open_jobs.remove(job)
        for batch in list(self.model.running):
            if [ticket.item for ticket in batch] == job.items:
                self.model.finish(batch, job.spoiled)
        job.gate.set()

    def end_all(self, outcome: str, counter: str) -> None:
        """The reference has nobody left who waits; let the batches that still run end."""
        self.model.end_all(outcome, counter)
        with self.mutex:
            jobs, self.open_jobs = self.open_jobs, []
        for job in jobs if self.is_threaded else []:
            job.gate.set()

    # ---- the step ----

    def step(self, act: Callable[[], Awaitable[None] | None]) -> None:
        """Let `act` happen inside the loop; come to rest, and compare."""

        async def main() -> None:
            awaitable = act()
            if awaitable is not None:
                await awaitable
            await self.rest()
            self.compare()

        self.loop.run_until_complete(main())
        self.steps += 1
        self.steps_after_stop += self.model.is_closing and self.model.is_idle()

    def pass_time(self, seconds: float) -> None:
        """Let it pass; come to rest, also the aggregation thread, and compare."""

        async def main() -> None:
            self.advance(seconds)
            await self.rest()  # what is due at this very time
            self.compare()
            barrier = self.sentinel.process(None)
            self.advance(TICK_S)
            await asyncio.wait_for(barrier, PATIENCE)
            await self.rest()
            self.compare()

        self.loop.run_until_complete(main())

    def advance(self, seconds: float) -> None:
        _clock_advance(seconds)
        self.model.now_ns += int(seconds * SECOND_NS)

    async def rest(self) -> None:
        """Let all that is to happen happen, and give what is not to happen its chance."""
        self.model.settle()
        await settle(ROUNDS)
        if self.looks:
            self.look()
        give_up = time.monotonic() + LockStep.patience_s
        while not self.agrees():
            if time.monotonic() > give_up:
                LockStep.patience_s = 1.0  # the failure is found: shrink it fast
                return
            await asyncio.sleep(0.0005 if self.is_threaded else 0)
        await settle(5)

    def agrees(self) -> bool:
        try:
            self.compare()
        except AssertionError:
            return False
        return True

    def compare(self) -> None:
        """Exactly the batches of the reference, and to each caller exactly what is its own."""
        begun, wanted = self.begun(), self.model.begun
        if self.is_threaded:  # workers may call process_batch in any order
            begun, wanted = sorted(begun), sorted(wanted)
        assert begun == wanted, (begun, wanted)
        for call in self.calls:
            call.compare()
        self.calls = [call for call in self.calls if not call.has_ended()]
        for waiting in (self.stops, self.idlers):
            assert all(task.done() == self.model.is_idle() for task in waiting)
        if self.model.is_idle():
            self.stops, self.idlers = [], []
        if self.looks:
            self.compare_stats()

    def look(self) -> None:
        """Have what is cancelled noticed: by reading the statistics."""
        self.model.look()
        assert self.batcher.stats is not None

    def compare_stats(self) -> None:
        raise NotImplementedError

    def counted(self, **counts: int) -> None:
        """Demand these counts of the reference, too."""
        assert counts == {name: self.model.counts[name] for name in counts}

    def tickets(self, costs: Iterable[int]) -> list[Ticket]:
        tickets = []
        for cost in costs:
            self.numbers += 1
            tickets.append(Ticket(Item(self.numbers, cost)))
        return tickets
