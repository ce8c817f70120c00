"""DynamicBatcher does what the reference does, whatever happens to it and in whatever order."""

from __future__ import annotations

import pytest
from calls import InTurn
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test
from lockstep import SECOND_NS
from machine import COSTS, SETTINGS, TIMEOUT_S, BatcherMachine, is_of_use
from reference import Reference
from tickets import UNLIMITED, Caller, Item, Limits

from async_batcher import DynamicBatcher

LIMITS = st.builds(
    Limits,
    batch_size=st.sampled_from([2, 1, 3, 4, UNLIMITED]),
    batch_cost=st.sampled_from([UNLIMITED, UNLIMITED, 4, 10]),
    queue_size=st.sampled_from([1, 2, 3, 5, UNLIMITED]),
    window_ns=st.sampled_from([0, 1, 1, 2, 3]).map(SECOND_NS.__mul__),
    prefetch=st.sampled_from([1, 1, 2, 3, UNLIMITED]),
)
WRONG_ESTIMATE = 99


def bound(limit: int, none: int) -> int:
    return none if limit == UNLIMITED else limit


class DynamicBatcherMachine(BatcherMachine):
    batcher: DynamicBatcher[Item, tuple[str, int]]

    def __init__(self) -> None:
        super().__init__()
        self.estimates: dict[int, int] = {}

    @initialize(limits=LIMITS, looks=st.booleans())
    def make(self, limits: Limits, looks: bool) -> None:
        self.looks = looks or self.is_threaded
        self.model = Reference(limits, is_closing=True)
        self.batcher = DynamicBatcher(
            self.run_sync if self.is_threaded else self.run_async,
            cost_estimator=lambda item: self.estimates.get(item.number, item.cost),
            target_batch_cost=bound(limits.batch_cost, -1),
            max_batch_size=bound(limits.batch_size, -1),
            batch_timeout_s=limits.window_ns / SECOND_NS,
            max_queue_size=bound(limits.queue_size, 0),
            prefetch_batches=bound(limits.prefetch, 0),
        )
        self.start()

    @rule()
    def start(self) -> None:
        """Also again; but not while it runs or is about to stop."""

        async def act() -> None:
            if self.stops or not self.model.is_closing:
                with pytest.raises(RuntimeError, match="already running"):
                    await self.batcher.start()
            else:
                await self.batcher.start()
                self.model.is_closing = False
                self.grow_young()

        self.step(act)

    async def force(self) -> None:
        error = ValueError("raised in the body of async with")
        await self.batcher.__aexit__(ValueError, error, None)

    def compare_stats(self) -> None:
        stats, counts = self.batcher.stats, self.model.counts
        assert self.batcher.is_running == (not self.model.is_closing)
        self.counted(
            submitted=stats.total_submitted,
            batches=stats.total_batches,
            total_cost=stats.total_batch_cost,
        )
        assert stats.total_completed == counts["completed"] + counts["failed"]
        assert stats.avg_batch_size * stats.total_batches == pytest.approx(counts["items"])
        assembled = len(self.model.assembled())
        assert stats.prefetched_batches == min(assembled, self.model.limits.prefetch)
        pending = len(self.model.queue) + sum(map(len, self.model.running))
        assert stats.total_submitted == stats.total_completed + counts["cancelled"] + pending

    @is_of_use
    @rule(cost=COSTS)
    def submit_at_a_given_cost(self, cost: int) -> None:
        (ticket,) = self.tickets([cost])
        self.estimates[ticket.item.number] = WRONG_ESTIMATE
        caller = Caller([ticket])

        def act() -> None:
            submitting = self.batcher.submit(ticket.item, estimated_cost=cost)
            self.calls.append(InTurn([ticket], self.loop.create_task(submitting), caller))
            self.model.submit(caller)

        self.step(act)

    @is_of_use
    @precondition(lambda self: not self.is_threaded)
    @rule(costs=st.lists(COSTS, min_size=1, max_size=9), given=st.sets(st.integers(0, 8)))
    def submit_batch(self, costs: list[int], given: set[int]) -> None:
        """The costs of those at some places are given, those of the others are estimated."""
        tickets = self.tickets(costs)
        caller = Caller(list(tickets))
        estimated = [cost if i in given else None for i, cost in enumerate(costs)]
        for ticket, cost in zip(tickets, estimated, strict=True):
            if cost is not None:
                self.estimates[ticket.item.number] = WRONG_ESTIMATE

        def act() -> None:
            items = [ticket.item for ticket in tickets]
            submitting = self.batcher.submit_batch(items, estimated_cost=estimated)
            self.calls.append(InTurn(tickets, self.loop.create_task(submitting), caller))
            self.model.submit(caller)

        self.step(act)


class ThreadedMachine(DynamicBatcherMachine):
    is_threaded = True


@pytest.mark.timeout(TIMEOUT_S)
def test_batches_of_an_async_process_fn_are_those_of_the_reference() -> None:
    run_state_machine_as_test(DynamicBatcherMachine, settings=SETTINGS)


@pytest.mark.timeout(TIMEOUT_S)
def test_batches_of_a_process_fn_in_threads_are_those_of_the_reference() -> None:
    run_state_machine_as_test(ThreadedMachine, settings=SETTINGS)
