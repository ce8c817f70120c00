"""Threads and file descriptors that run out: a clear error, nothing lost, and later it works."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from support import clean_script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs the limits of Linux")

# The limit of threads counts all of a user, and root is free of it: be somebody that nobody else
# is, and with no more rights than that.
NO_THREADS = """
import asyncio, os, resource, sys
from scripted import KINDS, run

async def outcome(awaitable):
    try:
        return await awaitable
    except BaseException as error:
        return error

async def main():
    batcher = KINDS[sys.argv[1]](max_queue_time=0.005, max_queue_size=10)
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(65533, 65533, 65533)
        os.setresuid(64000 + os.getpid() % 1000, *[64000 + os.getpid() % 1000] * 2)
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))
    answers = [await outcome(batcher.process(item)) for item in range(3)]
    many = await outcome(batcher.process_many(range(4)))
    thread = batcher.process_threadsafe(3)
    answers.append(await outcome(asyncio.wrap_future(thread)))
    resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
    if sys.argv[1] == "sync":  # no worker can be started
        errors = [*answers, many]
        assert all(isinstance(error, RuntimeError) for error in errors), errors
        assert all("start" in str(error) and "thread" in str(error) for error in errors), errors
    else:  # the loop keeps the windows instead of the aggregation thread
        assert answers == [0, 1, 2, 3] and many == list(range(4)), (answers, many)
    assert await batcher.process(9) == 9
    await batcher.stop()
    stats = batcher.stats
    assert stats.submitted == stats.completed + stats.failed, stats
    assert stats.queued == stats.running == 0, stats

run(main())
"""

NO_FDS = """
import asyncio, errno, gc, os, resource, sys, time, weakref
from scripted import KINDS, PATIENCE, run

class Item:
    pass

async def collected(reference):
    give_up = time.monotonic() + PATIENCE
    while reference() is not None and time.monotonic() < give_up:
        await asyncio.sleep(0.001)
        gc.collect()
    assert reference() is None

def fds():
    return len(os.listdir("/proc/self/fd"))

async def main():
    used = fds()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    filler = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, hard))
    try:
        while True:
            filler.append(os.dup(0))
    except OSError as error:
        assert error.errno == errno.EMFILE
    item = Item()
    lost = weakref.ref(item)
    # The eventfd is what is missing: the loop is woken otherwise, and its timers serve.
    for begin in (batcher.process, batcher.call, batcher.process_many):
        assert await begin([item]) == [item]
    del item, begin
    for fd in filler:
        os.close(fd)
    assert fds() == used, "the eventfd was there"
    assert await batcher.process(9) == 9
    assert await batcher.process_many(range(3)) == [0, 1, 2]
    assert batcher.stats.queued == batcher.stats.running == 0
    await collected(lost)

async def later():
    used = fds()
    assert await batcher.process(1) == 1
    assert fds() == used + 1, "the next loop has no eventfd"

batcher = KINDS[sys.argv[1]](max_queue_time=0.001)
run(main())
run(later())
run(batcher.stop())
stats = batcher.stats
assert stats.submitted == stats.completed + stats.failed, stats
"""

kinds = pytest.mark.parametrize("kind", ["async", "sync"])


@kinds
def test_without_threads_items_end_and_later_ones_work(tmp_path: Path, kind: str) -> None:
    """Scenario 69. Scenario 99."""
    tmp_path.chmod(0o755)
    clean_script(tmp_path, NO_THREADS, kind)


@kinds
def test_without_fds_items_are_answered_and_later_loops_have_theirs(
    tmp_path: Path, kind: str
) -> None:
    """Scenario 69."""
    clean_script(tmp_path, NO_FDS, kind)
