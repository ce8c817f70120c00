"""A destructor in its cycle saves a batcher, or a loop: what the collector took back works."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

import pytest
from scripted import calm
from support import LONG, PATIENCE, Recorder, SyncRecorder, both, counts_threads, run, soon


class Saver:
    """Refers to `thing`, which is to refer to it, and saves it from the collector."""

    def __init__(self, thing: Any, saved: list[Any]) -> None:
        self.thing = thing
        self.saved = saved
        thing.saver = self

    def __del__(self) -> None:
        self.saved.append(self.thing)


class Silent(asyncio.SelectorEventLoop):
    """A loop that the collector may find open: it does not close itself."""

    def __del__(self) -> None:
        pass


def collect(saved: list[Any]) -> None:
    """Wait until something is saved: a worker may hold it until now, or another thread collect."""
    give_up = time.monotonic() + PATIENCE
    while not saved and time.monotonic() < give_up:
        gc.collect()
        time.sleep(0.001)  # without a GIL one after the other stops all others for good


def resurrected(kind: type[Recorder], **options: Any) -> Recorder:
    """Return a batcher that the collector had given up."""
    saved: list[Any] = []
    Saver(kind(**options), saved)
    collect(saved)
    (batcher,) = saved
    assert isinstance(batcher, kind)
    return batcher


def resurrected_loop(batcher: Recorder) -> asyncio.AbstractEventLoop:
    """Return a loop that the collector had given up, and that `batcher` has served."""
    saved: list[Any] = []
    kept: list[Any] = []  # they close themselves when the collector finds them

    def leave() -> None:
        loop = Silent()
        kept.extend((loop._ssock, loop._csock))  # type: ignore[attr-defined] # noqa: SLF001
        Saver(loop, saved)
        assert loop.run_until_complete(batcher.call("before")) == "before"

    leave()
    collect(saved)
    (loop,) = saved
    assert isinstance(loop, Silent)
    return loop


@both
def test_resurrected_batcher_answers_in_its_window(kind: type[Recorder]) -> None:
    """Scenario 59. Scenario 65. Guarantee 4."""

    async def main() -> list[Any]:
        return await soon(batcher.process(1))

    batcher = resurrected(kind, max_queue_time=0.005)
    assert run(main()) == [1]


@counts_threads
def test_resurrected_batcher_serves_on_after_a_cancelled_item() -> None:
    """Scenario 59. A worker comes for the item, and finds nobody to ask for it."""
    batcher = resurrected(SyncRecorder, max_queue_time=0)
    batcher.process_threadsafe(1).cancel()
    assert batcher.stats.queued == 0
    run(calm())
    assert batcher.process_threadsafe(2).result(PATIENCE) == 2


def test_resurrected_batcher_is_drained_by_stop() -> None:
    """Scenario 25. Scenario 65. Guarantee 5."""

    async def main() -> list[Any]:
        future = batcher.process(1)
        stopping = asyncio.ensure_future(batcher.stop())
        return await soon(future, stopping)

    batcher = resurrected(SyncRecorder, max_queue_time=LONG)
    assert run(main()) == [1, None]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_resurrected_loop_gets_its_answer_from_a_worker() -> None:
    """Scenario 65. Scenario 87. Guarantee 1."""
    batcher = SyncRecorder(max_queue_time=0)

    async def main() -> list[Any]:
        batcher.seen.clear()
        future = await batcher.busy(1)
        batcher.release()
        return await soon(future)

    loop = resurrected_loop(batcher)
    try:
        assert loop.run_until_complete(main()) == [1]
    finally:
        loop.close()
