"""How a process ends while a batch runs: when main returns, and abruptly, `AB_EXITS` times each."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from support import EXITS, leave, script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60 + 2 * EXITS)

# A callback of threading runs as the exit begins, before those that were there earlier: ours too.
ENDS = """
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from scripted import Sync

begun, exits = threading.Event(), threading.Event()

class Slow(Sync):
    def process_batch(self, batch):
        begun.set()
        exits.wait()
        time.sleep(0.02)  # long enough for an exit that does not wait
        print("ended", flush=True)
        return batch

executor = ThreadPoolExecutor(1) if sys.argv[1] == "pool" else None
batcher = Slow(max_queue_time=0, executor=executor)
future = batcher.process_threadsafe(1)
begun.wait()
threading._register_atexit(exits.set)
"""

# The loop is left open, is closed under its batch, or ends as asyncio.run() ends it.
ASYNC = """
import asyncio, logging, sys
from scripted import Async, new_loop, run

# What is pending is destroyed at exit, or its loop is: asyncio says so, and that is right.
logging.getLogger("asyncio").addHandler(logging.NullHandler())

class Endless(Async):
    async def process_batch(self, batch):
        begun.set()
        await asyncio.Event().wait()

async def begin():
    global begun
    begun = asyncio.Event()
    future = batcher.process(1)
    await begun.wait()
    return future

batcher = Endless(max_queue_time=0)
if sys.argv[1] == "run":
    future = run(begin())
else:
    loop = new_loop()
    future = loop.run_until_complete(begin())
    if sys.argv[1] == "closed":
        loop.close()
"""

NEVER_ENDS = """
import asyncio, sys, threading
from scripted import Sync, run

never, begun = threading.Event(), threading.Event()

class Endless(Sync):
    def process_batch(self, batch):
        begun.set()
        never.wait()
        return batch

async def main():
    future = batcher.process(1)
    begun.wait()
    try:
        await batcher.stop(timeout=0.01)
    except (TimeoutError, asyncio.TimeoutError):
        print(type(future.exception()).__name__, flush=True)

batcher = Endless(max_queue_time=0)
run(main())
"""

# The signal comes when the exit has begun.
SIGNALLED = """
import os, signal, sys, threading
from scripted import Sync

heard, begun, exits = (threading.Event() for _ in range(3))

class Held(Sync):
    def process_batch(self, batch):
        begun.set()
        exits.wait()
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
        heard.wait()
        print("ended", flush=True)
        return batch

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, lambda *_: heard.set())
batcher = Held(max_queue_time=0)
future = batcher.process_threadsafe(1)
begun.wait()
threading._register_atexit(exits.set)
"""

ABRUPT = """
import asyncio, logging, os, signal, sys, threading
from scripted import Async, Sync, run

# A future that failed and that nobody asks is told of by asyncio, and that is right.
logging.getLogger("asyncio").addHandler(logging.NullHandler())
how, begun, exits = sys.argv[1], threading.Event(), threading.Event()

class Endless(Async):
    async def process_batch(self, batch):
        begun.set()
        await asyncio.Event().wait()

class Held(Sync):
    def process_batch(self, batch):
        begun.set()
        exits.wait()
        return batch

def leave():
    threading._register_atexit(exits.set)
    if how == "exit":
        sys.exit(3)
    elif how == "error":
        raise LookupError
    elif how == "term":
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait()
    elif how == "_exit":
        os._exit(5)
    else:
        os.abort()

async def main():
    future = batcher.process(1)
    while not begun.is_set():
        await asyncio.sleep(0)
    leave()

batcher = (Endless if sys.argv[2] == "async" else Held)(max_queue_time=0)
if sys.argv[2] == "no loop":
    future = batcher.process_threadsafe(1)
    begun.wait()
    leave()
run(main())
"""

CODES = {
    "exit": 3,
    "error": 1,
    "term": -getattr(signal, "SIGTERM", 15),
    "_exit": 5,
    "abort": -getattr(signal, "SIGABRT", 6),
}
"""The exit codes of what ends a process."""


@pytest.mark.parametrize("where", ["own", "pool"])
def test_running_batch_may_end_before_the_process_does(tmp_path: Path, where: str) -> None:
    """Scenario 71."""
    leave(tmp_path, ENDS, where, output="ended\n")


@pytest.mark.parametrize("loop", ["open", "closed", "run"])
def test_exit_under_a_running_async_batch_is_clean(tmp_path: Path, loop: str) -> None:
    """Scenario 71."""
    leave(tmp_path, ASYNC, loop)


def test_batch_that_never_ends_and_was_given_up_does_not_hold_the_exit_up(tmp_path: Path) -> None:
    """Scenario 27. Scenario 71."""
    leave(tmp_path, NEVER_ENDS, output="BatcherStoppedError\n")


@pytest.mark.skipif(os.name == "nt", reason="the codes are those of POSIX")
@pytest.mark.parametrize("kind", ["async", "sync", "no loop"])
@pytest.mark.parametrize("how", list(CODES))
def test_abrupt_end_has_the_exit_code_it_would_have_without_us(
    tmp_path: Path, how: str, kind: str
) -> None:
    """Scenario 73."""
    for _ in range(EXITS):
        done = script(tmp_path, ABRUPT, how, kind)
        assert done.returncode == CODES[how], done.stderr
        if how in ("exit", "term", "_exit"):
            assert done.stderr == ""
        elif how == "error":
            assert done.stderr.endswith("LookupError\n"), done.stderr
            assert done.stderr.count("Traceback") == 1, done.stderr


def test_ctrl_c_ends_an_exit_that_waits_for_a_batch(tmp_path: Path) -> None:
    """Scenario 62. Scenario 70. As it ends the wait for a pool of threads."""
    for _ in range(EXITS):
        done = script(tmp_path, SIGNALLED, "SIGINT")
        assert done.stdout == ""
        assert "KeyboardInterrupt" in done.stderr


def test_handler_of_a_signal_runs_while_the_exit_waits_for_a_batch(tmp_path: Path) -> None:
    """Scenario 62. Scenario 70."""
    leave(tmp_path, SIGNALLED, "SIGTERM", output="ended\n")
