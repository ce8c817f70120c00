"""Idle means that nobody is woken: not our threads, and not the loop. Counted, not timed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from support import FREE, clean_script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
kinds = pytest.mark.parametrize("kind", ["async", "sync"])

BEGIN = """
import asyncio, selectors, sys
from scripted import KINDS, calm, run, threads, wake_ups

class Counting(selectors.DefaultSelector):
    selects = 0

    def select(self, timeout=None):
        Counting.selects += 1
        return super().select(timeout)

async def nobody_is_woken(least):
    await calm()
    ours = threads()
    assert len(ours) >= least, ours
    before, selects = wake_ups(ours), Counting.selects
    await asyncio.sleep(1)  # idleness takes time: that is the scenario
    assert threads() == ours
    assert wake_ups(ours) == before, f"{wake_ups(ours) - before} wake-ups in a second"
    # The sleep's own, and one for a timer that fires a little early.
    rounds = Counting.selects - selects
    assert rounds <= 2, f"the loop went round {rounds} times"

def start(main):
    run(main, factory=lambda: asyncio.SelectorEventLoop(Counting()))
"""

IDLE = """
async def main():
    batchers = [KINDS[sys.argv[1]](max_queue_time=0.001, concurrency=2) for _ in range(10)]
    for _ in range(3):
        await asyncio.gather(*(batcher.process(item) for item in range(4) for batcher in batchers))
    await nobody_is_woken(11 if sys.argv[1] == "sync" else 1)
    for batcher in batchers:
        await batcher.stop()

start(main())
"""

WINDOW = """
async def main():
    async with KINDS[sys.argv[1]](max_queue_time=3600) as batcher:
        batcher.process(0)
        batcher.flush()
        futures = [batcher.process(item) for item in range(3)]
        await nobody_is_woken(1)
        batcher.flush()
        assert await asyncio.gather(*futures) == [0, 1, 2]

start(main())
"""

FULL = """
async def main():
    async with KINDS[sys.argv[1]](max_queue_time=3600, max_queue_size=1) as batcher:
        first = batcher.process(0)
        waiting = asyncio.ensure_future(batcher.submit(1))
        await nobody_is_woken(1)
        batcher.flush()
        second = await waiting
        batcher.flush()
        assert await asyncio.gather(first, second) == [0, 1]

start(main())
"""

LEAVING = """
import resource

async def main():
    batchers = [KINDS["sync"](max_queue_time=0) for _ in range(200)]
    await asyncio.gather(*(batcher.process(1) for batcher in batchers))
    await calm()
    many = len(threads())
    assert many > 200, many
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    batchers.clear()
    sum(range(30_000_000))  # meanwhile nobody gets the interpreter lock
    while len(threads()) > many - 200:
        await asyncio.sleep(0.01)
    switches = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before
    assert switches < 200 * 20, f"{switches} times somebody woke up and went to sleep again"

start(main())
"""


@kinds
def test_idle_batchers_wake_nobody(tmp_path: Path, kind: str) -> None:
    """Trap 27. Guarantee 7."""
    clean_script(tmp_path, BEGIN + IDLE, kind)


@kinds
def test_waiting_window_wakes_nobody(tmp_path: Path, kind: str) -> None:
    """Trap 27."""
    clean_script(tmp_path, BEGIN + WINDOW, kind)


@kinds
def test_caller_that_waits_for_space_wakes_nobody(tmp_path: Path, kind: str) -> None:
    """Trap 27."""
    clean_script(tmp_path, BEGIN + FULL, kind)


@pytest.mark.skipif(FREE, reason="nobody waits for a GIL")
def test_workers_that_leave_at_once_do_not_keep_waking_each_other(tmp_path: Path) -> None:
    """Scenario 91. Each that waits for the interpreter lock wakes up every 5 ms."""
    clean_script(tmp_path, BEGIN + LEAVING)
