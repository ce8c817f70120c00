"""What scripts need: loops, patience, a look at threads, the two plainest batchers. No pytest."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import sysconfig
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from async_batcher import AsyncBatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

SLOWNESS = float(os.environ.get("AB_TEST_SLOWNESS", "1"))
"""How many times longer everything may take, under a sanitizer."""
PATIENCE = 30.0 * SLOWNESS
"""Seconds after which a wait in a thread gives up; a passing test never gets there."""

# Without any handler, logging itself would print our errors to the stderr that must stay empty.
logging.getLogger("async_batcher").addHandler(logging.NullHandler())

LOOP_NAME = os.environ.get("AB_TEST_LOOP", "asyncio")
if LOOP_NAME == "uvloop":
    # Here and not in a thread: a fork in the middle of an import leaves the child its lock.
    import uvloop


FREE = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
"""Whether this build of CPython is a free-threaded one."""


def _leave_the_tasks_of_other_threads() -> None:
    """Have `asyncio.run` cancel what is left in the main thread only, and in no child of a fork.

    It looks at the tasks of all threads for that, and without a GIL 3.14 then frees some of them
    twice, and hangs in a child now and then, with nothing of ours in the process.
    """
    runners: Any = asyncio.runners
    process, cancel = os.getpid(), runners._cancel_all_tasks  # noqa: SLF001

    def cancel_in_main_thread(loop: asyncio.AbstractEventLoop) -> None:
        if threading.current_thread() is threading.main_thread() and os.getpid() == process:
            cancel(loop)

    runners._cancel_all_tasks = cancel_in_main_thread  # noqa: SLF001


if FREE:
    _leave_the_tasks_of_other_threads()


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a new loop of the kind that `AB_TEST_LOOP` names."""
    if LOOP_NAME == "uvloop":
        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def run(
    main: Coroutine[Any, Any, T],
    *,
    factory: Callable[[], asyncio.AbstractEventLoop] = new_loop,
    debug: bool | None = None,
) -> T:
    """Do what `asyncio.run` does, on a loop of the wanted kind and in any thread."""
    if sys.version_info >= (3, 11):
        with asyncio.Runner(loop_factory=factory, debug=debug) as runner:
            return runner.run(main)
    loop = factory()
    try:
        asyncio.set_event_loop(loop)
        if debug is not None:
            loop.set_debug(debug)
        return loop.run_until_complete(main)
    finally:
        try:
            _cancel_tasks(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def _cancel_tasks(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


def threads() -> set[int]:
    """Return the native ids of all threads but the calling one; none where they cannot be seen."""
    names = os.listdir("/proc/self/task") if os.path.exists("/proc/self/task") else []
    return {int(name) for name in names} - {threading.get_native_id()}


def _status(thread: int) -> dict[str, str]:
    try:
        with open(f"/proc/self/task/{thread}/status", encoding="ascii") as lines:
            return {name: text.strip() for name, _, text in (line.partition(":") for line in lines)}
    except (FileNotFoundError, ProcessLookupError):
        return {"State": "X (dead)", "voluntary_ctxt_switches": "0"}


def wake_ups(of: set[int]) -> int:
    """Return how often those threads have gone to sleep, and so were woken. Linux."""
    return sum(int(_status(thread)["voluntary_ctxt_switches"]) for thread in of)


async def calm() -> None:
    """Wait until the other threads sleep, who have something to do after the last answers."""
    give_up = time.monotonic() + PATIENCE
    before = -1
    # One that is about to run does not sleep, however long the machine lets it wait.
    while any(_status(thread)["State"][0] != "S" for thread in threads()) or (
        before != (before := wake_ups(threads()))
    ):
        assert time.monotonic() < give_up, "somebody is woken again and again"
        await asyncio.sleep(0.2)


class Async(AsyncBatcher[Any, Any]):
    """Echoes on the loop."""

    async def process_batch(self, batch: list[Any]) -> list[Any]:
        return batch


class Sync(AsyncBatcher[Any, Any]):
    """Echoes in a thread."""

    def process_batch(self, batch: list[Any]) -> list[Any]:
        return batch


KINDS: dict[str, type[AsyncBatcher[Any, Any]]] = {"async": Async, "sync": Sync}
