"""The system refuses one thread, once: windows are kept by whoever is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import preload
import pytest
from support import clean_script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = preload.needed

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

typedef int (*create_function)(pthread_t *, const pthread_attr_t *,
                               void *(*)(void *), void *);

static atomic_int refusals;

void
refuse(int count)
{
    atomic_store(&refusals, count);
}

int
left(void)
{
    return atomic_load(&refusals);
}

int
pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
               void *(*body)(void *), void *argument)
{
    create_function real = (create_function)dlsym(RTLD_NEXT, "pthread_create");
    if (atomic_load(&refusals) > 0) {
        atomic_fetch_sub(&refusals, 1);
        return EAGAIN;
    }
    return real(thread, attributes, body, argument);
}
"""

WINDOW = """
import ctypes, os, sys
from concurrent.futures import ThreadPoolExecutor
from scripted import PATIENCE, Sync

shim = ctypes.CDLL(os.environ["AB_SHIM"])
pool = ThreadPoolExecutor(1) if sys.argv[1] == "executor" else None
batcher = Sync(max_queue_time=0.05, executor=pool)
shim.refuse(1)  # the aggregation thread
future = batcher.process_threadsafe(1)
assert shim.left() == 0
print(future.result(PATIENCE))
"""


BESIDE_A_LOOP = """
import asyncio, ctypes, os
from concurrent.futures import ThreadPoolExecutor
from scripted import PATIENCE, Sync, run

shim = ctypes.CDLL(os.environ["AB_SHIM"])

async def main():
    batcher = Sync(max_queue_time=0.05, executor=pool)
    assert await batcher.process(0) == 0
    future = batcher.process(1)
    shim.refuse(1)  # the worker that would serve if this loop stopped
    other = batcher.process_threadsafe(2)
    assert shim.left() == 0
    print(await future, type(other.exception(PATIENCE)).__name__)

with ThreadPoolExecutor(1) as pool:
    run(main())
"""

# The thread that waits for the system's answer has the item queued already, and no future yet.
STOPPED = """
import _thread, asyncio, concurrent.futures, gc, threading

asked, goes_on = threading.Event(), threading.Event()

def refuse(*arguments):
    asked.set()
    goes_on.wait(PATIENCE)
    raise RuntimeError("can't start new thread")

_thread.start_new_thread = refuse
from scripted import PATIENCE, Sync, run  # with the package

async def main():
    asked.wait()
    (future,) = (
        each for each in gc.get_referents(batcher) if isinstance(each, concurrent.futures.Future)
    )
    future.cancel()
    assert batcher.stats.queued == 0
    stopping = asyncio.ensure_future(batcher.stop())
    for _ in range(5):  # it waits
        await asyncio.sleep(0)
    assert not stopping.done()
    goes_on.set()
    await asyncio.wait_for(stopping, PATIENCE)

batcher = Sync(max_queue_time=3600)
giver = threading.Thread(target=batcher.process_threadsafe, args=(1,))
giver.start()
run(main())
giver.join()
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile what stands before the C library's threads."""
    return preload.library(tmp_path_factory.mktemp("threads"), SHIM)


@pytest.mark.parametrize("where", ["own", "executor"])
def test_window_without_a_loop_ends_though_the_aggregation_thread_was_refused(
    tmp_path: Path, shim: Path, where: str
) -> None:
    """Scenario 69. Scenario 99. Guarantee 4."""
    output = clean_script(tmp_path, WINDOW, where, **preload.environment(shim))
    assert output == "1\n"


def test_refused_worker_costs_no_caller_of_a_loop_an_answer(tmp_path: Path, shim: Path) -> None:
    """Scenario 99. Scenario 86. Who has no loop is told: that loop may stop, or wait for it."""
    output = clean_script(tmp_path, BESIDE_A_LOOP, **preload.environment(shim))
    assert output == "1 RuntimeError\n"


def test_stop_does_not_wait_for_a_worker_that_is_refused_meanwhile(tmp_path: Path) -> None:
    """Scenario 25. Scenario 99."""
    clean_script(tmp_path, STOPPED)
