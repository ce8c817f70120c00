"""Waiting in a batcher: for space in its queue, and for its end."""

from __future__ import annotations

import asyncio
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
        future.cancel()
        if number is not None:
            batcher._withdraw(number)
        raise


async def wait_until_drained(
    batcher: _core.Batcher[Any, Any], force: Callable[[], None], timeout: float | None
) -> None:
    """Wait until a batcher that takes nothing new has ended; force it when that fails."""
    drained = batcher._watch()
    try:
        done, _ = await asyncio.wait({drained}, timeout=timeout)
    except asyncio.CancelledError:
        force()
        raise
    if not done:
        drained.cancel()
        force()
        raise asyncio.TimeoutError(f"the batcher did not stop within {timeout!r} s")
