"""Thousands of short loops: threads, fds and the numbers of fds that others get after us."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import clean_script

LOOPS = int(os.environ.get("AB_LOOPS", "2000"))
pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc"),
    pytest.mark.timeout(60 + LOOPS // 50),
]
PATIENCE_S = 50 + LOOPS // 50
kinds = pytest.mark.parametrize("kind", ["async", "sync"])

BEGIN = """
import asyncio, gc, os, socket, sys, threading, time, warnings
from scripted import KINDS, PATIENCE, new_loop, run
warnings.simplefilter("ignore", ResourceWarning)
count, kind = int(sys.argv[1]), KINDS[sys.argv[2]]

def census():
    gc.collect()
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))
"""

CHURN = """
batcher = kind(max_queue_time=0.0001)
assert run(batcher.call(0)) == 0
before = census()
for item in range(count):
    assert run(batcher.call(item)) == item
assert census() == before, (census(), before)
assert batcher.stats.completed == count + 1
"""

CHURN_OF_BATCHERS = """
async def main(item):
    async with kind(max_queue_time=0.0001) as batcher:
        return await batcher.process(item)

assert run(main(0)) == 0
threads, fds = census()
for item in range(count):
    assert run(main(item)) == item
give_up = time.monotonic() + PATIENCE
while (after := census())[0] > max(threads, 2) and time.monotonic() < give_up:
    time.sleep(0.001)  # the last of them end in their own time
assert after[0] <= max(threads, 2) and after[1] <= fds, after
"""

REUSE = """
batcher, other = kind(max_queue_time=3600), kind(max_queue_time=0)
home = new_loop()

async def begin():
    batcher.process(1)

def heard(socket, told):
    told.set_result(socket.recv(10))

async def talk(pairs):
    loop = asyncio.get_running_loop()
    tolds = [loop.create_future() for _ in pairs]
    for (left, right), told in zip(pairs, tolds):
        right.setblocking(False)
        loop.add_reader(right.fileno(), heard, right, told)
    # What still belongs to the dead loop goes now: it must not touch the numbers.
    assert batcher.stats.queued == 0
    assert await other.process(2) == 2
    for told in tolds:
        assert not told.done(), "a stray byte"
    for left, right in pairs:
        left.send(b"x")
    assert await asyncio.gather(*tolds) == [b"x"] * len(pairs), "a deaf socket"
    for left, right in pairs:
        assert loop.remove_reader(right.fileno()) is not False, "a stranger's reader is gone"

for _ in range(count // 2):
    loop = new_loop()
    before = set(os.listdir("/proc/self/fd"))
    loop.run_until_complete(begin())
    of_ours = set(map(int, set(os.listdir("/proc/self/fd")) - before))
    loop.close()
    pairs = [socket.socketpair() for _ in range(4)]
    reused = {end.fileno() for pair in pairs for end in pair}
    assert of_ours <= reused, (of_ours, reused)
    home.run_until_complete(talk(pairs))
    for left, right in pairs:
        left.close()
        right.close()
home.close()
"""


@kinds
def test_thousands_of_loops_leave_threads_and_fds_as_they_were(tmp_path: Path, kind: str) -> None:
    """Scenario 45."""
    clean_script(tmp_path, BEGIN + CHURN, str(LOOPS), kind, timeout=PATIENCE_S)


@kinds
def test_thousands_of_batchers_leave_threads_and_fds_as_they_were(
    tmp_path: Path, kind: str
) -> None:
    """Scenario 45."""
    clean_script(tmp_path, BEGIN + CHURN_OF_BATCHERS, str(LOOPS // 2), kind, timeout=PATIENCE_S)


@kinds
def test_sockets_that_get_the_fds_of_closed_loops_hear_what_is_theirs(
    tmp_path: Path, kind: str
) -> None:
    """Scenario 46. Scenario 90."""
    clean_script(tmp_path, BEGIN + REUSE, str(LOOPS), kind, timeout=PATIENCE_S)
