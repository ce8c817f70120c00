"""Allocations of Python that fail, each in turn: an error or success, and nothing is lost.

What the core allocates by itself is made to fail in tests/c/test_memory.c.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from support import FREE, clean_script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(find_spec("_testcapi") is None, reason="needs _testcapi")

# `failing(step)` runs `step` again and again, each time with one allocation more that passes
# before one fails, until it was not reached.  `judge` says what each run has to have left.
BEGIN = """
import warnings
warnings.simplefilter("ignore", ResourceWarning)  # a loop that ends by MemoryError
import asyncio, gc, logging, sys, threading, time
logging.getLogger("asyncio").addHandler(logging.NullHandler())  # a Task that could not be made
from _testcapi import remove_mem_hooks, set_nomemory
from async_batcher import AsyncBatcher, BatcherStoppedError, DynamicBatcher
from scripted import KINDS, PATIENCE, run

for name in ("asyncio", "async_batcher"):
    for level in (logging.DEBUG, logging.ERROR):
        # It keeps the answer; without memory it may keep the lock under which it asks, too.
        logging.getLogger(name).isEnabledFor(level)
gc.disable()  # a collection allocates when it likes
sys.unraisablehook = lambda unraisable: unraised.append(unraisable.exc_type)
unraised = []
Kind = KINDS[sys.argv[1]]
MOST = 400
MISSES = 12  # an allocation that is not made in every run is passed by, now and then

def is_ours(error):
    # A lock that cannot be had is a RuntimeError of CPython's own.
    return isinstance(error, MemoryError) or "allocate lock" in str(error)

async def told(future):
    give_up = time.monotonic() + PATIENCE
    # Looked at, and not waited for: without memory a future may tell nobody that it is done.
    while not future.done() and time.monotonic() < give_up:
        await asyncio.sleep(0.0002)
    assert future.done(), future
    return future.exception() or future.result()

async def failing(step, judge):
    misses = failures = 0
    for n in range(MOST):
        result = error = None
        before = len(unraised)
        set_nomemory(n, n + 1)
        try:
            result = step()
        except BaseException as raised:
            error = raised
        finally:
            remove_mem_hooks()
        assert error is None or is_ours(error), repr(error)
        await judge(result, error)
        failed = error is not None or len(unraised) > before
        failures += failed
        misses = 0 if failed else misses + 1
        if misses == MISSES:
            break
    assert failures > 0
    assert all(issubclass(each, MemoryError) for each in unraised), unraised
"""

CONSTRUCT = """
async def judge(batcher, error):
    if batcher is not None:
        assert await batcher.process(1) == 1
        await batcher.stop()

async def main():
    await failing(lambda: Kind(max_queue_time=0), judge)

run(main())
"""

PROCESS = """
async def main():
    async with Kind(max_queue_time=0) as batcher:
        calls = {
            "process": lambda: batcher.process(1),
            "many": lambda: batcher.process_many([1] * 3),
            "threadsafe": lambda: batcher.process_threadsafe(1),
            "submit": lambda: batcher._submit(1, None)[0],
        }
        if sys.argv[3] == "used":
            await batcher.process(0)

        async def judge(future, error):
            if future is not None:
                answer = await told(future)
                assert answer in (1, [1] * 3) or isinstance(answer, MemoryError), answer
            assert await told(batcher.process(2)) == 2
            await batcher.idle()

        await failing(calls[sys.argv[2]], judge)
        stats = batcher.stats
        assert stats.submitted == stats.completed + stats.failed + stats.cancelled, stats
        assert stats.queued == stats.running == 0

run(main())
"""

# The loop allocates in between; where it is the one that fails, its run ends with MemoryError.
DELIVER = """
from scripted import new_loop

def watch(loop, lost, looks=400):
    if lost or looks == 0:
        loop.stop()
    else:
        loop.call_later(0.05, watch, loop, lost, looks - 1)

class Failing(AsyncBatcher):
    async def process_batch(self, batch):
        await asyncio.sleep(0)
        set_nomemory(self.n, self.n + 1)
        return batch

class FailingSync(AsyncBatcher):
    def process_batch(self, batch):
        set_nomemory(self.n, self.n + 1)
        return batch

async def once(batcher, futures, lost):
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: lost.append(context))
    loop.call_later(0.05, watch, loop, lost)  # this task, too, may be among what asyncio loses
    call = getattr(batcher, sys.argv[2])
    first, second = call(1), call(2)
    futures += [first, second]
    # No generator expression: CPython breaks when it cannot make one (seen on 3.11 to 3.14).
    while not lost and not (first.done() and second.done()):
        await asyncio.sleep(0.0005)

def judge(futures, lost):
    # What asyncio could not call is lost to asyncio itself: then nothing can be said.
    assert lost or all(future.done() for future in futures), futures
    for item, future in enumerate(futures, 1):
        if future.done():
            answers.append(future.exception())
            assert isinstance(answers[-1], MemoryError) or future.result() == item

