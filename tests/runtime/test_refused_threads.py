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
