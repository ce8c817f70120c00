"""`os.fork()` in the middle of our own work, which returns in the child, too: nobody's there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from forks import BEGIN
from support import FREE, clean_script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

FORKS_IN_BATCH = """
both = threading.Barrier(2, timeout=PATIENCE)

class Forks(Sync):
    def process_batch(self, batch):
        if batch == ["fork"]:
            fork_and_return(lambda: run(child()))
        else:
            both.wait()  # the worker that forked, and one of the child's own
        return batch

async def child():
    check(await asyncio.gather(batcher.process(1), batcher.process(2)), [1, 2])
    for _ in range(100):  # until long after both have left
        await batcher.stop()

batcher = Forks(max_queue_time=0, max_batch_size=1, concurrency=2)
assert run(batcher.call("fork")) == "fork"
run(batcher.stop())
"""

FORKS_IN_CALLBACK = """
batcher = KINDS["async"](max_queue_time=0)

async def answer():
    check(await batcher.process(0), 0)
    future = await asyncio.to_thread(batcher.process_threadsafe, 1)
    if not callbacks:
        callbacks.append(None)
        future.add_done_callback(lambda future: in_child(answer_twice))
    check(await asyncio.wrap_future(future), 1)

def answer_twice():
    run(answer())
    run(answer())

callbacks = []
run(answer())
"""

FORKS_IN_CUT = """
import logging
logging.getLogger("asyncio").addHandler(logging.NullHandler())  # that loop is not the child's
calls = []

class Item:
    def __del__(self):
        fork_and_return(lambda: run(child()))

def seen(batch):
    calls.append(batch)
    return batch

class SeesAsync(KINDS["async"]):
    async def process_batch(self, batch):
        return seen(batch)

class SeesSync(KINDS["sync"]):
    def process_batch(self, batch):
        return seen(batch)

kind = {"async": SeesAsync, "sync": SeesSync}[sys.argv[1]]
batcher = kind(max_queue_time=3600, max_batch_size=3)

async def child():
    check(await asyncio.gather(*map(batcher.process, "abc")), list("abc"))
    await batcher.idle()
    check(calls, [list("abc")])  # and nothing of the parent's
    stats = batcher.stats
    check((stats.submitted, stats.completed, stats.cancelled, stats.batches), (3, 3, 0, 1))
    await batcher.stop()

async def main():
    first = batcher.process(1)
    batcher.process(Item()).cancel()  # behind the head of the queue: found by the cut
    last = batcher.process(2)
    assert await asyncio.gather(first, last) == [1, 2]

run(main())
run(batcher.stop())
"""


def test_stop_ends_in_the_child_of_a_worker_that_forked(tmp_path: Path) -> None:
    """Scenario 49. Trap 44."""
    clean_script(tmp_path, BEGIN + FORKS_IN_BATCH)


@pytest.mark.parametrize(
    "kind",
    [
        "async",
        pytest.param(
            "sync",
            marks=pytest.mark.skipif(FREE, reason="the thread that made it destroys an item"),
        ),
    ],
)
def test_child_runs_nothing_of_a_batch_that_formed_as_its_parent_forked(
    tmp_path: Path, kind: str
) -> None:
    """Scenario 49. Trap 44."""
    clean_script(tmp_path, BEGIN + FORKS_IN_CUT, kind)


def test_child_of_a_done_callback_tells_its_own_callers(tmp_path: Path) -> None:
    """Scenario 48. Scenario 50."""
    clean_script(tmp_path, BEGIN + FORKS_IN_CALLBACK)
