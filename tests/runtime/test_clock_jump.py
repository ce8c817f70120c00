"""The wall clock is set forwards and back while items wait: nothing stalls and nothing hurries."""

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
#include <stdatomic.h>
#include <sys/time.h>
#include <time.h>

/* What the wall clock is set forward by, in seconds, for this process. */
static atomic_long jump_s;

void
jump(long by_s)
{
    atomic_store(&jump_s, by_s);
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL) {
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    }
    int status = real(clock, now);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) {
        now->tv_sec += atomic_load(&jump_s);
    }
    return status;
}

int
gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;
    (void)zone;
    int status = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return status;
}

time_t
time(time_t *out)
{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (out != NULL) {
        *out = exact.tv_sec;
    }
    return exact.tv_sec;
}
"""

JUMPS = """
import asyncio, ctypes, os, sys, time
from scripted import KINDS, run

jump = ctypes.CDLL(os.environ["AB_SHIM"]).jump
by_s, kind = int(sys.argv[1]), KINDS[sys.argv[2]]
jump.argtypes = [ctypes.c_long]

def set_clock(to_s):
    before = time.time()
    jump(to_s)
    assert abs(time.time() - before) > 1800, "the clock was not set"

async def main():
    async with kind(max_queue_time=0.02) as batcher, kind(max_queue_time=900) as patient:
        waits = patient.process("waits")
        for item in range(4):
            future = batcher.process(item)
            set_clock(by_s if item % 2 == 0 else 0)
            assert await future == item
        assert not waits.done(), "an hour of the wall clock is none of the window"
        patient.flush()
        assert await waits == "waits"
        stats = batcher.stats
        assert 0 <= stats.busy_s < 600 and 0 <= stats.idle_s < 600

run(main())
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile what stands before the C library's clocks."""
    return preload.library(tmp_path_factory.mktemp("clock"), SHIM)


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize("by_s", [3600, -3600])
def test_windows_do_not_notice_that_the_wall_clock_is_set(
    tmp_path: Path, shim: Path, kind: str, by_s: int
) -> None:
    """Scenario 82. Trap 26."""
    clean_script(tmp_path, JUMPS, str(by_s), kind, **preload.environment(shim))
