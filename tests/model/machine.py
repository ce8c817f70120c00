"""The rules that both kinds of batcher have in common, and how long to play by them."""

from __future__ import annotations

import asyncio
import os

from calls import Call, InTurn, Many, One
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from lockstep import LockStep
from tickets import Caller, Ticket

WANTED = os.environ.get("AB_MODEL_EXAMPLES")
EXAMPLES = int(WANTED or "40")
SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    derandomize=not WANTED,  # new ones are looked for by who asks how many
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TIMEOUT_S = 60 + 5 * EXAMPLES
COSTS = st.sampled_from([1, 1, 2, 0, 3, 5, 15])
ANY = st.integers(0, 60)
"""Chooses one of however many there are."""

is_of_use = precondition(lambda self: self.steps_after_stop < 3)
"""A stopped batcher refuses, each time anew."""
is_ripe = precondition(lambda self: self.steps >= 10)
"""What ends everything may come when there is something to end."""


class BatcherMachine(LockStep):
    """Each rule does one thing to the batcher and to the reference."""

    # ---- submitting ----

    def process(self, ticket: Ticket) -> Call:
        call = One([ticket], self.batcher.process(ticket.item))
        self.model.process([ticket])
        self.calls.append(call)
        return call

    @is_of_use
    @rule(cost=COSTS)
    def process_one(self, cost: int) -> None:
        (ticket,) = self.tickets([cost])

        def act() -> None:
            self.process(ticket)

        self.step(act)

    @is_of_use
    @rule(costs=st.lists(COSTS, min_size=1, max_size=7), returns_exceptions=st.booleans())
    def process_many(self, costs: list[int], returns_exceptions: bool) -> None:
        tickets = self.tickets(costs)

        def act() -> None:
            items = [ticket.item for ticket in tickets]
            future = self.batcher.process_many(items, return_exceptions=returns_exceptions)
            self.model.process(tickets)
            self.calls.append(Many(tickets, future, returns_exceptions))

        self.step(act)

    @is_of_use
    @precondition(lambda self: not self.is_threaded)
    @rule(costs=st.lists(COSTS, min_size=2, max_size=7), cancelled=st.sets(st.integers(0, 6)))
    def process_some_and_cancel(self, costs: list[int], cancelled: set[int]) -> None:
        """Within one iteration of the loop: nobody looked before the cut."""
        tickets = self.tickets(costs)

        def act() -> None:
            calls = [self.process(ticket) for ticket in tickets]
            for index in cancelled:
                if index < len(calls):
                    calls[index].cancel(self.model)

        self.step(act)

    def submit(self, cost: int) -> None:
        tickets = self.tickets([cost])
        caller = Caller(list(tickets))
        task = self.loop.create_task(self.batcher.submit(tickets[0].item))
        self.calls.append(InTurn(tickets, task, caller))
        self.model.submit(caller)

    @is_of_use
    @rule(cost=COSTS)
    def submit_one(self, cost: int) -> None:
        self.step(lambda: self.submit(cost))

    @is_of_use
    @precondition(lambda self: not self.is_threaded)
    @rule(costs=st.lists(COSTS, min_size=2, max_size=5))
    def submit_some(self, costs: list[int]) -> None:
        """Within one iteration of the loop."""

        def act() -> None:
            for cost in costs:
                self.submit(cost)

        self.step(act)

    # ---- leaving ----

    @precondition(lambda self: self.calls)
    @rule(which=ANY)
    def cancel_caller(self, which: int) -> None:
        self.step(lambda: self.calls[which % len(self.calls)].cancel(self.model))

    @precondition(lambda self: len(self.calls) > 1)
    @rule(which=st.sets(st.integers(0, 6), min_size=2))
    def cancel_some_callers(self, which: set[int]) -> None:
        """Within one iteration of the loop; none that waits for space, for it may be next."""
        calls = [self.calls[i] for i in sorted(which) if i < len(self.calls)]

        def act() -> None:
            for call in calls:
                if not isinstance(call, InTurn) or call.task.done():
                    call.cancel(self.model)

        self.step(act)

    @precondition(lambda self: self.model.backlog)
    @rule()
    def cancel_first_in_line(self) -> None:
        """Who is next may need less space."""
        first = self.model.backlog[0]
        (call,) = [c for c in self.calls if isinstance(c, InTurn) and c.caller is first]
        self.step(lambda: call.cancel(self.model))

    @precondition(lambda self: self.open_jobs)
    @rule(which=ANY, spoiled=st.sets(st.integers(0, 3), max_size=2), raises=st.booleans())
    def fail_batch(self, which: int, spoiled: set[int], raises: bool) -> None:
        """By an exception, or by exceptions in place of some results."""
        job = self.pick_job(which)
        job.raises = raises or not spoiled
        job.spoiled = {item for i, item in enumerate(job.items) if i in spoiled or job.raises}
        self.step(lambda: self.end(job))

    @precondition(lambda self: self.open_jobs)
    @rule(which=ANY, cancels=st.booleans())
    def finish_batch(self, which: int, cancels: bool) -> None:
        """Also while all of its callers cancel, in the same iteration of the loop."""
        job = self.pick_job(which)

        def act() -> None:
            for call in list(self.calls) if cancels else []:
                if {ticket.item for ticket in call.tickets} <= set(job.items):
                    call.cancel(self.model)
            self.end(job)

        self.step(act)

    # ---- stopping ----

    @is_ripe
    @is_of_use
    @rule()
    def stop(self) -> None:
        def act() -> None:
            self.stops.append(self.loop.create_task(self.batcher.stop()))
            self.model.stop()

        self.step(act)

    @is_ripe
    @is_of_use
    @rule()
    def stop_by_force(self) -> None:
        async def act() -> None:
            await self.force()
            self.model.stop()
            self.end_all("stopped", "failed")

        self.step(act)

    @precondition(lambda self: self.stops)
    @rule(which=ANY)
    def cancel_stop(self, which: int) -> None:
        """It forces."""

        async def act() -> None:
            self.stops[which % len(self.stops)].cancel()
            await asyncio.wait(self.stops)
            self.end_all("stopped", "failed")

        self.step(act)

    async def force(self) -> None:
        """What fails all that is queued or runs, and waits for nothing."""
        raise NotImplementedError

    # ---- time, and the loop ----

    @is_of_use
    @rule(seconds=st.sampled_from([0.5, 1.0, 1.0, 2.0, 3.0]))
    def advance_clock(self, seconds: float) -> None:
        self.pass_time(seconds)

    @is_of_use
    @rule()
    def flush(self) -> None:
        def act() -> None:
            self.model.flush()
            self.batcher.flush()

        self.step(act)

    @is_ripe
    @is_of_use
    @rule()
    def close_loop(self) -> None:
        """Release all that waited there, and go on with another loop."""
        self.close()
        self.calls, self.stops, self.idlers = [], [], []
        self.model.backlog = []
        self.end_all("released", "cancelled")
        self.grow_young()
        self.loop = self.open_loop()
        self.step(lambda: None)
