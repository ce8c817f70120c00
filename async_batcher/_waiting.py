"""Waiting in a batcher: for space in its queue, and for its end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from async_batcher import _core


class Space(asyncio.Future[None]):
    """What a caller awaits until its item is queued.

    A cancellation reaches the item's future in the same instant: the caller's task may run much
    later, and a worker would send the item meanwhile.
    """

    item: asyncio.Future[Any]

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the item, too, also where it is queued already."""
        self.item.cancel()
        return super().cancel(msg)


def is_called_by_batch(batcher: _core.Batcher[Any, Any]) -> bool:
    """Whether process_batch is on the stack: in an executor's thread nothing of ours could tell."""
    method: Any = batcher.process_batch  # type: ignore[attr-defined]
    while isinstance(method, functools.partial):
        method = method.func
    if not inspect.isroutine(method):
        method = method.__call__
    function = inspect.unwrap(getattr(method, "__func__", method))
    code = getattr(function, "__code__", None)
    frame = sys._getframe(1) if code is not None else None
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    if frame is None or not inspect.ismethod(method):
        return frame is not None
    return frame.f_locals.get(frame.f_code.co_varnames[0]) is method.__self__


async def wait_for_space(
    batcher: _core.Batcher[Any, Any],
    future: asyncio.Future[Any],
    space: asyncio.Future[None],
    number: int | None,
) -> None:
    """Wait until the item of ``future`` is queued; give the place up if this is cancelled."""
    try:
        await space
    except BaseException:
        with contextlib.suppress(RuntimeError):  # cancelled, but its loop is closed
            future.cancel()
        if number is not None:
            batcher._withdraw(number)
        raise


async def wait_until_drained(
    batcher: _core.Batcher[Any, Any], force: Callable[[], None], timeout: float | None
) -> None:
    """Wait until a batcher that takes nothing new has ended; force it when that fails."""
    drained = batcher._watch(True)
    try:
        done, _ = await asyncio.wait({drained}, timeout=timeout)
        if not done:
            drained.cancel()
            raise asyncio.TimeoutError(f"the batcher did not stop within {timeout!r} s")
    except (asyncio.CancelledError, asyncio.TimeoutError):
        force()
        await wait_until_told(batcher)
        raise


async def wait_until_told(batcher: _core.Batcher[Any, Any]) -> None:
    """After a forced stop: wait until nobody of this loop waits, however many there are."""
    while batcher._has_untold():  # noqa: ASYNC110  # each iteration of the loop tells some
        await asyncio.sleep(0)
