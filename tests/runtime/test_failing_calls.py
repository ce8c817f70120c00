"""System calls that fail beside a running batcher: a clear error or none, and nothing lost.

Those that a shim makes fail fail for certain, and tell how often they did.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import preload
import pytest
from scripted import Async, Sync
from support import Recorder, both, clean_script, new_loop, outcome, run

if TYPE_CHECKING:
    from pathlib import Path

probe = new_loop()
probe.close()
Loop: Any = type(probe)
kinds = pytest.mark.parametrize("kind", ["async", "sync"])

# What is made to fail are eventfd(), and write() to the eventfds made since the first `fail`.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <sys/types.h>

static atomic_int left[2], number[2], failed[2], ours[4096], is_watching;

void
fail(int call, int count, int with)
{
    atomic_store(&is_watching, 1);
    atomic_store(&number[call], with);
    atomic_store(&left[call], count);
}

int
failures(int call)
{
    return atomic_load(&failed[call]);
}

static int
must_fail(int call)
{
    int count = atomic_load(&left[call]);
    while (count > 0 && !atomic_compare_exchange_weak(&left[call], &count, count - 1)) {
    }
    if (count > 0) {
        atomic_fetch_add(&failed[call], 1);
        errno = atomic_load(&number[call]);
    }
    return count > 0;
}

int
eventfd(unsigned initial, int flags)
{
    int (*real)(unsigned, int) = (int (*)(unsigned, int))dlsym(RTLD_NEXT, "eventfd");
    int fd = must_fail(0) ? -1 : real(initial, flags);
    if (fd >= 0 && fd < 4096) {
        atomic_store(&ours[fd], atomic_load(&is_watching));
    }
    return fd;
}

ssize_t
write(int fd, const void *buffer, size_t size)
{
    ssize_t (*real)(int, const void *, size_t) =
        (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    if (fd >= 0 && fd < 4096 && atomic_load(&ours[fd]) && must_fail(1)) {
        return -1;
    }
    return real(fd, buffer, size);
}
"""

BEGIN = """
import asyncio, ctypes, errno, os, sys, threading
from scripted import KINDS, PATIENCE, new_loop, run

EVENTFD, WRITE = 0, 1
shim = ctypes.CDLL(os.environ["AB_SHIM"]) if "AB_SHIM" in os.environ else None
kind = KINDS[sys.argv[1]]

def fds():
    return len(os.listdir("/proc/self/fd"))

def check(batcher):
    stats = batcher.stats
    assert stats.submitted == stats.completed + stats.failed, stats
    assert stats.queued == stats.running == 0, stats
"""

NO_EVENTFD = """
batcher = kind(max_queue_time=0.002)

async def opened(failures):
    before = fds()
    shim.fail(EVENTFD, failures, getattr(errno, sys.argv[2]))
    assert await batcher.process(1) == 1
    assert await batcher.process_many(range(3)) == [0, 1, 2]
    assert await asyncio.to_thread(lambda: batcher.process_threadsafe(4).result(PATIENCE)) == 4
    return fds() - before

assert run(opened(1)) == 0, "a fd of ours is open"
assert shim.failures(EVENTFD) == 1
assert run(opened(0)) == 1, "the next loop has none"
run(batcher.stop())
check(batcher)
"""

WRITES = """
# The aggregation thread writes as a window ends; a worker, when it leaves last as a stop waits.
error, count = getattr(errno, sys.argv[2]), int(sys.argv[3])

async def use(item):
    async with kind(max_queue_time=0.002) as batcher:
        assert await batcher.process(item) == item
    check(batcher)

async def main():
    shim.fail(WRITE, 0, 0)
    await use(0)  # the eventfd is there
    shim.fail(WRITE, count, error)
    for item in range(500):
        await asyncio.wait_for(use(item), PATIENCE)
        if shim.failures(WRITE) == count:
            return
    assert False, "no write failed"

run(main())
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Compile what stands before the C library's calls."""
    return preload.environment(preload.library(tmp_path_factory.mktemp("calls"), SHIM))


@preload.needed
@kinds
@pytest.mark.parametrize("error", ["EMFILE", "ENFILE", "ENOSYS"])
def test_loop_without_an_eventfd_is_served_and_the_next_has_one(
    tmp_path: Path, shim: dict[str, str], kind: str, error: str
) -> None:
    """Scenario 69."""
    clean_script(tmp_path, BEGIN + NO_EVENTFD, kind, error, **shim)


@preload.needed
@kinds
@pytest.mark.parametrize(("error", "count"), [("EINTR", "5"), ("EIO", "1"), ("EIO", "3")])
def test_write_to_the_eventfd_that_fails_loses_no_wake_up(
    tmp_path: Path, shim: dict[str, str], kind: str, error: str, count: str
) -> None:
    """Scenario 69."""
    clean_script(tmp_path, BEGIN + WRITES, kind, error, count, **shim)


class Refusing(Loop):
    """A loop whose calls fail where it is told so."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: dict[str, int] = {}
        """How often each call fails from now on."""

    def fail(self, name: str) -> None:
        """Fail if `name` is to."""
        if self.failing.get(name, 0) > 0:
            self.failing[name] -= 1
            raise OSError(f"{name} fails")

    def add_reader(self, *args: Any) -> Any:
        self.fail("add_reader")
        return super().add_reader(*args)

    def call_soon_threadsafe(self, *args: Any, **options: Any) -> Any:
        self.fail("call_soon_threadsafe")
        return super().call_soon_threadsafe(*args, **options)


class Unwatching(Refusing):
    """One that watches no fds of others."""

    def add_reader(self, *args: Any) -> Any:
        raise NotImplementedError


@both
def test_reader_that_a_loop_refuses_is_an_error_to_the_caller_and_no_item(
    kind: type[Recorder],
) -> None:
    """Scenario 69."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        async with kind(max_queue_time=0) as batcher:
            for use in (batcher.process, batcher.call, batcher.submit, batcher.process_many):
                loop.failing["add_reader"] = 1
                error = await outcome(lambda use=use: use([1]))
                assert isinstance(error, OSError)
                assert str(error) == "add_reader fails"
            assert batcher.stats.submitted == batcher.stats.queued == 0
            assert await batcher.process(2) == 2

    run(main(), factory=Refusing)


def test_item_of_another_thread_arrives_though_the_loop_refuses_its_wake_up() -> None:
    """Scenario 69. A loop that watches our fd is not asked."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        async with Async(max_queue_time=0) as batcher:
            await batcher.process(0)
            heard = asyncio.Event()

            def give() -> None:
                future = batcher.process_threadsafe(1)
                # Here, if it is told already; and by then the refusal was for us.
                future.add_done_callback(lambda _: loop.call_soon_threadsafe(heard.set))

            loop.failing["call_soon_threadsafe"] = 1
            thread = threading.Thread(target=give)
            thread.start()
            await heard.wait()
            thread.join()
            assert loop.failing["call_soon_threadsafe"] == 0

    run(main(), factory=Unwatching)


@pytest.mark.parametrize(
    ("factory", "times"), [(Refusing, 1000), (Unwatching, 1)], ids=["watching", "unwatching"]
)
def test_answer_of_a_worker_arrives_though_the_loop_refuses_its_wake_up(
    factory: Any, times: int
) -> None:
    """Scenario 69. Where our fd is watched, it may refuse always; else once."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        async with Sync(max_queue_time=0) as batcher:
            await batcher.process(0)
            loop.failing["call_soon_threadsafe"] = times
            assert await batcher.process(1) == 1
            assert loop.failing["call_soon_threadsafe"] < times
            loop.failing.clear()

    run(main(), factory=factory)
