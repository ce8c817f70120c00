"""`executor=` with process pools, and what of ours a child process inherits."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support import clean_script

CONTEXTS = ["spawn", "forkserver", "fork"] if sys.platform != "win32" else ["spawn"]
contexts = pytest.mark.parametrize("context", CONTEXTS)

BEGIN = """
import asyncio, functools, multiprocessing, os, pickle, signal, subprocess, sys, warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from async_batcher import AsyncBatcher
from scripted import PATIENCE, Sync, run
warnings.simplefilter("ignore", DeprecationWarning)

def double_all(batch):
    if "die" in batch:
        os.kill(os.getpid(), signal.SIGKILL)
    if "fail" in batch:
        raise LookupError("in the worker")
    return [2 * item for item in batch]

def scale_all(factor, batch):
    return [factor * item for item in batch]

class Static(AsyncBatcher):
    @staticmethod
    def process_batch(batch):
        return double_all(batch)

class OfClass(AsyncBatcher):
    @classmethod
    def process_batch(cls, batch):
        return double_all(batch)

class Function(AsyncBatcher):
    process_batch = staticmethod(double_all)

class Partial(AsyncBatcher):
    process_batch = staticmethod(functools.partial(scale_all, 2))

class Bound(AsyncBatcher):
    def process_batch(self, batch):
        return double_all(batch)

class Lambda(AsyncBatcher):
    process_batch = staticmethod(lambda batch: batch)

async def outcome(awaitable):
    try:
        return await awaitable
    except BaseException as error:
        return error

def pool(context):
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(context))

def start(main):
    if __name__ == "__main__":
        with pool(sys.argv[1]) as executor:
            run(main(executor))
"""

WORKS = """
async def main(executor):
    for kind in (Static, OfClass, Function, Partial):
        async with kind(executor=executor, max_batch_size=2, max_queue_time=0) as batcher:
            assert await batcher.process_many([1, 2, 3]) == [2, 4, 6], kind

start(main)
"""

UNPICKLABLE = """
async def main(executor):
    for kind in (Bound, Lambda):
        async with kind(executor=executor, max_queue_time=0) as batcher:
            errors = await asyncio.gather(
                *(batcher.process(item) for item in range(3)), return_exceptions=True
            )
            for error in errors:
                assert type(error) is pickle.PicklingError, error
                text = str(error)
                assert "static method" in text and "function" in text and "partial" in text, text
            assert batcher.stats.running == 0

start(main)
"""

UNPICKLABLE_ITEM = """
async def main(executor):
    async with Static(executor=executor, max_queue_time=0) as batcher:
        error = await outcome(batcher.process(lambda: None))
        assert type(error) is pickle.PicklingError, error
        assert await batcher.process(4) == 8

start(main)
"""

ERROR = """
async def main(executor):
    async with Static(executor=executor, max_queue_time=0) as batcher:
        error = await outcome(batcher.process("fail"))
        assert isinstance(error, LookupError), error
        assert isinstance(error.__cause__, LookupError)
        assert await batcher.process(4) == 8

start(main)
"""

KILLED = """
async def main(executor):
    async with Static(executor=executor, max_queue_time=0) as batcher:
        assert await batcher.process(1) == 2
        errors = await asyncio.gather(
            *(batcher.process(item) for item in ("die", 1)), return_exceptions=True
        )
        assert [isinstance(error, BrokenProcessPool) for error in errors] == [True] * 2, errors
        assert isinstance(await outcome(batcher.process(1)), BrokenProcessPool)
        assert batcher.stats.running == 0

start(main)
"""

NO_LOOP = """
if __name__ == "__main__":
    with pool(sys.argv[1]) as executor:
        batcher = Static(executor=executor, max_queue_time=0)
        assert batcher.process_threadsafe(2).result(PATIENCE) == 4
        run(batcher.stop())
"""

INHERITED = """
LIST = "import os; print(len(os.listdir('/proc/self/fd')))"

def count():
    done = subprocess.run([sys.executable, "-c", LIST], close_fds=False, capture_output=True)
    return int(done.stdout)

class Counting(Sync):
    def process_batch(self, batch):
        return [count() for _ in batch]

async def main():
    before = count()
    async with Counting(max_queue_time=0.001) as batcher:
        assert await batcher.process(1) == before
        assert count() == before

run(main())
"""


@contexts
def test_what_can_be_pickled_runs_in_a_process_pool(tmp_path: Path, context: str) -> None:
    """Scenario 52. Trap 45."""
    clean_script(tmp_path, BEGIN + WORKS, context)


@pytest.mark.parametrize("context", CONTEXTS[:1])
def test_what_cannot_be_pickled_tells_its_callers_the_cure(tmp_path: Path, context: str) -> None:
    """Scenario 52. Trap 45."""
    clean_script(tmp_path, BEGIN + UNPICKLABLE, context)


@pytest.mark.parametrize("context", CONTEXTS[:1])
def test_item_that_cannot_be_pickled_fails_its_batch_only(tmp_path: Path, context: str) -> None:
    """Scenario 52."""
    clean_script(tmp_path, BEGIN + UNPICKLABLE_ITEM, context)


@pytest.mark.parametrize("context", CONTEXTS[:1])
def test_error_in_the_worker_process_reaches_the_callers(tmp_path: Path, context: str) -> None:
    """Scenario 7. Trap 45."""
    clean_script(tmp_path, BEGIN + ERROR, context)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@contexts
def test_killed_worker_is_an_error_to_the_callers_and_later_calls_fail_fast(
    tmp_path: Path, context: str
) -> None:
    """Scenario 34. Trap 45."""
    clean_script(tmp_path, BEGIN + KILLED, context)


@pytest.mark.parametrize("context", CONTEXTS[:1])
def test_process_pool_works_without_any_loop(tmp_path: Path, context: str) -> None:
    """Scenario 44. Scenario 52."""
    clean_script(tmp_path, BEGIN + NO_LOOP, context)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_child_process_inherits_no_fd_of_ours(tmp_path: Path) -> None:
    """Scenario 53."""
    clean_script(tmp_path, BEGIN + INHERITED)
