"""References: whatever way an item takes, rounds of it leave as many as there were.

Needs a debug build of CPython, which counts them all: `make refleak`.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from references import assert_flat
from support import LONG, PATIENCE, AsyncRecorder, SyncRecorder, finished, new_loop, outcome, run

from async_batcher import BatcherStoppedError, DynamicBatcher, QueueFullException, batched

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from support import Recorder

pytestmark = pytest.mark.skipif(
    not hasattr(sys, "gettotalrefcount"), reason="needs a debug build of CPython"
)


def refuse(_: Any) -> Any:
    raise LookupError


# ---- the ways: each makes a batcher, uses it and leaves it behind ----


async def answered(kind: type[Recorder]) -> None:
    async with kind(max_queue_time=0.0005) as batcher:
        assert await batcher.process(object()) is not None
        assert await batcher.call(1) == 1
    await kind().process(1)  # and one that is not stopped


async def failed(kind: type[Recorder]) -> None:
    async with kind(refuse, max_queue_time=0) as batcher:
        assert isinstance(await outcome(lambda: batcher.process(1)), LookupError)


async def failed_singly(kind: type[Recorder]) -> None:
    async with kind(lambda batch: [LookupError(), 1], max_queue_time=0) as batcher:
        error, one = await finished(batcher.process(0), batcher.process(1))
        assert (type(error), one) == (LookupError, 1)


async def wrong_results(kind: type[Recorder]) -> None:
    async with kind(lambda batch: [], max_queue_time=0) as batcher:
        assert isinstance(await outcome(lambda: batcher.process(1)), ValueError)


async def cancelled_while_queued(kind: type[Recorder]) -> None:
    async with kind(max_queue_time=LONG) as batcher:
        futures = [batcher.process(object()) for _ in range(3)]
        assert futures[1].cancel()
        batcher.flush()
        await finished(*futures)


async def cancelled_while_running(kind: type[Recorder]) -> None:
    async with kind() as batcher:
        future = await batcher.busy(object())
        future.cancel()
        batcher.release()
        await batcher.idle()


async def stopped(kind: type[Recorder]) -> None:
    batcher = kind(max_queue_time=LONG)
    futures = [batcher.process(item) for item in range(3)]
    await batcher.stop()
    assert await finished(*futures) == [0, 1, 2]


async def stopped_by_force(kind: type[Recorder]) -> None:
    batcher = kind(max_queue_time=LONG)
    futures = [await batcher.busy(), batcher.process(object())]
    await batcher.stop(force=True)
    assert [type(error) for error in await finished(*futures)] == [BatcherStoppedError] * 2
    batcher.release()


async def stopped_by_time(kind: type[Recorder]) -> None:
    batcher = kind()
    future = await batcher.busy()
    assert isinstance(await outcome(lambda: batcher.stop(timeout=0.001)), asyncio.TimeoutError)
    await finished(future)
    batcher.release()


async def many(kind: type[Recorder]) -> None:
    async with kind(max_batch_size=3, max_queue_time=0.0005) as batcher:
        assert await batcher.process_many(range(10)) == list(range(10))
        batcher.process_many(range(10)).cancel()
    async with kind(refuse, max_queue_time=0) as batcher:
        await outcome(lambda: batcher.process_many(range(3)))
        await batcher.process_many(range(3), return_exceptions=True)
        await batcher.idle()


async def from_another_thread(kind: type[Recorder]) -> None:
    async with kind(max_queue_time=0) as batcher:
        await batcher.process(0)
        answer = await asyncio.to_thread(
            lambda: batcher.process_threadsafe(object()).result(PATIENCE)
        )
        assert answer is not None


async def waited_for_space(kind: type[Recorder]) -> None:
    async with kind(max_queue_size=1, max_queue_time=0) as batcher:
        held = await batcher.busy()
        first = await batcher.submit(object())
        waiting = [asyncio.create_task(batcher.submit(item)) for item in range(3)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        batcher.release()
        await asyncio.wait(waiting)
        await finished(held, first, waiting[0].result(), waiting[2].result())


async def dearly_estimated(kind: type[Recorder]) -> None:
    async with kind(cost=refuse, max_queue_time=0) as batcher:
        assert isinstance(await outcome(lambda: batcher.process(object())), LookupError)
        assert isinstance(await outcome(lambda: batcher.submit(object())), LookupError)
        assert isinstance(await outcome(lambda: batcher.process_many([1, 2])), LookupError)


async def refused(kind: type[Recorder]) -> None:
    async with kind(max_queue_size=1, max_queue_time=LONG) as batcher:
        batcher.process(0)
        assert isinstance(await outcome(lambda: batcher.process(1)), QueueFullException)
        assert isinstance(await outcome(lambda: batcher.process_many([1, 2])), QueueFullException)
    assert isinstance(await outcome(lambda: batcher.process(1)), BatcherStoppedError)
    assert isinstance(batcher.process_threadsafe(1).exception(), BatcherStoppedError)


async def looked_at(kind: type[Recorder]) -> None:
    async with kind(max_queue_time=0, concurrency=3) as batcher:
        batcher.max_batch_size = 2
        assert await outcome(lambda: setattr(batcher, "concurrency", 0)) is not None
        await batcher.process_many(range(5))
        assert batcher.stats.completed == 5
        assert await batcher.is_running()
        await batcher.idle()


class Model:
    @batched(max_queue_time=0)
    async def double(self, batch: list[int]) -> list[int]:
        return [2 * number for number in batch]

    @batched(max_queue_time=0)
    def triple(self, batch: list[int]) -> list[int]:
        return [3 * number for number in batch]


async def decorated(kind: type[Recorder]) -> None:
    model = Model()
    assert await (model.double(2) if kind is AsyncRecorder else model.triple(2)) in (4, 6)


async def in_an_executor(kind: type[Recorder]) -> None:
    with ThreadPoolExecutor(1) as executor:
        async with kind(executor=executor, max_queue_time=0) as batcher:
            assert await batcher.process(1) == 1
            batcher.function = refuse
            assert isinstance(await outcome(lambda: batcher.process(1)), LookupError)
    if kind is SyncRecorder:
        assert await outcome(lambda: kind(executor=executor).process(1)) != 1  # shut down


async def dynamic(kind: type[Recorder]) -> None:
    recorder = kind()
    batcher: DynamicBatcher[Any, Any] = DynamicBatcher(
        recorder.process_batch, max_queue_size=2, target_batch_cost=3, batch_timeout_s=0.0005
    )
    assert isinstance(await outcome(lambda: batcher.submit(1)), RuntimeError)
    for _ in range(2):
        async with batcher:
            futures = await batcher.submit_batch(range(10), estimated_cost=range(10))
            assert await finished(*futures) == list(range(10))
            assert await (await batcher.submit(1, estimated_cost=5)) == 1
    assert isinstance(await outcome(lambda: batcher.__aexit__(LookupError, None, None)), type(None))
    assert batcher.stats.total_completed == 22


WAYS: list[Callable[[type[Recorder]], Coroutine[Any, Any, None]]] = [
    answered,
    failed,
    failed_singly,
    wrong_results,
    cancelled_while_queued,
    cancelled_while_running,
    stopped,
    stopped_by_force,
    stopped_by_time,
    many,
    from_another_thread,
    waited_for_space,
    dearly_estimated,
    refused,
    looked_at,
    decorated,
    in_an_executor,
    dynamic,
]
kinds = pytest.mark.parametrize("kind", [AsyncRecorder, SyncRecorder], ids=["async", "sync"])


def test_leak_in_every_sixth_round_is_found() -> None:
    kept: list[object] = []
    rounds = itertools.count()

    def leak() -> None:
        if next(rounds) % 6 == 0:
            kept.append(object())

    with pytest.raises(pytest.fail.Exception, match="references left"):
        assert_flat(leak)


@kinds
@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
def test_way_of_an_item_leaves_no_reference(way: Any, kind: type[Recorder]) -> None:
    """Scenario 63."""
    assert_flat(lambda: run(way(kind)))


@kinds
def test_closed_loop_leaves_no_reference(kind: type[Recorder]) -> None:
    """Scenario 63. Scenario 36."""

    def close_under_work() -> None:
        async def begin() -> None:
            batcher = kind(max_queue_time=LONG)
            held = [await batcher.busy(), batcher.process(object())]
            assert len(held) == 2
            batcher.release()

        loop = new_loop()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loop.run_until_complete(begin())
            loop.close()
            gc.collect()

    assert_flat(close_under_work)


def test_refused_construction_leaves_no_reference() -> None:
    """Scenario 63. Scenario 1."""

    def construct() -> None:
        for options in ({"max_batch_size": 0}, {"max_queue_time": -1}, {"unknown": 1}):
            with pytest.raises((TypeError, ValueError)):
                AsyncRecorder(**options)
        AsyncRecorder(max_batch_size=3)

    assert_flat(construct)
