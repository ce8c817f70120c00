"""Sync batches beside loops that are never idle: all get their turns, counted in iterations.

A loop that works in slices shorter than the switch interval takes the GIL back before a thread
that waits for it has woken up. How often depends on the scheduler, so the scripts decide it: all
threads on one CPU, where those of the batches may run only while the loop sleeps. Without the
moments of sleep that the loop is asked for, no script here ends.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from support import clean_script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="needs SCHED_IDLE to be sure of it"),
    pytest.mark.skipif(
        not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="nobody waits for a GIL"
    ),
]
MOST = {0.0002: 3_000, 0.001: 800, 0.005: 250}
"""Slices of that many seconds: in how many the batch must have had all its turns."""
slices = pytest.mark.parametrize("slice_s", list(MOST))
hosts = pytest.mark.parametrize("host", ["own", "pool"])

BEGIN = """
import asyncio, os, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from scripted import PATIENCE, Sync, run

slice_s, most, host = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

def run_only_while_others_sleep():
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

def work():
    end = time.perf_counter() + slice_s
    while time.perf_counter() < end:
        pass

class Busy:
    def __init__(self, loop):
        self.loop, self.count, self.is_over = loop, 0, False
        loop.call_soon(self.step)

    def step(self):
        self.count += 1
        work()
        if not self.is_over:
            assert self.count < most, "no turn for the batch"
            self.loop.call_soon(self.step)

def way_out():
    # What lets go of the GIL, for as short as can be.
    if sys.argv[4:] == ["numpy"]:
        import numpy
        numbers = numpy.zeros(10_000)
        return lambda: numpy.add(numbers, 1, out=numbers)
    if sys.argv[4:] == ["reading"]:
        zeros = open("/dev/zero", "rb", buffering=0)
        return lambda: zeros.read(1)
    return lambda: time.sleep(0)

let_go = way_out()

class Retaking(Sync):
    def process_batch(self, batch):
        run_only_while_others_sleep()
        for _ in range(batch[0]):
            let_go()
        return batch

def guard(loop, context):
    os.write(2, str(context["message"]).encode())
    os._exit(1)

def start(main):
    with ThreadPoolExecutor(2) as pool:
        async def guarded():
            asyncio.get_running_loop().set_exception_handler(guard)
            await main(pool if host == "pool" else None)
        run(guarded())
"""

RETAKES = """
async def main(executor):
    async with Retaking(max_queue_time=0, executor=executor) as batcher:
        await batcher.process(0)  # from now on its thread waits for the loop to sleep
        busy = Busy(asyncio.get_running_loop())
        assert await batcher.process(10) == 10
        busy.is_over = True

start(main)
"""

ATTACHES = """
async def main(executor):
    async with Retaking(max_queue_time=0, executor=executor) as batcher:
        await batcher.process(0)
        busy = Busy(asyncio.get_running_loop())
        for item in range(5):
            assert await batcher.process(item % 2) == item % 2
        busy.is_over = True

start(main)
"""

BEGINS = """
async def main(executor):
    async with Sync(max_queue_time=0) as known, Sync(max_queue_time=0) as batcher:
        await known.process(0)  # the loop is one that can be asked
        run_only_while_others_sleep()
        future = batcher.process(1)  # its worker inherits that, and has yet to begin
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        busy = Busy(asyncio.get_running_loop())
        assert await future == 1
        busy.is_over = True

start(main)
"""

STARTS = """
async def main(executor):
    async with Sync(max_queue_time=0) as known, Sync(max_queue_time=0) as batcher:
        await known.process(0)
        gate, ran = threading.Lock(), []
        gate.acquire()

        def take_the_first_chance():
            gate.acquire()
            ran.append(True)

        other = threading.Thread(target=take_the_first_chance)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1000)  # from now on nobody gets the GIL who is not given it
        other.start()
        run_only_while_others_sleep()  # nor does the worker begin before that one
        gate.release()
        for _ in range(50):
            work()  # and meanwhile the other comes to wait for it
        assert not ran
        future = batcher.process(1)
        assert not ran, "process() waited, and let another thread run"
        sys.setswitchinterval(interval)
        other.join()
        assert ran
        assert await future == 1

start(main)
"""

TWO_LOOPS = """
ended = threading.Barrier(2)

async def main(executor):
    batcher = Retaking(max_queue_time=0, concurrency=2, max_batch_size=1, executor=executor)
    loops = []

    async def use():
        asyncio.get_running_loop().set_exception_handler(guard)
        await batcher.process(0)
        busy = Busy(asyncio.get_running_loop())
        loops.append(busy)
        assert await batcher.process(5) == 5
        while len(loops) < 2 or min(busy.count for busy in loops) < 50:
            await asyncio.sleep(0)
        busy.is_over = True
        await asyncio.get_running_loop().run_in_executor(None, ended.wait, PATIENCE)

    thread = threading.Thread(target=lambda: run(use()))
    thread.start()
    await use()
    thread.join()

start(main)
"""

COMPUTES = """
steps = 0

class Computing(Sync):
    def process_batch(self, batch):
        global steps
        while busy.count < 200:
            steps += 1
            work()
            assert steps < 100 * 200, "no turn for the loop"
        return batch

async def main(executor):
    global busy
    async with Computing(max_queue_time=0, executor=executor) as batcher:
        busy = Busy(asyncio.get_running_loop())
        assert await batcher.process(1) == 1
        busy.is_over = True

start(main)
"""


@slices
@hosts
def test_batch_that_takes_the_gil_back_gets_its_turns_beside_a_busy_loop(
    tmp_path: Path, slice_s: float, host: str
) -> None:
    """Scenario 95."""
    clean_script(tmp_path, BEGIN + RETAKES, str(slice_s), str(MOST[slice_s]), host)


@hosts
@pytest.mark.parametrize("way", ["numpy", "reading"])
def test_batch_that_lets_go_of_the_gil_in_c_gets_its_turns_beside_a_busy_loop(
    tmp_path: Path, host: str, way: str
) -> None:
    """Scenario 95."""
    clean_script(tmp_path, BEGIN + RETAKES, "0.001", str(MOST[0.001]), host, way)


@slices
@hosts
def test_one_batch_after_another_begins_beside_a_busy_loop(
    tmp_path: Path, slice_s: float, host: str
) -> None:
    """Scenario 94."""
    clean_script(tmp_path, BEGIN + ATTACHES, str(slice_s), str(MOST[slice_s]), host)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to leave SCHED_IDLE again")
@slices
def test_worker_begins_beside_a_busy_loop(tmp_path: Path, slice_s: float) -> None:
    """Scenario 94."""
    clean_script(tmp_path, BEGIN + BEGINS, str(slice_s), str(MOST[slice_s]), "own")


def test_process_does_not_let_go_of_the_interpreter_to_start_its_worker(tmp_path: Path) -> None:
    """Scenario 94. So it cannot wait for the thread to begin."""
    clean_script(tmp_path, BEGIN + STARTS, "0.001", "0", "own")


@hosts
def test_two_busy_loops_and_their_batches_all_get_their_turns(tmp_path: Path, host: str) -> None:
    """Scenario 95. Scenario 39."""
    clean_script(tmp_path, BEGIN + TWO_LOOPS, "0.001", str(2 * MOST[0.001]), host)


@hosts
def test_busy_loop_gets_its_turns_beside_a_batch_that_computes(tmp_path: Path, host: str) -> None:
    """Scenario 95. Scenario 61."""
    clean_script(tmp_path, BEGIN + COMPUTES, "0.0002", str(MOST[0.0002]), host)
