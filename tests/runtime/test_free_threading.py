"""Threads without a GIL, and with one: each item exactly once, whoever gives and takes it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from support import FREE, clean_script

if TYPE_CHECKING:
    from pathlib import Path

EACH = int(os.environ.get("AB_EACH", "2000"))
THREADS = 8
PATIENCE_S = 50 + THREADS * EACH // 2000
pytestmark = pytest.mark.timeout(PATIENCE_S + 10)
OPTIONS = ("-X", "gil=0") if FREE else ()
kinds = pytest.mark.parametrize("kind", ["async", "sync"])

BEGIN = """
import asyncio, sys, threading
from scripted import KINDS, PATIENCE, run

threads, each = int(sys.argv[1]), int(sys.argv[2])
total = threads * each + 1  # the last one shows the batcher a loop, and is done first
processed, resolved = bytearray(total), bytearray(total)

class Counting(KINDS[sys.argv[3]]):
    pass

def count(batch):
    for item in batch:
        processed[item] += 1  # an item has one place: nobody else writes there
    return batch

if sys.argv[3] == "async":
    async def process_batch(self, batch):
        return count(batch)
else:
    def process_batch(self, batch):
        return count(batch)
Counting.process_batch = process_batch

def start_together(target):
    barrier, errors = threading.Barrier(threads), []
    def body(index):
        try:
            barrier.wait(PATIENCE)
            target(range(index * each, (index + 1) * each))
        except BaseException as error:
            errors.append(error)
    bodies = [threading.Thread(target=body, args=(index,)) for index in range(threads)]
    for thread in bodies:
        thread.start()
    return bodies, errors

def check(errors):
    assert errors == [], errors
    once = b"\\x01" * total
    assert processed == once, "an item was processed twice, or not at all"
    assert resolved == once, "a caller was told twice, or not at all"
    stats = batcher.stats
    assert (stats.submitted, stats.completed) == (total,) * 2
    assert (stats.queued, stats.running) == (0, 0)
    if hasattr(sys, "_is_gil_enabled") and "gil" in sys._xoptions:
        assert not sys._is_gil_enabled()

def pieces(items):
    for start in range(items.start, items.stop, 500):
        yield range(start, min(start + 500, items.stop))
"""

LOOPS = """
batcher = Counting(max_batch_size=64, max_queue_time=0.0005, concurrency=4)
ended = threading.Barrier(threads)

def resolve(future):
    resolved[future.result()] += 1

async def main(items):
    for piece in pieces(items):
        futures = [batcher.process(item) for item in piece]
        for future in futures:
            future.add_done_callback(resolve)
        assert await asyncio.gather(*futures) == list(piece)
    # A batch of the others may run here.
    await asyncio.get_running_loop().run_in_executor(None, ended.wait)

resolved[run(batcher.call(total - 1))] += 1
bodies, errors = start_together(lambda items: run(main(items)))
for thread in bodies:
    thread.join()
run(batcher.stop())
check(errors)
"""

PLAIN_THREADS = """
batcher = Counting(max_batch_size=64, max_queue_time=0.0005, concurrency=4)

def resolve(future):
    resolved[future.result()] += 1

def give(items):
    for piece in pieces(items):
        futures = [batcher.process_threadsafe(item) for item in piece]
        for future in futures:
            future.add_done_callback(resolve)
        assert [future.result(PATIENCE) for future in futures] == list(piece)

async def main():
    loop = asyncio.get_running_loop()
    resolved[await batcher.process(total - 1)] += 1
    bodies, errors = start_together(give)
    for thread in bodies:
        await loop.run_in_executor(None, thread.join)
    await batcher.stop()
    check(errors)

run(main())
"""


@kinds
@pytest.mark.parametrize("source", [LOOPS, PLAIN_THREADS], ids=["loops", "threads"])
def test_each_item_of_eight_threads_is_processed_and_answered_exactly_once(
    tmp_path: Path, kind: str, source: str
) -> None:
    """Scenario 39. Scenario 54. Scenario 56. Trap 47. `AB_EACH=12500` makes it 100,000 items."""
    clean_script(
        tmp_path,
        BEGIN + source,
        str(THREADS),
        str(EACH),
        kind,
        options=OPTIONS,
        timeout=PATIENCE_S,
    )


@pytest.mark.skipif(not FREE, reason="needs a free-threaded build")
def test_gil_is_off_in_this_very_session() -> None:
    """Scenario 56. The suite itself has imported the package, and runs without a GIL."""
    assert not getattr(sys, "_is_gil_enabled", bool)()
