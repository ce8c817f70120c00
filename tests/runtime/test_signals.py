"""Signals: they reach the main thread, and the native thread takes none of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from support import clean_script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
kinds = pytest.mark.parametrize("kind", ["async", "sync"])
proc = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

INTERRUPT = """
import asyncio, os, signal, sys, threading
from scripted import KINDS, run

batcher = KINDS[sys.argv[1]](max_queue_time=3600)

async def main():
    loop = asyncio.get_running_loop()
    future = batcher.process(1)
    loop.call_soon(os.kill, os.getpid(), signal.SIGINT)
    await future

try:
    run(main())
except KeyboardInterrupt:
    print("interrupted")
"""

# Another process waits until the main thread sleeps in the selector; nothing else wakes it.
FROM_OUTSIDE = """
import asyncio, signal, subprocess, sys
from scripted import KINDS, run

OTHER = '''
import os, signal, sys
sys.stdin.read(1)
asleep = 0
while asleep < 100:
    with open(f"/proc/{os.getppid()}/stat") as file:
        asleep = asleep + 1 if file.read().rpartition(")")[2].split()[0] == "S" else 0
os.kill(os.getppid(), signal.SIGINT)
'''
batcher = KINDS[sys.argv[1]](max_queue_time=3600)

async def main():
    future = batcher.process(1)
    batcher.flush()
    await future  # a worker waits for the next batch
    batcher.process(2)  # the aggregation thread for its window
    asyncio.get_running_loop().call_soon(other.stdin.close)
    await asyncio.Event().wait()

signal.signal(signal.SIGINT, signal.default_int_handler)
with subprocess.Popen([sys.executable, "-c", OTHER], stdin=subprocess.PIPE) as other:
    try:
        run(main())
    except KeyboardInterrupt:
        print("interrupted")
"""

MASKS = """
import asyncio, signal, sys, threading, time
from scripted import KINDS, PATIENCE, run, threads

FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
MANAGEABLE = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}

def blocked(task):
    with open(f"/proc/self/task/{task}/status") as file:
        (line,) = [line for line in file if line.startswith("SigBlk:")]
    mask = int(line.split()[1], 16)
    return {number for number in MANAGEABLE if mask >> (number - 1) & 1}

async def until_asleep(ours):
    # A worker has told its callers before it blocks them again.
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        masks = {task: blocked(task) for task in ours}
        if all(mask == MANAGEABLE - FAULTS for mask in masks.values()):
            return
        await asyncio.sleep(0.001)
    assert False, masks

async def main():
    before, mask = threads(), signal.pthread_sigmask(signal.SIG_BLOCK, [])
    batchers = [KINDS[sys.argv[1]](max_queue_time=0.001, concurrency=2) for _ in range(3)]
    for _ in range(3):
        await asyncio.gather(*(batcher.process(item) for item in range(4) for batcher in batchers))
        ours = threads() - before
        assert len(ours) >= (4 if sys.argv[1] == "sync" else 1), ours
        await until_asleep(ours)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
    for batcher in batchers:
        await batcher.stop()

run(main())
"""

MASK_OF_A_BATCH = """
import signal
from scripted import Sync, run

class Asking(Sync):
    def process_batch(self, batch):
        return [signal.pthread_sigmask(signal.SIG_BLOCK, [])] * len(batch)

async def main():
    async with Asking(max_queue_time=0) as batcher:
        for _ in range(3):
            assert await batcher.process(1) == mask

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
assert mask == {signal.SIGUSR1}
run(main())
"""

STORM = """
import asyncio, os, shutil, signal, sys
from scripted import KINDS, run

COUNT = 300
reaped = 0

def reap(*_):
    global reaped
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid == 0:
            break
        assert status == 0, status
        reaped += 1
    if reaped == COUNT:
        loop.call_soon_threadsafe(all_reaped.set)

async def main():
    global loop, all_reaped
    loop, all_reaped = asyncio.get_running_loop(), asyncio.Event()
    signal.signal(signal.SIGCHLD, reap)
    read, write = os.pipe()
    cat, out = shutil.which("cat"), os.open(os.devnull, os.O_WRONLY)
    actions = [(os.POSIX_SPAWN_DUP2, read, 0), (os.POSIX_SPAWN_DUP2, out, 1)]
    for _ in range(COUNT):
        os.posix_spawn(cat, ["cat"], {}, file_actions=actions)
    async with KINDS[sys.argv[1]](max_queue_time=0.0005) as batcher:
        assert await batcher.process(-1) == -1
        os.close(write)  # they all end now
        for item in range(200):
            assert await batcher.process(item) == item
        await all_reaped.wait()

