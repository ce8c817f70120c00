"""How a process ends: with work pending, in the middle of a batch, abruptly, and with late calls.

Most scripts run `AB_EXITS` times, 10 unless it is set: what goes wrong here goes wrong rarely.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from support import clean_script, script

if TYPE_CHECKING:
    from pathlib import Path

EXITS = int(os.environ.get("AB_EXITS", "10"))
pytestmark = pytest.mark.timeout(60 + 2 * EXITS)
kinds = pytest.mark.parametrize("kind", ["async", "sync"])

USED = """
import sys
from scripted import KINDS, run
batcher = KINDS[sys.argv[1]](max_queue_time=0.001)
assert run(batcher.call(1)) == 1
"""

PENDING = """
import sys
from scripted import KINDS, new_loop
batcher = KINDS[sys.argv[1]](max_queue_time=3600)

async def begin():
    return [batcher.process(item) for item in range(10)]

loop = new_loop()
futures = loop.run_until_complete(begin())
if sys.argv[2] == "closed":
    loop.close()
"""

THREADSAFE = """
from scripted import Sync
batcher = Sync(max_queue_time=3600)
futures = [batcher.process_threadsafe(item) for item in range(10)]
"""

SHORT_WINDOW = """
import sys
from async_batcher._core import _clock_freeze, _clock_resume
from scripted import KINDS, new_loop
batchers = [KINDS[sys.argv[1]](max_queue_time=0.0001 * n) for n in range(1, 50)]

async def begin():
    return [batcher.process(1) for batcher in batchers]

_clock_freeze()
loop = new_loop()
futures = loop.run_until_complete(begin())
_clock_resume()  # the windows pass while the process ends
"""

MID_BATCH = """
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from scripted import Sync

begun = threading.Event()

class Slow(Sync):
    def process_batch(self, batch):
        begun.set()
        time.sleep(0.2)
        print("ended", flush=True)
        return batch

executor = ThreadPoolExecutor(1) if sys.argv[1] == "pool" else None
batcher = Slow(max_queue_time=0, executor=executor)
future = batcher.process_threadsafe(1)
begun.wait()
"""

NEVER_ENDS = """
import asyncio, sys, threading
from concurrent.futures import ThreadPoolExecutor
from scripted import Sync, run

never, begun = threading.Event(), threading.Event()

class Endless(Sync):
    def process_batch(self, batch):
        begun.set()
        never.wait()
        return batch

async def main():
    future = batcher.process(1)
    while not begun.is_set():
        await asyncio.sleep(0.001)
    try:
        await batcher.stop(timeout=0.01)
    except (TimeoutError, asyncio.TimeoutError):
        print(type(future.exception()).__name__, flush=True)

batcher = Endless(max_queue_time=0)
run(main())
"""

LATE = """
import atexit, sys
from scripted import Sync, Async, run

sync, other = Sync(max_queue_time=0.001), Async(max_queue_time=0.001)
assert run(sync.call(1)) == 1
assert run(other.call(1)) == 1

def late():
    for use in (lambda: run(sync.call(2)), lambda: sync.process_threadsafe(2).result(20),
                lambda: sync.process(2)):
        try:
            use()
        except RuntimeError as error:
            print("refused", flush=True)
    print(run(other.call(2)), flush=True)

atexit.register(late)
"""

LATE_UNUSED = """
import atexit
from scripted import Sync, run

def late():
    try:
        run(Sync().call(1))
    except RuntimeError:
        print("refused", flush=True)

atexit.register(late)
"""

LATE_THREADING = """
import threading
from scripted import Sync, run

batcher = Sync(max_queue_time=0)

def late():
    try:
        batcher.process_threadsafe(1).result(20)
    except RuntimeError:
        pass
    print("ended", flush=True)

threading._register_atexit(late)
assert run(batcher.call(1)) == 1
"""

DESTRUCTOR = """
from scripted import Async, Sync, run

class Last:
    def __init__(self, batcher):
        self.batcher = batcher
        self.itself = self

    def __del__(self):
        for use in (self.batcher.process, self.batcher.process_threadsafe):
            try:
                future = use(1)
            except (RuntimeError, TypeError):
                continue
            future.add_done_callback(lambda future: future.exception())

last = [Last(Sync(max_queue_time=0)), Last(Async(max_queue_time=0))]
for one in last:
    assert run(one.batcher.call(1)) == 1
del one
"""

ABRUPT = """
import os, signal, sys, threading
from scripted import Sync

begun = threading.Event()

class Held(Sync):
    def process_batch(self, batch):
        begun.set()
        threading.Event().wait(0.1 if sys.argv[1] in ("exit", "error") else 40)
        return batch

