"""Fixtures and hooks of the whole suite: the loop, the frozen clock, the leak check, what ran."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import gc
import inspect
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from typing import TYPE_CHECKING

from support import LOOP_NAME, SLOWNESS, TASKS, new_loop, os_threads

from async_batcher._core import _clock_advance, _clock_freeze, _clock_resume

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterator
    from typing import Any

FDS = Path("/proc/self/fd")
THREAD_END_S = 5.0 * SLOWNESS
RAN = os.environ.get("AB_RAN")  # a file for the names of the tests that passed
FAILED = pytest.StashKey[bool]()
PASSED = pytest.StashKey["set[str]"]()
SKIPPED = pytest.StashKey["set[str]"]()
BEFORE = pytest.StashKey["tuple[int, int]"]()


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every async test on the loop that `AB_TEST_LOOP` names. Scenario 40."""
    return {LOOP_NAME: new_loop}


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Open what a first loop, and under a sanitizer a first thread and report, open for good.

    And let a hang under uvloop be noticed: it sleeps through the alarm that pytest-timeout would
    send; a thread it cannot ignore.
    """
    new_loop().close()
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    _start_symbolizer()
    if LOOP_NAME == "uvloop" and not config.getoption("timeout_method", None):
        config.option.timeout_method = "thread"


# A job in the background of a shell is started with it ignored, and passes that on.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_parallel(config: pytest.Config) -> bool:
    return str(config.getoption("parallel_threads", default=1)) != "1"


def _on_a_loop_of_its_thread(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def in_thread(*args: Any, **kwargs: Any) -> None:
        loop = new_loop()
        try:
            loop.run_until_complete(test(*args, **kwargs))
        finally:
            loop.close()

    return in_thread


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: Any, name: str, obj: Any) -> list[pytest.Function] | None:
    """With `--parallel-threads` each thread runs an async test on a loop of its own."""
    is_async = collector.istestfunction(obj, name) and inspect.iscoroutinefunction(obj)
    if not (is_async and _is_parallel(collector.config)):
        return None
    in_thread = _on_a_loop_of_its_thread(obj)
    setattr(collector.obj, name, in_thread)  # where the items look their function up
    return list(collector._genfunctions(name, in_thread))  # noqa: SLF001


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave what judges all the others to the end."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """What is the process's is used by one thread at a time; a timeout grows with the slowness."""
    for name in {"caplog", "capsys", "clock"}.intersection(getattr(item, "fixturenames", ())):
        item.add_marker(pytest.mark.thread_unsafe(reason=f"{name} is the process's"))
    marker = item.get_closest_marker("timeout")
    if marker is not None and SLOWNESS != 1:
        item.add_marker(pytest.mark.timeout(marker.args[0] * SLOWNESS), append=False)


class Clock:
    """The batchers' clock, standing still but for `advance`."""

    def advance(self, seconds: float) -> None:
        """Move the clock on and wake the aggregation thread."""
        _clock_advance(seconds)


@pytest.fixture
def clock() -> Iterator[Clock]:
    """Freeze the clock that drives windows and the times in `stats`."""
    _clock_freeze()
    try:
        yield Clock()
    finally:
        _clock_resume()


def _start_symbolizer() -> None:
    """Start the process that names functions for TSan, which it keeps two pipes to.

    Else the first race starts it, in the middle of a test, also a race that is suppressed: whether
    it is can be told by names only.
    """
    if not TASKS.exists():
        return
    symbolize = getattr(ctypes.CDLL(None), "__sanitizer_symbolize_pc", None)
    if symbolize is not None:
        name = ctypes.create_string_buffer(100)
        symbolize(ctypes.cast(symbolize, ctypes.c_void_p), b"%f", name, ctypes.c_size_t(len(name)))


def _threads_and_fds() -> tuple[int, int]:
    return len(os_threads()), len(os.listdir(FDS))


def pytest_collection_finish() -> None:
    """Spare every collection of the leak check what was imported and collected before."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Note the threads and fds before the test's loop exists."""
    if TASKS.exists():
        gc.collect()
        item.stash[BEFORE] = _threads_and_fds()
        item.config.stash.setdefault(BEFORE, item.stash[BEFORE])
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember how it ended; the traceback of a failure may rightly hold what the test used."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    outcome = PASSED if report.passed and report.when == "call" else SKIPPED
    if report.skipped or outcome is PASSED:
        name = getattr(item, "originalname", item.name)
        item.config.stash.setdefault(outcome, set()).add(name)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Say which tests have passed, for a check over many sessions."""
    if RAN is not None:
        path = Path(RAN)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(sorted(session.config.stash.get(PASSED, set()))))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Demand that the test's threads and fds are gone, once its loop is closed.

    A hook and not an autouse fixture, for such a fixture may end before the loop does. One thread
    more than at the start of the session is the aggregation thread.
    """
    result = yield
    if BEFORE not in item.stash or item.stash.get(FAILED, False):
        return result
    gc.collect()
    threads_before, fds_before = item.stash[BEFORE]
    allowed = max(threads_before, item.config.stash[BEFORE][0] + 1)
    give_up = time.monotonic() + THREAD_END_S
    threads, fds = _threads_and_fds()
    while (threads > allowed or fds > fds_before) and time.monotonic() < give_up:
        time.sleep(0.01)
        gc.collect()
        threads, fds = _threads_and_fds()
    assert threads <= allowed, f"{threads} threads, {threads_before} before the test"
    assert fds <= fds_before, f"{fds} open fds, {fds_before} before the test"
    return result
