"""`os.fork()` and multiprocessing's fork: the child may go on, the parent notices nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support import FREE, clean_script

if TYPE_CHECKING:
    from pathlib import Path

FORKS = int(os.environ.get("AB_FORKS", "60"))
PATIENCE_S = 50 + FORKS // 4
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.timeout(60 + FORKS // 4),
]
kinds = pytest.mark.parametrize("kind", ["async", "sync"])

BEGIN = """
import asyncio, os, signal, sys, threading, warnings
from scripted import KINDS, Sync, new_loop, run
warnings.simplefilter("ignore", DeprecationWarning)

def in_child(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        signal.alarm(30)
        try:
            work()
            code = 0
        except BaseException as error:
            print("child:", repr(error), file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status

def check(got, wanted):
    assert got == wanted, got
"""

AHEAD = """
from async_batcher import DynamicBatcher
begun, gate = threading.Event(), threading.Event()

def work(batch):
    begun.set()
    gate.wait()
    return batch

batcher = DynamicBatcher(
    work, batch_timeout_s=0, max_batch_size=2, max_queue_size=2, prefetch_batches=2
)

async def hold(records):
    first = await batcher.submit("held")
    while not begun.is_set():
        await asyncio.sleep(0.001)
    return [first, *[await batcher.submit(record) for record in records]]

async def child():
    begun.clear()
    futures = await asyncio.wait_for(hold("abcd"), 20)
    check(batcher.stats.prefetched_batches, 2)
    gate.set()
    check([await future for future in futures], ["held", *"abcd"])

async def main():
    await batcher.start()
    futures = await hold(range(5))
    in_child(lambda: run(child()))
    gate.set()
    check([await future for future in futures], ["held", *range(5)])
    await batcher.stop()

run(main())
"""

IDLE = """
batcher = KINDS[sys.argv[1]](max_queue_time=0.002)
assert run(batcher.call(1)) == 1
in_child(lambda: check(run(batcher.call(2)), 2))
assert run(batcher.call(3)) == 3
"""

UNUSED = """
batcher = KINDS[sys.argv[1]](max_queue_time=0.002)
in_child(lambda: check(run(batcher.call(2)), 2))
assert run(batcher.call(3)) == 3
"""

AGAIN = """
batcher = KINDS[sys.argv[1]](max_queue_time=0.002)
assert run(batcher.call(1)) == 1

def grandchild():
    check(run(batcher.call(2)), 2)
    in_child(lambda: check(run(batcher.call(3)), 3))
    check(run(batcher.call(4)), 4)

for _ in range(5):
    in_child(grandchild)
"""

PENDING = """
batcher = KINDS[sys.argv[1]](max_queue_time=0.002)
calm = KINDS[sys.argv[1]](max_queue_time=3600)

async def main():
    await batcher.process("warm")
    future = calm.process("parent")

    def child():
        async def inner():
            mine = calm.process("child")
            calm.flush()
            check(await mine, "child")
            check(await batcher.process(2), 2)
        run(inner())
        check(future.done(), False)

    in_child(child)
    await asyncio.sleep(0)
    assert not future.done()
    assert await batcher.process(3) == 3
    calm.flush()
    assert await future == "parent"

run(main())
"""

RUNNING = """
begun, gate = threading.Event(), threading.Event()

class Held(Sync):
    def process_batch(self, batch):
        if batch[0] == "held":
            begun.set()
            gate.wait()
        return batch

batcher = Held(max_queue_time=0)
held = batcher.process_threadsafe("held")
begun.wait()
queued = batcher.process_threadsafe("queued")
in_child(lambda: check(run(batcher.call("child")), "child"))
assert not held.done() and not queued.done()
gate.set()
assert (held.result(30), queued.result(30)) == ("held", "queued")
"""

QUIET_CHILD = """
import resource
begun, gate = threading.Event(), threading.Event()

class Held(Sync):
    def process_batch(self, batch):
        begun.set()
        gate.wait()
        return batch

def switches():
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw

async def rest():
    assert await other.process(1) == 1
    before = switches()
    await asyncio.sleep(1)
    print("child", switches() - before, flush=True)

other = KINDS["async"]()
batcher = Held(max_queue_time=0)
held = batcher.process_threadsafe(1)
begun.wait()
in_child(lambda: run(rest()))
gate.set()
held.result(30)
"""

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
        assert [future.result(30) for future in futures[1:]] == list(range(1, 20))

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

QUEUED = """
batcher = KINDS[sys.argv[1]](max_queue_time=3600, max_queue_size=4)

async def main():
    futures = [batcher.process(item) for item in range(4)]
    waiting = asyncio.ensure_future(batcher.submit(4))
    await asyncio.sleep(0)

    def child():
        async def inner():
            assert batcher.stats.queued == 0
            mine = [batcher.process(item) for item in "abcd"]  # its queue has all its places
            batcher.flush()
            check(await asyncio.gather(*mine), list("abcd"))
        run(inner())
        check([future.done() for future in futures], [False] * 4)
        check(waiting.done(), False)

    for _ in range(3):
        in_child(child)
    assert batcher.stats.queued == 4
    batcher.flush()
    last = await waiting
    batcher.flush()
    assert await asyncio.gather(*futures, last) == list(range(5))

run(main())
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

QUIET = """
import os
from scripted import KINDS
batchers = [kind() for kind in KINDS.values()]
pid = os.fork()
if pid == 0:
    os._exit(0)
_, status = os.waitpid(pid, 0)
assert status == 0
"""

MULTIPROCESSING = """
import multiprocessing
batcher = KINDS[sys.argv[1]](max_queue_time=0.002)

def child():
    check(run(batcher.call(2)), 2)

def main():
    assert run(batcher.call(1)) == 1
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(30)
    assert process.exitcode == 0, process.exitcode
    assert run(batcher.call(3)) == 3

if __name__ == "__main__":
    main()
"""

MULTIPROCESSING_IDLE = MULTIPROCESSING.replace("check(run(batcher.call(2)), 2)", "pass")


def test_child_counts_none_of_the_batches_that_its_parent_assembled(tmp_path: Path) -> None:
    """Scenario 49. Trap 44."""
    clean_script(tmp_path, BEGIN + AHEAD)


@kinds
def test_child_of_an_idle_parent_works(tmp_path: Path, kind: str) -> None:
    """Scenario 47. Guarantee 6."""
    clean_script(tmp_path, BEGIN + IDLE, kind)


@kinds
def test_child_of_a_parent_that_used_nothing_works(tmp_path: Path, kind: str) -> None:
    """Scenario 47."""
    clean_script(tmp_path, BEGIN + UNUSED, kind)


@kinds
def test_children_of_children_work(tmp_path: Path, kind: str) -> None:
    """Scenario 47."""
    clean_script(tmp_path, BEGIN + AGAIN, kind)


@kinds
def test_child_leaves_the_parents_pending_items_alone(tmp_path: Path, kind: str) -> None:
    """Scenario 49. Trap 44."""
    clean_script(tmp_path, BEGIN + PENDING, kind)


def test_child_works_while_the_parents_batch_runs(tmp_path: Path) -> None:
    """Scenario 49. Trap 44."""
    clean_script(tmp_path, BEGIN + RUNNING)


def test_child_works_while_its_parent_starts_a_batch(tmp_path: Path) -> None:
    """Scenario 48. Trap 44."""
    clean_script(tmp_path, BEGIN + STARTING)


def test_child_is_not_woken_for_the_batch_that_its_parent_runs(tmp_path: Path) -> None:
    """Scenario 49."""
    name, switches = clean_script(tmp_path, BEGIN + QUIET_CHILD).split()
    assert name == "child"
    assert int(switches) < 40


@kinds
def test_fork_in_the_middle_of_another_threads_work_never_hangs(tmp_path: Path, kind: str) -> None:
    """Scenario 48."""
    clean_script(tmp_path, BEGIN + OTHER_THREAD, kind, str(FORKS // 2), timeout=PATIENCE_S)


@pytest.mark.skipif(
    FREE,
    reason="the child hangs in asyncio.all_tasks() now and then, also without this package",
)
def test_fork_while_others_hold_the_locks_never_hangs_the_child(tmp_path: Path) -> None:
    """Scenario 48."""
    clean_script(tmp_path, BEGIN + UNDER_LOCKS, str(FORKS), timeout=PATIENCE_S)


@kinds
def test_child_begins_with_an_empty_queue_and_the_parent_keeps_its_own(
    tmp_path: Path, kind: str
) -> None:
    """Scenario 49. Trap 44."""
    clean_script(tmp_path, BEGIN + QUEUED, kind)


def test_unused_batcher_makes_fork_no_more_suspect(tmp_path: Path) -> None:
    """Scenario 50."""
    clean_script(tmp_path, QUIET, options=("-W", "error"))


@kinds
@pytest.mark.parametrize("source", [MULTIPROCESSING, MULTIPROCESSING_IDLE], ids=["used", "idle"])
def test_child_of_multiprocessing_ends(tmp_path: Path, kind: str, source: str) -> None:
    """Scenario 96."""
    clean_script(tmp_path, BEGIN + source, kind)