batcher = Held(max_queue_time=0)
batcher.process_threadsafe(1)
begun.wait()
if sys.argv[1] == "exit":
    sys.exit(3)
elif sys.argv[1] == "error":
    raise LookupError
elif sys.argv[1] == "term":
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(40)
elif sys.argv[1] == "_exit":
    os._exit(5)
else:
    os.abort()
"""

DAEMON = """
import sys, threading
from scripted import KINDS, run

batcher = KINDS[sys.argv[1]](max_queue_time=0.0005)
warm = threading.Event()

async def main():
    while True:
        await batcher.process(1)
        warm.set()

def body():
    try:
        run(main())
    except RuntimeError:
        pass

threading.Thread(target=body, daemon=True).start()
warm.wait()
"""

LOOP_THREAD = """
import sys, threading
from scripted import KINDS, run

batcher = KINDS[sys.argv[1]](max_queue_time=0.0005)
warm = threading.Event()

async def main():
    for item in range(300):
        try:
            assert await batcher.process(item) == item
        except RuntimeError:
            assert warm.is_set()
        if item == 20:
            warm.set()
    print("ended", flush=True)

threading.Thread(target=run, args=(main(),)).start()
warm.wait()
"""


def leave(folder: Path, source: str, *arguments: str, output: str = "") -> None:
    """Run the script `AB_EXITS` times; demand a clean end with `output` each time."""
    for _ in range(EXITS):
        assert clean_script(folder, source, *arguments) == output


@kinds
def test_used_and_never_stopped_batcher_leaves_cleanly(tmp_path: Path, kind: str) -> None:
    """Scenario 70."""
    leave(tmp_path, USED, kind)


@kinds
@pytest.mark.parametrize("loop", ["open", "closed"])
def test_exit_with_items_pending_is_clean(tmp_path: Path, kind: str, loop: str) -> None:
    """Scenario 70."""
    leave(tmp_path, PENDING, kind, loop)


def test_exit_with_items_of_no_loop_pending_is_clean(tmp_path: Path) -> None:
    """Scenario 70."""
    leave(tmp_path, THREADSAFE)


@kinds
def test_exit_while_windows_pass_is_clean(tmp_path: Path, kind: str) -> None:
    """Scenario 70."""
    leave(tmp_path, SHORT_WINDOW, kind)


@pytest.mark.parametrize("where", ["own", "pool"])
def test_running_batch_may_end_before_the_process_does(tmp_path: Path, where: str) -> None:
    """Scenario 71."""
    assert clean_script(tmp_path, MID_BATCH, where) == "ended\n"


def test_batch_that_never_ends_and_was_given_up_does_not_hold_the_exit_up(tmp_path: Path) -> None:
    """Scenario 27. Scenario 71."""
    assert clean_script(tmp_path, NEVER_ENDS) == "BatcherStoppedError\n"


def test_late_sync_calls_are_refused_and_late_async_ones_work(tmp_path: Path) -> None:
    """Scenario 72."""
    assert clean_script(tmp_path, LATE) == "refused\nrefused\nrefused\n2\n"


def test_first_use_after_the_end_of_threading_is_refused(tmp_path: Path) -> None:
    """Scenario 72."""
    assert clean_script(tmp_path, LATE_UNUSED) == "refused\n"


def test_call_while_threading_ends_does_not_hang(tmp_path: Path) -> None:
    """Scenario 72."""
    leave(tmp_path, LATE_THREADING, output="ended\n")


def test_call_from_a_destructor_at_teardown_does_no_harm(tmp_path: Path) -> None:
    """Scenario 72."""
    leave(tmp_path, DESTRUCTOR)


@pytest.mark.parametrize(
    ("how", "code"),
    [("exit", 3), ("error", 1), ("term", -signal.SIGTERM), ("_exit", 5), ("abort", -6)],
)
def test_abrupt_end_has_the_exit_code_it_would_have_without_us(
    tmp_path: Path, how: str, code: int
) -> None:
    """Scenario 73."""
    assert script(tmp_path, ABRUPT, how).returncode == code


@kinds
def test_daemon_thread_with_a_loop_does_not_spoil_the_exit(tmp_path: Path, kind: str) -> None:
    """Scenario 74."""
    leave(tmp_path, DAEMON, kind)


@kinds
def test_loop_in_a_thread_that_outlives_main_does_not_hang(tmp_path: Path, kind: str) -> None:
    """Scenario 93."""
    leave(tmp_path, LOOP_THREAD, kind, output="ended\n")