answers = []
failures = 0
for n in range(80):
    batcher = (Failing if sys.argv[1] == "async" else FailingSync)(max_queue_time=0)
    batcher.n = n
    futures, lost = [], []
    loop = new_loop()  # and no runner, which would wait for a task that asyncio lost
    try:
        loop.run_until_complete(once(batcher, futures, lost))
    except MemoryError as error:
        lost.append(error)
    except RuntimeError as error:
        assert "loop stopped" in str(error), error
    finally:
        remove_mem_hooks()
        asyncio._set_running_loop(None)  # a loop that failed may have left itself there
    judge(futures, lost)
    failures += bool(lost) or len(unraised) > 0
    unraised.clear()
    try:
        loop.close()
    except RuntimeError:  # where memory failed as it ended, uvloop takes itself to run on
        assert lost
    run(batcher.stop(timeout=PATIENCE))
    assert batcher.stats.queued == batcher.stats.running == 0
assert answers.count(None) > 20 and failures > 0, (answers, failures)
"""

STOP = """
asyncio_wait = asyncio.wait

async def wait(*arguments, **options):
    remove_mem_hooks()  # a generator expression is made in there, as above
    return await asyncio_wait(*arguments, **options)

asyncio.wait = wait

async def main():
    async def judge():
        if error is not None:
            await batcher.stop()
        answers = [await told(future) for future in futures]
        assert all(
            answer in (1, 2) or isinstance(answer, (MemoryError, BatcherStoppedError))
            for answer in answers
        ), answers
        assert batcher.stats.queued == batcher.stats.running == 0
        return any(isinstance(answer, MemoryError) for answer in answers)

    misses = failures = 0
    for n in range(MOST):
        batcher = Kind(max_queue_time=3600)
        futures = [batcher.process(item) for item in (1, 2)]
        stopping = batcher.stop(force=sys.argv[2] == "force")
        before, error, ended = len(unraised), None, False
        set_nomemory(n, n + 1)
        try:
            stopping.send(None)
        except StopIteration:
            ended = True
        except BaseException as raised:
            error = raised
        finally:
            remove_mem_hooks()
        assert error is None or isinstance(error, MemoryError), repr(error)
        if error is None and not ended:
            stopping.close()  # as if it were cancelled: it forces
        was_told = await judge()
        failed = was_told or error is not None or len(unraised) > before
        failures += failed
        misses = 0 if failed else misses + 1
        if misses == MISSES:
            break
    assert failures > 0

run(main())
"""

DYNAMIC = """
async def double(batch):
    return [2 * item for item in batch]

async def main():
    async with DynamicBatcher(double, batch_timeout_s=0) as batcher:
        def step():
            submitting = batcher.submit(1)
            try:
                submitting.send(None)
            except StopIteration as stop:
                return stop.value
            finally:
                submitting.close()

        async def judge(future, error):
            if future is not None:
                answer = await told(future)
                assert answer == 2 or isinstance(answer, MemoryError), answer
            assert await told(await batcher.submit(3)) == 6

        await failing(step, judge)
    stats = batcher.stats
    assert stats.total_submitted == stats.total_completed

run(main())
"""

# Without the GIL the allocation may as well fail in the worker, where the list of a batch is made:
# there PyList_New() of CPython 3.14 drops a list whose ob_item it has not set yet.
one_fails = pytest.mark.skipif(
    FREE, reason="a list that cannot be made crashes free-threaded CPython now and then"
)
kinds = pytest.mark.parametrize("kind", ["async", pytest.param("sync", marks=one_fails)])


@kinds
def test_construction_without_memory_fails_clean(tmp_path: Path, kind: str) -> None:
    """Scenario 68."""
    clean_script(tmp_path, BEGIN + CONSTRUCT, kind)


@kinds
@pytest.mark.parametrize("call", ["process", "many", "threadsafe", "submit"])
@pytest.mark.parametrize("batcher", ["new", "used"])
def test_call_without_memory_loses_nothing(
    tmp_path: Path, kind: str, call: str, batcher: str
) -> None:
    """Scenario 68."""
    clean_script(tmp_path, BEGIN + PROCESS, kind, call, batcher)


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        ("async", "process"),
        pytest.param("sync", "process", marks=one_fails),
        pytest.param(
            "sync",
            "process_threadsafe",
            marks=[
                one_fails,
                pytest.mark.skipif(
                    sys.version_info < (3, 14),
                    reason="set_result() of concurrent.futures alone keeps its lock without memory",
                ),
            ],
        ),
    ],
)
def test_delivery_without_memory_tells_every_caller(tmp_path: Path, kind: str, call: str) -> None:
    """Scenario 68."""
    clean_script(tmp_path, BEGIN + DELIVER, kind, call)


@kinds
@pytest.mark.parametrize("way", ["drain", "force"])
def test_stop_without_memory_leaves_nobody_waiting(tmp_path: Path, kind: str, way: str) -> None:
    """Scenario 68."""
    clean_script(tmp_path, BEGIN + STOP, kind, way)


def test_submit_without_memory_loses_nothing(tmp_path: Path) -> None:
    """Scenario 68."""
    clean_script(tmp_path, BEGIN + DYNAMIC, "async")
