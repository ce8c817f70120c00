"""Doing something on the thread of an event loop that may be another's, or closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


def call_in(loop: asyncio.AbstractEventLoop, function: Callable[..., Any], *args: Any) -> None:
    """Call on the loop's own thread; at once if this is it, never if it is closed."""
    if loop is asyncio.get_running_loop():
        function(*args)
        return
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:  # closed: nobody waits there any more
        return


def cancel_tasks(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancel all but the current task, each on its own loop; the list is emptied.

    Each loop's thread drops its tasks itself: a Task that dies on another
    thread breaks free-threaded CPython 3.14 (PyObject_ClearWeakRefs).
    """
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Task[Any]]] = {}
    while tasks:
        by_loop.setdefault(tasks[-1].get_loop(), []).append(tasks.pop())
    while by_loop:
        call_in(*_cancellation(*by_loop.popitem()))


def _cancellation(loop: asyncio.AbstractEventLoop, tasks: list[asyncio.Task[Any]]) -> Any:
    return loop, _cancel_others, tasks  # and this frame keeps none of them


def _cancel_others(tasks: list[asyncio.Task[Any]]) -> None:
    current = asyncio.current_task()
    while tasks:
        if tasks[-1] is not current:
            tasks[-1].cancel()
        del tasks[-1]


def set_done(future: asyncio.Future[None]) -> None:
    """Set the result None, if nobody did before."""
    if not future.done():
        future.set_result(None)
