"""The end of a batcher's work, with a caller on a loop that does not run."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from support import LONG, Recorder, both, new_loop, settle, soon

if TYPE_CHECKING:
    from collections.abc import Iterator


class Halted:
    """A loop that stopped while an item of its own waits, and another that runs."""

    def __init__(self, kind: type[Recorder]) -> None:
        self.batcher = kind(max_queue_time=LONG)
        self.stops, self.runs = new_loop(), new_loop()
        self.waiting = self.stops.run_until_complete(self.ask())

    async def ask(self) -> asyncio.Future[Any]:
        return self.batcher.process("first")

    async def run_both(self) -> Any:
        """Have both items run, on the loop that does."""
        second = self.batcher.process("second")
        self.batcher.flush()
        return await second


@contextmanager
def halted(kind: type[Recorder]) -> Iterator[Halted]:
    """Close both loops in the end."""
    both_loops = Halted(kind)
    try:
        yield both_loops
    finally:
        both_loops.stops.close()
        both_loops.runs.close()


@both
def test_graceful_stop_does_not_wait_for_a_loop_that_has_stopped(kind: type[Recorder]) -> None:
    """Scenario 87. Nothing is queued or runs; who is still to be told is told later."""
    with halted(kind) as loops:

        async def use_and_stop() -> list[Any]:
            answer = await loops.run_both()
            return [answer, *await soon(asyncio.ensure_future(loops.batcher.stop()))]

        assert loops.runs.run_until_complete(use_and_stop()) == ["second", None]
        assert loops.batcher.items == ["first", "second"]
        assert loops.stops.run_until_complete(loops.waiting) == "first"


@both
def test_idle_waits_for_a_loop_that_has_stopped(kind: type[Recorder]) -> None:
    """Scenario 87. Idleness is when every caller is told."""
    with halted(kind) as loops:

        async def begin() -> asyncio.Task[None]:
            assert await loops.run_both() == "second"
            idle = asyncio.ensure_future(loops.batcher.idle())
            await settle()
            assert not idle.done()
            return idle

        idle = loops.runs.run_until_complete(begin())
        assert loops.stops.run_until_complete(loops.waiting) == "first"
        loops.runs.run_until_complete(idle)
        loops.runs.run_until_complete(loops.batcher.stop())
