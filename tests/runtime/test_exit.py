"""How a process ends: unstopped, with work pending, with late calls, beside other threads.

Most scripts run `AB_EXITS` times, 10 unless it is set: what goes wrong here goes wrong rarely.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support import EXITS, clean_script, counts_threads, leave

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

LATE = """
import atexit
from scripted import PATIENCE, Sync, Async, run, threads

sync, other = Sync(max_queue_time=0.001), Async(max_queue_time=0.001)
assert run(sync.call(1)) == 1
assert run(other.call(1)) == 1

def late():
    before = threads()
    for use in (lambda: run(sync.call(2)), lambda: sync.process_threadsafe(2).result(PATIENCE),
                lambda: sync.process(2)):
        try:
            use()
        except RuntimeError as error:
            print("refused", flush=True)
    assert threads() <= before  # one of them may be on its way out
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
from scripted import PATIENCE, Sync, run

batcher = Sync(max_queue_time=0)

def late():
    try:
        batcher.process_threadsafe(1).result(PATIENCE)
    except RuntimeError:
        pass
    print("ended", flush=True)

threading._register_atexit(late)
assert run(batcher.call(1)) == 1
"""

DESTRUCTOR = """
import os
from scripted import Async, Sync, run

class Last:
    def __init__(self, batcher):
        self.batcher = batcher
        self.itself = self

    def __del__(self, write=os.write, list=os.listdir, set=set):
        before = set(list("/proc/self/task"))
        for use in (self.batcher.process, self.batcher.process_threadsafe):
            try:
                error = use(1).exception()
            except BaseException as raised:
                error = raised
            write(1, f"{type(error).__name__}: {error}\\n".encode())
        more = set(list("/proc/self/task")) - before
        write(1, f"{len(more)} threads\\n".encode())

last = [Last(Sync(max_queue_time=0)), Last(Async(max_queue_time=0))]
for one in last:
    assert run(one.batcher.call(1)) == 1
del one
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


DESTROYED = [
    *["RuntimeError: no running event loop"] * 2,
    "RuntimeError: cannot process items: the interpreter is shutting down",
    "RuntimeError: an async process_batch needs an event loop:"
    " use the batcher from a running loop first",
    *["0 threads"] * 2,
]
"""What the destructors of a sync and of an async batcher print, in some order."""


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


def test_late_sync_calls_are_refused_and_late_async_ones_work(tmp_path: Path) -> None:
    """Scenario 72."""
    assert clean_script(tmp_path, LATE) == "refused\nrefused\nrefused\n2\n"


def test_first_use_after_the_end_of_threading_is_refused(tmp_path: Path) -> None:
    """Scenario 72."""
    assert clean_script(tmp_path, LATE_UNUSED) == "refused\n"


def test_call_while_threading_ends_does_not_hang(tmp_path: Path) -> None:
    """Scenario 72."""
    leave(tmp_path, LATE_THREADING, output="ended\n")


@counts_threads
def test_call_from_a_destructor_at_teardown_is_refused_and_starts_nothing(tmp_path: Path) -> None:
    """Scenario 72."""
    for _ in range(EXITS):
        lines = clean_script(tmp_path, DESTRUCTOR).splitlines()
        assert sorted(lines) == sorted(DESTROYED)


@kinds
def test_daemon_thread_with_a_loop_does_not_spoil_the_exit(tmp_path: Path, kind: str) -> None:
    """Scenario 74."""
    leave(tmp_path, DAEMON, kind)


@kinds
def test_loop_in_a_thread_that_outlives_main_does_not_hang(tmp_path: Path, kind: str) -> None:
    """Scenario 93."""
    leave(tmp_path, LOOP_THREAD, kind, output="ended\n")
