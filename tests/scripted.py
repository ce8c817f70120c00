"""What scripts in a process of their own need: loops and the two plainest batchers. No pytest."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from async_batcher import AsyncBatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

# Without any handler, logging itself would print our errors to the stderr that must stay empty.
logging.getLogger("async_batcher").addHandler(logging.NullHandler())

LOOP_NAME = os.environ.get("AB_TEST_LOOP", "asyncio")
if LOOP_NAME == "uvloop":
    # Here and not in a thread: a fork in the middle of an import leaves the child its lock.
    import uvloop


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


class Async(AsyncBatcher[Any, Any]):
    """Echoes on the loop."""

    async def process_batch(self, batch: list[Any]) -> list[Any]:
        return batch


class Sync(AsyncBatcher[Any, Any]):
    """Echoes in a thread."""

    def process_batch(self, batch: list[Any]) -> list[Any]:
        return batch


KINDS: dict[str, type[AsyncBatcher[Any, Any]]] = {"async": Async, "sync": Sync}
