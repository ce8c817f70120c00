"""Code of the user that runs in the middle of ours: a destructor in a cut, a close in a close."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import clean_script, script

if TYPE_CHECKING:
    from pathlib import Path

CLOSES_ITSELF = """
import asyncio, contextlib
from scripted import Async, run

class Closing(Async):
    async def process_batch(self, batch):
        run = asyncio.current_task().get_coro()
        runs.append(run)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            with contextlib.suppress(ValueError):  # it is being executed
                run.close()
            print("closed", batch, flush=True)

async def main():
    batcher = Closing(max_queue_time=0)
    future = batcher.process(1)
    while not runs:
        await asyncio.sleep(0)
    runs[0].close()
    await asyncio.wait([future])
    print(type(future.exception()).__name__, flush=True)

runs = []
run(main())
"""

# The batch of one loop's items is cut on another one, which had kept nothing of the batcher.
COLLECTS = """
import asyncio, gc, threading
from scripted import Async, run

class Item:
    def __del__(self):
        gc.collect()

async def use():
    stays, gone = batchers[0].process("stays"), batchers[0].process(Item())
    gone.cancel()
    is_cancelled.set()
    print(await stays, flush=True)

async def main():
    await batchers[0].call(0)
    await batchers[0].idle()
    thread = threading.Thread(target=run, args=(use(),))
    thread.start()
    is_cancelled.wait()  # and this loop stands still
    await asyncio.to_thread(thread.join)

batchers = [Async(max_queue_time=0)]  # no frame refers to it
is_cancelled = threading.Event()
run(main())
"""

# With another batch due, and callers without a loop whose link is there.
CLOSED_IN_A_CUT = """
import asyncio, sys
from scripted import Async, run

class Item:
    def __del__(self):  # in the cut, which drops it
        asyncio.current_task().get_coro().close()

async def main():
    batcher = Async(max_batch_size=2, max_queue_time=3600, concurrency=2)
    first, other = batcher.process("first"), batcher.process_threadsafe("other")
    print(await first, await asyncio.wrap_future(other), flush=True)
    gone, count = Item(), int(sys.argv[1])
    batcher.max_batch_size = count // 2
    futures = [batcher.process(item) for item in (0, gone, *range(1, count))]
    futures.pop(1).cancel()
    del gone
    assert await asyncio.gather(*futures) == [*range(count)]

run(main())
"""

# Whom a forced stop asks for its loop holds it up there: until the batch, which forms, has gone on.
HELD_STOP = """
import asyncio, threading
from concurrent.futures import Future

forming, is_read, goes_on = (threading.Event() for _ in range(3))
get_running_loop = asyncio._get_running_loop

def let_the_batch_go_on():
    if threading.current_thread() is threading.main_thread() and forming.is_set():
        is_read.set()
        goes_on.wait(PATIENCE)
    return get_running_loop()

asyncio._get_running_loop = let_the_batch_go_on
from scripted import PATIENCE, Async, Sync, run  # with the package
"""

# It comes before a worker has begun with process_batch: that is refused, or given up.
STOPPED_AT_THE_BEGINNING = """
def in_the_cut(future):
    forming.set()
    is_read.wait()
    return begin(future)

begin = Future.set_running_or_notify_cancel
Future.set_running_or_notify_cancel = in_the_cut

class Endless(Sync):
    def process_batch(self, batch):
        goes_on.set()
        threading.Event().wait()

batcher = Endless(max_queue_time=0)
future = batcher.process_threadsafe(1)
future.add_done_callback(lambda future: goes_on.set())
forming.wait()
run(batcher.stop(force=True))
print(type(future.exception(PATIENCE)).__name__, flush=True)
"""

# A call of ours at the end of the stack tells nobody there: a loop that could not note what a
# future wakes up would forget it.
DEEP = """
import asyncio, sys, time
from scripted import PATIENCE, Sync, run

def flush(depth, batcher):
    if depth > 0:
        flush(depth - 1, batcher)
    else:
        batcher.flush()

