"""What the collector sees of a batcher: each item and waiter, from the first moment to the last."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest
from support import (
    LONG,
    AsyncRecorder,
    Item,
    Recorder,
    both,
    collected,
    finished,
    new_loop,
    settle,
)


class Plain(AsyncRecorder):
    """Keeps nothing of its batches."""

    async def process_batch(self, batch: list[Any]) -> Any:
        await self.gate.wait()
        return [None] * len(batch)


def times_seen(batcher: Recorder, thing: object) -> int:
    """Return how often the collector is shown `thing` when it visits `batcher`."""
    return sum(referent is thing for referent in gc.get_referents(batcher))


@both
async def test_queued_item_and_its_waiter_are_visited_once(kind: type[Recorder]) -> None:
    """Scenario 65. Trap 52."""
    async with kind(max_queue_time=LONG) as batcher:
        items = [Item() for _ in range(20)]
        futures = [batcher.process(item) for item in items]
        assert [times_seen(batcher, item) for item in items] == [1] * 20
        assert [times_seen(batcher, future) for future in futures] == [1] * 20


async def test_cancelled_item_is_visited_until_it_is_dropped() -> None:
    """Scenario 65. Trap 52."""
    async with AsyncRecorder(max_queue_time=LONG) as batcher:
        item = Item()
        future = batcher.process(item)
        future.cancel()
        assert times_seen(batcher, item) == times_seen(batcher, future) == 1
        assert batcher.stats.queued == 0
        assert times_seen(batcher, item) == times_seen(batcher, future) == 0


async def test_waiter_of_a_running_batch_is_visited_once() -> None:
    """Scenario 65. Trap 52."""
    async with Plain(max_queue_time=0) as batcher:
        batcher.gate.clear()
        future = batcher.process(1)
        await settle()
        assert batcher.stats.running == 1
        assert times_seen(batcher, future) == 1
        batcher.release()
        await finished(future)
        await batcher.idle()
        assert times_seen(batcher, future) == 0


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@both
def test_cycle_through_a_pending_future_is_collected(kind: type[Recorder]) -> None:
    """Scenario 65. Trap 52."""
    loop = new_loop()

    async def begin() -> list[weakref.ref[Any]]:
        batcher = kind(max_queue_time=LONG)
        item: Any = Item()
        item.future = batcher.process(item)
        item.future.add_done_callback(lambda future: batcher)
        item.batcher = batcher
        return [weakref.ref(item), weakref.ref(batcher)]

    references = loop.run_until_complete(begin())
    gc.collect()
    assert all(reference() is not None for reference in references)
    loop.close()
    for reference in references:
        new = new_loop()
        new.run_until_complete(collected(reference))
        new.close()


async def test_callbacks_may_nest_without_end() -> None:
    """Trap 52. Each done callback gives the next item; none runs inside the other."""
    depth = 2000
    threads: set[int] = set()
    async with AsyncRecorder(max_queue_time=0) as batcher:
        ended = asyncio.Event()

        def again(future: Any) -> None:
            threads.add(threading.get_ident())
            if future.result() == depth:
                ended.set()
            else:
                batcher.process(future.result() + 1).add_done_callback(again)

        batcher.process(0).add_done_callback(again)
        await ended.wait()
    assert threads == {threading.get_ident()}