run(main())
"""

BLOCKED = """
import os, signal
from scripted import Async, run

batcher = Async(max_queue_time=0.001)

async def main():
    assert await batcher.process(1) == 1
    future = batcher.process(2)  # the native thread lives, and sleeps until the window
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    os.kill(os.getpid(), signal.SIGTERM)
    assert signal.sigwait({signal.SIGTERM}) == signal.SIGTERM
    assert await future == 2

run(main())
"""

CHILDREN = """
import asyncio, sys
from scripted import KINDS, run

async def main():
    async with KINDS[sys.argv[1]](max_queue_time=0.001) as batcher:
        for round in range(5):
            children = [
                await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", "")
                for _ in range(4)
            ]
            assert await batcher.process_many(range(20)) == list(range(20))
            assert [await child.wait() for child in children] == [0] * 4

run(main())
"""

INTERRUPTED_CALL = """
import asyncio, logging, signal, sys, threading
from scripted import PATIENCE, Async, new_loop

# What the interrupt leaves pending is destroyed at exit, as it must be: no word on it.
logging.getLogger("asyncio").addHandler(logging.NullHandler())
signal.signal(signal.SIGINT, signal.default_int_handler)
base = type(new_loop())
armed = False
method = sys.argv[1]

def interrupted(self, *args, **options):
    global armed
    if armed and threading.current_thread() is threading.main_thread():
        armed = False
        raise KeyboardInterrupt  # as the handler would, had the signal come now
    return getattr(base, method)(self, *args, **options)

def add_reader(self, *args):
    raise NotImplementedError  # so that call_soon_threadsafe is what wakes it

names = {method: interrupted, **({} if method == "is_running" else {"add_reader": add_reader})}
Interrupted = type("Interrupted", (base,), names)
batcher = Async(max_queue_time=0)
loop = Interrupted()
thread = threading.Thread(target=loop.run_forever)

async def warm():
    return await batcher.process(1)

thread.start()
assert asyncio.run_coroutine_threadsafe(warm(), loop).result(PATIENCE) == 1
other = new_loop()

async def use():
    global armed
    armed = True
    return await batcher.process(2)

try:
    try:
        if method == "is_running":
            other.run_until_complete(use())
        else:
            armed = True
            batcher.process_threadsafe(2).result(PATIENCE)
        print("missed", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    assert not armed
finally:
    armed = False
    asyncio.run_coroutine_threadsafe(batcher.stop(force=True), loop).result(PATIENCE)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    other.close()
"""


@kinds
def test_ctrl_c_reaches_the_main_thread_while_items_wait(tmp_path: Path, kind: str) -> None:
    """Scenario 62."""
    assert clean_script(tmp_path, INTERRUPT, kind) == "interrupted\n"


@proc
@kinds
def test_ctrl_c_from_another_process_wakes_the_main_thread(tmp_path: Path, kind: str) -> None:
    """Scenario 62."""
    assert clean_script(tmp_path, FROM_OUTSIDE, kind) == "interrupted\n"


@proc
@kinds
def test_our_threads_take_no_signals_but_those_of_a_fault(tmp_path: Path, kind: str) -> None:
    """Scenario 62."""
    clean_script(tmp_path, MASKS, kind)


def test_batch_has_the_signal_mask_of_who_started_its_worker(tmp_path: Path) -> None:
    """Scenario 62."""
    clean_script(tmp_path, MASK_OF_A_BATCH)


@kinds
def test_hundreds_of_children_that_end_at_once_disturb_nothing(tmp_path: Path, kind: str) -> None:
    """Scenario 62."""
    clean_script(tmp_path, STORM, kind)


def test_signal_that_the_main_thread_blocks_kills_nobody(tmp_path: Path) -> None:
    """Scenario 97."""
    clean_script(tmp_path, BLOCKED)


@kinds
def test_ending_child_processes_disturb_nothing(tmp_path: Path, kind: str) -> None:
    """Scenario 62."""
    clean_script(tmp_path, CHILDREN, kind)


@pytest.mark.parametrize("method", ["call_soon_threadsafe", "is_running"])
def test_ctrl_c_inside_a_call_to_the_loop_is_not_lost(tmp_path: Path, method: str) -> None:
    """Scenario 62."""
    assert clean_script(tmp_path, INTERRUPTED_CALL, method) == "interrupted\n"
