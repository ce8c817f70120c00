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

HANDLER = """
import asyncio, os, signal, sys, threading
from scripted import KINDS, run

seen = []
signal.signal(signal.SIGTERM, lambda *_: seen.append(threading.current_thread()))
batcher = KINDS[sys.argv[1]](max_queue_time=0.001)

async def main():
    for item in range(200):
        if item % 10 == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        assert await batcher.process(item) == item

run(main())
assert seen and set(seen) == {threading.main_thread()}
run(batcher.stop())
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
from scripted import Async, new_loop

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
assert asyncio.run_coroutine_threadsafe(warm(), loop).result(30) == 1
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
            batcher.process_threadsafe(2).result(30)
        print("missed", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    assert not armed
finally:
    armed = False
    asyncio.run_coroutine_threadsafe(batcher.stop(force=True), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    other.close()
"""


@kinds
def test_ctrl_c_reaches_the_main_thread_while_items_wait(tmp_path: Path, kind: str) -> None:
    """Scenario 62."""
    assert clean_script(tmp_path, INTERRUPT, kind) == "interrupted\n"


@kinds
def test_handlers_run_in_the_main_thread_only(tmp_path: Path, kind: str) -> None:
    """Scenario 62."""
    clean_script(tmp_path, HANDLER, kind)


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
