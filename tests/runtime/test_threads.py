"""Threads: many producers, tiny switch intervals, collections, starts that fail, few fds."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from support import clean_script

if TYPE_CHECKING:
    from pathlib import Path

PRODUCED = int(os.environ.get("AB_PRODUCED", "4800"))
PATIENCE_S = 50 + PRODUCED // 2000
pytestmark = pytest.mark.timeout(PATIENCE_S + 10)

PRODUCERS = """
import asyncio, sys, threading
from scripted import KINDS, PATIENCE, run

if sys.argv[2] == "tiny":
    sys.setswitchinterval(1e-6)
count, each = 32, int(sys.argv[3]) // 32
totals = [0] * count
told = bytearray(count * each)  # nothing for the collector to go through

def count_up(item):
    told[item] += 1

async def main():
    async with KINDS[sys.argv[1]](max_batch_size=37, max_queue_time=0.0005) as batcher:
        await batcher.process(0)

        def produce(index):
            for start in range(0, each, 1000):
                items = range(index * each + start, index * each + min(start + 1000, each))
                futures = [batcher.process_threadsafe(item) for item in items]
                for item, future in zip(items, futures):
                    future.add_done_callback(lambda future, item=item: count_up(item))
                    totals[index] += future.result(PATIENCE)

        threads = [threading.Thread(target=produce, args=(index,)) for index in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert batcher.stats.completed == count * each + 1

run(main())
assert sum(totals) == sum(range(count * each))
assert told == b"\\1" * (count * each)
"""

# A collection for each answer: one after the other stops the world for good, where there is no GIL.
COLLECTING = """
import asyncio, gc, sys, threading
from scripted import KINDS, PATIENCE, run

answered, ended = threading.Event(), threading.Event()

class Item:
    def __init__(self, *key):
        self.key = key

    def __del__(self):
        self.key = None  # also if it is taken for garbage and then found alive

def collect():
    while not ended.is_set():
        answered.wait()
        answered.clear()
        gc.collect()

def check(got, *key):
    assert got.key == key, got.key
    answered.set()

async def main():
    async with KINDS[sys.argv[1]](max_batch_size=7, max_queue_time=0) as batcher:
        await batcher.process(Item())

        def produce(index):
            for n in range(100):
                check(batcher.process_threadsafe(Item(index, n)).result(PATIENCE), index, n)

        threads = [threading.Thread(target=produce, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for n in range(10):
            futures = [batcher.process(Item(index, n)) for index in range(200)]
            for index, future in enumerate(futures):
                check(await future, index, n)
        for thread in threads:
            await asyncio.to_thread(thread.join)

collector = threading.Thread(target=collect)
collector.start()
try:
    run(main())
finally:
    ended.set()
    answered.set()
    collector.join()
"""

START_FAILS = """
import threading
from scripted import Sync, run

batcher = Sync(max_queue_time=0)

async def main():
    threading.stack_size(2**47)  # no thread gets that much
    try:
        await batcher.process(1)
    except Exception as error:
        print("rejected")
    finally:
        threading.stack_size(0)
    return await batcher.process(2)

assert run(main()) == 2
assert batcher.stats.running == 0
run(batcher.stop())
"""

INSTANCES = """
import asyncio, resource
from async_batcher import batched
from scripted import run

resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

class Model:
    def __init__(self, factor):
        self.factor = factor

    @batched(max_queue_time=0.005)
    async def scale(self, numbers):
        return [self.factor * number for number in numbers]

async def main():
    models = [Model(factor) for factor in range(5000)]
    assert await asyncio.gather(*(model.scale(2) for model in models)) == list(range(0, 10000, 2))

run(main())
"""

LAST_REFERENCE = """
import gc, os, sys, threading, time, weakref
from concurrent.futures import ThreadPoolExecutor
from scripted import PATIENCE, Async, Sync, new_loop

class Noted:
    def __del__(self):
        threads.append(threading.get_native_id())

class Dropping(Noted, Sync):
    def process_batch(self, batch):
        if where == "batch":
            holder.clear()
            gc.collect()
        return [None] * len(batch)

def collect_and_let_go():
    gc.collect()
    time.sleep(0.001)  # without a GIL one collection after the other stops all others for good

def drop():
    holder.clear()

def collect():
    holder[0].itself = holder[0]
    holder.clear()
    gc.collect()

def elsewhere(target):
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()

threads, where = [], sys.argv[1]
waiting, loop = Async(max_queue_time=3600), new_loop()

def tasks():
    return set(map(int, os.listdir("/proc/self/task")))

async def begin():
    waiting.process(1).cancel()

elsewhere(int)  # the first thread brings that of a sanitizer along
others = tasks()
loop.run_until_complete(begin())
(native,) = tasks() - others
with ThreadPoolExecutor(1) as executor:
    for options in ({}, {"executor": executor}):
        for _ in range(20):
            holder = [Dropping(max_queue_time=0.0001, **options)]
            gone = weakref.ref(holder[0])
            future = holder[0].process_threadsafe(Noted())
            if where == "thread":
                elsewhere(drop)
            assert future.result(PATIENCE) is None
            if where == "executor":
                executor.submit(drop).result(PATIENCE)
            elif where == "collection":
                elsewhere(collect)
            elif where == "callback":
                future.add_done_callback(lambda future: drop())
            holder.clear()
            del future
            while gone() is not None:
                collect_and_let_go()
while len(threads) < 80:
    collect_and_let_go()
assert native not in threads
assert native in tasks()
loop.close()
"""

STOP_ELSEWHERE = """
import asyncio, threading, weakref
from async_batcher import AsyncBatcher, BatcherStoppedError
from scripted import new_loop

def run(main):
    loop = new_loop()  # asyncio.run() looks at the tasks of all threads, and may be their last
    loop.run_until_complete(main)
    loop.close()

ends = []

class Waiting(AsyncBatcher):
    async def process_batch(self, batch):
        task = asyncio.current_task()
        ends.append(weakref.ref(task, lambda _: places.append(threading.get_ident())))
        del task
        if len(ends) == 30:
            all_run.set()
        await asyncio.get_running_loop().create_future()

async def main():
    futures = [batcher.process(item) for item in range(30)]
    await asyncio.wait(futures)
    assert {type(future.exception()) for future in futures} == {BatcherStoppedError}
    while any(end() is not None for end in ends):
        await asyncio.sleep(0)

def host():
    run(main())
    assert set(places) == {threading.get_ident()}
    clean.append(None)

clean = []
for _ in range(20):
    places, all_run = [], threading.Event()
    ends.clear()
    batcher = Waiting(max_queue_time=0, concurrency=-1, max_batch_size=1)
    thread = threading.Thread(target=host)
    thread.start()
    all_run.wait()
    run(batcher.stop(force=True))
    thread.join()
assert len(clean) == 20
"""

kinds = pytest.mark.parametrize("kind", ["async", "sync"])


@kinds
@pytest.mark.parametrize("interval", ["usual", "tiny"])
def test_threaded_producers_lose_and_double_nothing(
    tmp_path: Path, kind: str, interval: str
) -> None:
    """Scenario 54. Scenario 55. Trap 47."""
    clean_script(tmp_path, PRODUCERS, kind, interval, str(PRODUCED), timeout=PATIENCE_S)


@kinds
def test_storm_of_collections_stops_nobody_and_finalizes_nothing_live(
    tmp_path: Path, kind: str
) -> None:
    """Scenario 58. Scenario 89."""
    clean_script(tmp_path, COLLECTING, kind)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a stack size that always fails")
def test_failed_start_of_a_worker_rejects_its_items_and_the_next_tries_again(
    tmp_path: Path,
) -> None:
    """Scenario 99. Scenario 69. Trap 52."""
    assert clean_script(tmp_path, START_FAILS) == "rejected\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_NOFILE")
def test_five_thousand_instances_need_few_fds(tmp_path: Path) -> None:
    """Scenario 91."""
    clean_script(tmp_path, INSTANCES)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("where", ["batch", "executor", "collection", "thread", "callback"])
def test_last_reference_may_be_dropped_on_any_thread(tmp_path: Path, where: str) -> None:
    """Scenario 59. Nothing of Python is destroyed on the native thread."""
    clean_script(tmp_path, LAST_REFERENCE, where)


def test_tasks_of_a_stop_on_another_thread_end_where_they_ran(tmp_path: Path) -> None:
    """Scenario 26. Scenario 59."""
    clean_script(tmp_path, STOP_ELSEWHERE)