async def main():
    limit = sys.getrecursionlimit()
    async with Sync(max_queue_time=0) as batcher:
        for depth in range(limit - 60, limit):
            task = asyncio.ensure_future(batcher.call(depth))
            await asyncio.sleep(0)
            while batcher.stats.running or batcher.stats.queued:
                time.sleep(0.0001)  # its answer lies there, and this loop has yet to hear of it
            try:
                flush(depth, batcher)
            except RecursionError:
                pass
            assert await asyncio.wait_for(task, PATIENCE) == depth

run(main())
"""

# Nor does it fail the item of somebody else, whose batch it would start.
DEEP_START = """
import asyncio, sys
from scripted import Async, run

def process(depth, batcher, futures):
    if depth > 0:
        process(depth - 1, batcher, futures)
    else:
        futures.append(batcher.process("deep"))

async def main():
    limit = sys.getrecursionlimit()
    async with Async(max_batch_size=2, max_queue_time=3600) as batcher:
        for depth in range(limit - 60, limit):
            futures = [batcher.process(depth)]
            try:
                process(depth, batcher, futures)
            except RecursionError:
                pass
            batcher.flush()
            assert await asyncio.gather(*futures) == [depth, "deep"][:len(futures)]

run(main())
"""

# It comes between its look at the tasks and the end of the callers.
STOPPED_IN_A_CUT = """
class Item:
    def __del__(self):  # in the cut, which drops it
        forming.set()
        is_read.wait()

class Endless(Async):
    async def process_batch(self, batch):
        goes_on.set()
        try:
            await asyncio.wait_for(asyncio.get_running_loop().create_future(), PATIENCE)
        except asyncio.CancelledError:
            print("cancelled", flush=True)
            raise
        except (TimeoutError, asyncio.TimeoutError):
            print("went on", flush=True)

async def use():
    future = batcher.process(1)
    future.add_done_callback(lambda future: goes_on.set())
    batcher.process(Item()).cancel()
    await asyncio.wait([future])
    print(type(future.exception()).__name__, flush=True)
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        await asyncio.wait(tasks)

batcher = Endless(max_queue_time=0)
thread = threading.Thread(target=run, args=(use(),))
thread.start()
forming.wait()
run(batcher.stop(force=True))
thread.join()
"""


def test_batch_may_be_closed_from_inside_its_own_end(tmp_path: Path) -> None:
    """Scenario 22. Scenario 60."""
    done = script(tmp_path, CLOSES_ITSELF)
    assert (done.returncode, done.stdout) == (0, "closed [1]\nBatchCancelledError\n"), done.stderr


def test_destructor_of_a_cancelled_item_may_collect_in_the_cut(tmp_path: Path) -> None:
    """Scenario 60. Scenario 89. A debug build of CPython compares the references it is shown."""
    assert clean_script(tmp_path, COLLECTS) == "stays\n"


@pytest.mark.parametrize("count", [4, 50_000])
def test_destructor_of_a_cancelled_item_may_close_the_batch_in_its_cut(
    tmp_path: Path, count: int
) -> None:
    """Scenario 60. Scenario 22. A cut of one piece, or of two."""
    assert clean_script(tmp_path, CLOSED_IN_A_CUT, str(count)) == "first other\n"


def test_call_at_the_end_of_the_stack_loses_no_answer(tmp_path: Path) -> None:
    """Scenario 14. Guarantee 1."""
    clean_script(tmp_path, DEEP)


def test_call_at_the_end_of_the_stack_fails_nobody_else(tmp_path: Path) -> None:
    """Scenario 14. A word of asyncio, on the task that it could not begin, is in order."""
    done = script(tmp_path, DEEP_START)
    assert done.returncode == 0, done.stderr


def test_forced_stop_gives_a_worker_up_that_begins_meanwhile(tmp_path: Path) -> None:
    """Scenario 26. Scenario 70. Else the exit waits for it."""
    assert clean_script(tmp_path, HELD_STOP + STOPPED_AT_THE_BEGINNING) == "BatcherStoppedError\n"


def test_forced_stop_cancels_a_batch_that_is_being_cut_in_another_thread(tmp_path: Path) -> None:
    """Scenario 26. Trap 36."""
    output = clean_script(tmp_path, HELD_STOP + STOPPED_IN_A_CUT)
    assert "went on" not in output
    assert "BatcherStoppedError" in output
