"""AsyncBatcher does what the reference does, whatever happens to it and in whatever order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test
from lockstep import SECOND_NS
from machine import SETTINGS, TIMEOUT_S, BatcherMachine
from reference import Reference
from tickets import UNLIMITED, Item, Limits

from async_batcher import AsyncBatcher

if TYPE_CHECKING:
    from collections.abc import Callable

LIMITS = st.builds(
    Limits,
    batch_size=st.sampled_from([3, 1, 2, 4, UNLIMITED]),
    batch_cost=st.sampled_from([UNLIMITED, UNLIMITED, 4, 10]),
    queue_size=st.sampled_from([UNLIMITED, UNLIMITED, 1, 2, 4, 7]),
    queue_cost=st.sampled_from([UNLIMITED, UNLIMITED, 3, 12]),
    permits=st.sampled_from([1, 1, 2, 3]),  # as many as there always are worker threads
    window_ns=st.sampled_from([0, 1, 1, 2, 3]).map(SECOND_NS.__mul__),
)
NAMES = {
    "max_batch_size": "batch_size",
    "max_batch_cost": "batch_cost",
    "max_queue_size": "queue_size",
    "max_queue_cost": "queue_cost",
    "concurrency": "permits",
    "max_queue_time": "window_ns",
}
"""The words of AsyncBatcher, and those of the reference."""


def options_of(limits: Limits) -> dict[str, float]:
    options = {name: getattr(limits, own) for name, own in NAMES.items()}
    options["max_queue_time"] /= SECOND_NS
    return {name: -1 if value == UNLIMITED else value for name, value in options.items()}


class Gated(AsyncBatcher[Item, Any]):
    def __init__(self, body: Callable[[list[Item]], Any], **options: Any) -> None:
        super().__init__(**options, cost=lambda item: item.cost)
        self.body = body


class AsyncGated(Gated):
    async def process_batch(self, batch: list[Item]) -> Any:
        return await self.body(batch)


class SyncGated(Gated):
    def process_batch(self, batch: list[Item]) -> Any:
        return self.body(batch)


class AsyncBatcherMachine(BatcherMachine):
    batcher: Gated

    @initialize(limits=LIMITS, looks=st.booleans())
    def make(self, limits: Limits, looks: bool) -> None:
        self.looks = looks or self.is_threaded
        self.model = Reference(limits)
        kind, body = (
            (SyncGated, self.run_sync) if self.is_threaded else (AsyncGated, self.run_async)
        )
        self.batcher = kind(body, **options_of(limits))
        self.jobs = []
        self.grow_young()

    @precondition(lambda self: self.model.is_closing and self.model.is_idle())
    @rule(limits=LIMITS, looks=st.booleans())
    def begin_anew(self, limits: Limits, looks: bool) -> None:
        """A stopped batcher stays stopped: with another one."""
        self.make(limits, looks)

    def compare_stats(self) -> None:
        stats = self.batcher.stats
        self.counted(
            submitted=stats.submitted,
            completed=stats.completed,
            failed=stats.failed,
            cancelled=stats.cancelled,
            rejected=stats.rejected,
            batches=stats.batches,
            total_cost=stats.total_cost,
        )
        running, queued = self.model.running, self.model.queue
        assert (stats.queued, stats.running) == (len(queued), len(running))
        self.counted(**stats.reasons)
        told = stats.completed + stats.failed + stats.cancelled
        assert stats.submitted == told + stats.queued + sum(map(len, running))
        assert stats.mean_batch_size * stats.batches == pytest.approx(self.model.counts["items"])

    @rule()
    def look_at_stats(self) -> None:
        def act() -> None:
            self.look()
            self.compare_stats()

        self.step(act)

    @precondition(lambda self: self.looks)
    @rule()
    def wait_until_idle(self) -> None:
        def act() -> None:
            self.idlers.append(self.loop.create_task(self.batcher.idle()))

        self.step(act)

    # ---- limits ----

    @rule(limits=LIMITS, name=st.sampled_from(list(NAMES)))
    def change_limit(self, limits: Limits, name: str) -> None:
        def act() -> None:
            setattr(self.model.limits, NAMES[name], getattr(limits, NAMES[name]))
            self.model.look()
            setattr(self.batcher, name, options_of(limits)[name])

        self.step(act)

    async def force(self) -> None:
        await self.batcher.stop(force=True)


class ThreadedMachine(AsyncBatcherMachine):
    is_threaded = True


@pytest.mark.timeout(TIMEOUT_S)
def test_batches_of_an_async_process_batch_are_those_of_the_reference() -> None:
    run_state_machine_as_test(AsyncBatcherMachine, settings=SETTINGS)


@pytest.mark.timeout(TIMEOUT_S)
def test_batches_of_a_process_batch_in_threads_are_those_of_the_reference() -> None:
    run_state_machine_as_test(ThreadedMachine, settings=SETTINGS)
