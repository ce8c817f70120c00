"""`os.fork()` and multiprocessing's fork: the child may go on, the parent notices nothing."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from forks import BEGIN
from support import clean_script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
kinds = pytest.mark.parametrize("kind", ["async", "sync"])

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
    begun.wait()
    return [first, *[await batcher.submit(record) for record in records]]

async def child():
    begun.clear()
    futures = await asyncio.wait_for(hold("abcd"), PATIENCE)
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
assert (held.result(PATIENCE), queued.result(PATIENCE)) == ("held", "queued")
"""

QUIET_CHILD = """
from scripted import calm, threads, wake_ups
begun, gate = threading.Event(), threading.Event()

class Held(Sync):
    def process_batch(self, batch):
        begun.set()
        gate.wait()
        return batch

async def rest():
    assert await other.process(1) == 1
    await calm()
    everybody = {*threads(), threading.get_native_id()}
    before = wake_ups(everybody)
    await asyncio.sleep(1)  # idleness takes time: that is the scenario
    check(wake_ups(everybody) - before <= 3, True)  # the end of that sleep

other = KINDS["async"]()
batcher = Held(max_queue_time=0)
held = batcher.process_threadsafe(1)
begun.wait()
in_child(lambda: run(rest()))
gate.set()
held.result(PATIENCE)
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
    process.join(PATIENCE)
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


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_child_is_not_woken_for_the_batch_that_its_parent_runs(tmp_path: Path) -> None:
    """Scenario 49."""
    clean_script(tmp_path, BEGIN + QUIET_CHILD)


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
