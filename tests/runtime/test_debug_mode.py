"""Everything once under `-X dev -W error` with asyncio's debug mode: not a word on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import SLOWNESS, clean_script

if TYPE_CHECKING:
    from pathlib import Path

TOUR = """
import asyncio, gc
from concurrent.futures import ThreadPoolExecutor
from async_batcher import AsyncBatcher, batched
from scripted import Async, Sync, run

class Failing(Async):
    async def process_batch(self, batch):
        raise LookupError("no")

class Held(Async):
    async def process_batch(self, batch):
        self.begun.set()
        await self.released.wait()
        return batch

@batched(max_queue_time=0.001)
async def triple(numbers):
    return [3 * number for number in numbers]

async def outcome(awaitable):
    try:
        return await awaitable
    except BaseException as error:
        return type(error)

async def tour(executor):
    asyncio.get_running_loop().slow_callback_duration = 3600  # the machine's, not ours
    for options in ({}, {"max_queue_time": 0}, {"max_batch_size": 3, "concurrency": 2}):
        for kind in (Async, Sync):
            async with kind(**options) as batcher:
                assert await batcher.process(1) == 1
                assert await batcher.call(1) == 1
                assert await (await batcher.submit(1)) == 1
                assert await batcher.process_many(range(10)) == list(range(10))
                future = batcher.process_threadsafe(2)
                assert await asyncio.wrap_future(future) == 2
                batcher.process(3).cancel()
                await batcher.idle()
    async with Sync(executor=executor, max_queue_time=0) as batcher:
        assert await batcher.process_many(range(10)) == list(range(10))
    async with Failing(max_queue_time=0) as batcher:
        assert await outcome(batcher.process(1)) is LookupError
        batcher.process(1).cancel()
    async with Held(max_queue_time=0) as batcher:
        batcher.begun, batcher.released = asyncio.Event(), asyncio.Event()
        future = batcher.process(1)
        await batcher.begun.wait()
        future.cancel()
        batcher.released.set()
    assert await triple(2) == 6

with ThreadPoolExecutor(2) as executor:
    for _ in range(3):
        run(tour(executor))
run(triple.batcher.stop())
gc.collect()
"""

HOME_GONE = """
import asyncio
from scripted import KINDS, run

async def main(batcher):
    asyncio.get_running_loop().slow_callback_duration = 3600
    return await batcher.process_many(range(10))

for kind in KINDS.values():
    batcher = kind(max_queue_time=0.001)
    for _ in range(5):
        assert run(main(batcher)) == list(range(10))
    run(batcher.stop())
"""

LARGE = """
import asyncio, gc, logging, sys, time
from scripted import KINDS, run

ours, lines = [], []

class Computing(asyncio.SelectorEventLoop):
    time = staticmethod(time.thread_time)  # of its own: what others take makes no callback slow

class Heard(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())

async def main():
    loop = asyncio.get_running_loop()
    async with KINDS[sys.argv[1]](max_queue_time=3600) as batcher:
        futures = []
        for _ in range(60):
            futures += [batcher.process(item) for item in range(1000)]
            await asyncio.sleep(0)
        loop.slow_callback_duration = float(sys.argv[2])
        batcher.flush()
        await asyncio.wait(futures)
    ours.extend(line for line in lines if "async_batcher" in line or "process_batch" in line)
    loop.slow_callback_duration = 0
    await asyncio.sleep(0)  # whoever is slower than nothing is heard

gc.disable()  # a collection of what debug mode keeps takes as long as a piece
logging.getLogger("asyncio").addHandler(Heard())
run(main(), factory=Computing)
assert lines
assert ours == [], ours
"""

OPTIONS = ("-X", "dev", "-W", "error")


def test_tour_of_everything_is_silent_in_debug_mode(tmp_path: Path) -> None:
    """Scenario 42. Trap 48."""
    clean_script(tmp_path, TOUR, options=OPTIONS, PYTHONASYNCIODEBUG="1")


def test_one_run_after_another_is_silent_in_debug_mode(tmp_path: Path) -> None:
    """Scenario 42. Scenario 38."""
    clean_script(tmp_path, HOME_GONE, options=OPTIONS, PYTHONASYNCIODEBUG="1")


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_large_batch_makes_no_callback_slow(tmp_path: Path, kind: str) -> None:
    """Scenario 42. To tell all 60,000 at once takes over two seconds, a piece less than a tenth."""
    clean_script(
        tmp_path, LARGE, kind, str(1.0 * SLOWNESS), options=OPTIONS, PYTHONASYNCIODEBUG="1"
    )
