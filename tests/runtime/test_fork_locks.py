"""`os.fork()` while other threads hold our locks: the child finds them free. `AB_FORKS` times.

By chance, that is, with many threads that are nearly always at it. In tests/c/test_fork.c each lock
is held for certain.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from forks import BEGIN
from support import clean_script

if TYPE_CHECKING:
    from pathlib import Path

FORKS = int(os.environ.get("AB_FORKS", "60"))
PATIENCE_S = 50 + FORKS // 4
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.timeout(60 + FORKS // 4),
]
kinds = pytest.mark.parametrize("kind", ["async", "sync"])

OTHER_THREAD = """
batcher = KINDS[sys.argv[1]](max_queue_time=0.0001)
stop = threading.Event()

async def main():
    while not stop.is_set():
        await batcher.process(1)

thread = threading.Thread(target=run, args=(main(),))
thread.start()
try:
    for _ in range(int(sys.argv[2])):
        in_child(lambda: check(run(batcher.call(2)), 2))
finally:
    stop.set()
    thread.join()
"""

UNDER_LOCKS = """
# Somebody holds each lock of the core nearly always: threads that push, cut and tell, windows
# that pass, and loops that come and go.
forks = int(sys.argv[1])
batchers = [kind(max_queue_time=0.00005 * n) for kind in KINDS.values() for n in range(1, 6)]
shared = Sync(max_queue_time=0.0001, max_batch_size=3)
stop = threading.Event()

async def one_after_another():
    while not stop.is_set():
        await asyncio.gather(*(batcher.process(1) for batcher in batchers))

def loops():
    while not stop.is_set():
        run(shared.call(1))

def pushes():
    while not stop.is_set():
        futures = [shared.process_threadsafe(n) for n in range(20)]
        futures[0].cancel()
        assert [future.result(PATIENCE) for future in futures[1:]] == list(range(1, 20))

def child():
    check(run(shared.call(2)), 2)
    check([run(batcher.call(3)) for batcher in batchers], [3] * len(batchers))

threads = [threading.Thread(target=run, args=(one_after_another(),))]
threads += [threading.Thread(target=target) for target in (loops, pushes, pushes)]
for thread in threads:
    thread.start()
try:
    for _ in range(forks):
        in_child(child)
finally:
    stop.set()
    for thread in threads:
        thread.join()
"""

SETTING = """
begun, gate = threading.Event(), threading.Event()

class Item:
    def __del__(self):
        begun.set()
        gate.wait()

def set_one():
    # Without a GIL an item is destroyed by the thread that made it.
    batcher.process_threadsafe(Item()).cancel()
    batcher.concurrency = 2

batcher = Sync(max_queue_time=3600)
thread = threading.Thread(target=set_one)
thread.start()
begun.wait()

def child():
    batcher.max_queue_time = 0
    check((batcher.max_queue_time, batcher.concurrency), (0, 2))
    check(run(batcher.call(1)), 1)

in_child(child)
gate.set()
thread.join()
"""

STARTING = """
batcher = KINDS["async"](max_queue_time=0)
begun, gate = threading.Event(), threading.Event()

def start_slowly(loop, coroutine, **options):
    begun.set()
    gate.wait()
    return asyncio.Task(coroutine, loop=loop, **options)

async def main():
    asyncio.get_running_loop().set_task_factory(start_slowly)
    return await batcher.process(1)

thread = threading.Thread(target=run, args=(main(),))
thread.start()
begun.wait()
in_child(lambda: check(run(batcher.call(2)), 2))
gate.set()
thread.join()
"""


def test_child_works_while_its_parent_starts_a_batch(tmp_path: Path) -> None:
    """Scenario 48. Trap 44."""
    clean_script(tmp_path, BEGIN + STARTING)


def test_child_sets_a_limit_while_its_parent_sets_one(tmp_path: Path) -> None:
    """Scenario 48."""
    clean_script(tmp_path, BEGIN + SETTING)


@kinds
def test_fork_in_the_middle_of_another_threads_work_never_hangs(tmp_path: Path, kind: str) -> None:
    """Scenario 48."""
    clean_script(tmp_path, BEGIN + OTHER_THREAD, kind, str(FORKS // 2), timeout=PATIENCE_S)


def test_fork_while_others_hold_the_locks_never_hangs_the_child(tmp_path: Path) -> None:
    """Scenario 48."""
    clean_script(tmp_path, BEGIN + UNDER_LOCKS, str(FORKS), timeout=PATIENCE_S)
