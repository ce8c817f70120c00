"""Callers that wait for space, each on a loop of its own."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from support import (
    PATIENCE,
    Recorder,
    SyncRecorder,
    both,
    finished,
    new_loop,
    outcome,
    run,
    settle,
    soon,
)


@both
def test_first_call_of_a_loop_may_be_one_that_waits_behind_others(kind: type[Recorder]) -> None:
    """Scenario 39. Trap 30."""
    batcher = kind(max_queue_time=0, max_queue_size=1, max_batch_size=1)
    asked, answered = threading.Event(), threading.Event()

    async def other() -> Any:
        waiting = asyncio.ensure_future(batcher.submit("other"))
        await settle()
        asked.set()
        answer = await outcome(lambda: waiting)
        if isinstance(answer, asyncio.Future):
            answer = await answer
        await asyncio.to_thread(answered.wait, PATIENCE)  # this loop may run batches
        return answer

    async def main() -> list[Any]:
        held = await batcher.busy()
        futures = [held, await batcher.submit("queued")]
        waiting = asyncio.ensure_future(batcher.submit("first"))
        await settle()
        thread = asyncio.ensure_future(asyncio.to_thread(lambda: run(other())))
        await asyncio.to_thread(asked.wait, PATIENCE)
        batcher.release()
        futures.append(await waiting)
        answers = await finished(*futures)
        answered.set()
        return [*answers, await thread]

    assert run(main()) == ["held", "queued", "first", "other"]


def cancel_and_stop(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
    """Cancel `future` and stop `loop` as soon as those who watch it know, and no later."""

    def cancel() -> None:
        future.cancel()
        loop.call_soon(loop.stop)

    loop.run_until_complete(settle())  # it learns that it is to watch
    loop.call_soon(cancel)
    loop.run_forever()


class Crowd:
    """Two loops with an item each in the queue, and a caller that waits on the first."""

    def __init__(self) -> None:
        self.batcher = SyncRecorder(max_queue_time=0, max_queue_size=2, max_batch_size=1)
        self.runs, self.stops = new_loop(), new_loop()
        self.held = self.runs.run_until_complete(self.batcher.busy())
        self.theirs = self.stops.run_until_complete(self.put("theirs"))
        self.mine = self.runs.run_until_complete(self.put("mine"))
        self.waiting = self.runs.create_task(self.batcher.submit("waits"))
        self.runs.run_until_complete(settle())
        assert not self.waiting.done()

    async def put(self, item: str) -> asyncio.Future[Any]:
        return self.batcher.process(item)

    def end(self) -> None:
        self.batcher.release()
        self.waiting.cancel()
        self.runs.run_until_complete(finished(self.held, self.mine, self.waiting))
        self.runs.run_until_complete(self.batcher.stop())
        self.runs.close()
        self.stops.close()


def is_admitted(cancels_mine: bool) -> bool:
    """Tell whether the caller gets in once a loop stopped before it noticed a cancellation."""
    crowd = Crowd()

    async def main() -> None:
        if cancels_mine:
            crowd.mine.cancel()
        await soon(crowd.waiting)

    try:
        cancel_and_stop(crowd.stops, crowd.theirs)
        crowd.runs.run_until_complete(main())
        return crowd.waiting.done()
    finally:
        crowd.end()


def test_caller_is_admitted_though_a_loop_stopped_before_it_swept() -> None:
    """Scenario 23. Scenario 86. Trap 30."""
    assert is_admitted(cancels_mine=False)


def test_later_cancellation_is_noticed_though_a_loop_stopped_before_it_swept() -> None:
    """Scenario 23. Scenario 86. Trap 30."""
    assert is_admitted(cancels_mine=True)


async def test_cancellation_on_a_loop_that_the_batcher_does_not_know_makes_room() -> None:
    """Scenario 23. Scenario 86. Trap 30."""
    async with SyncRecorder(max_queue_size=1, max_queue_time=0, max_batch_size=1) as batcher:
        held = await batcher.busy()
        queued = batcher.process_threadsafe("queued")
        waiting = asyncio.create_task(batcher.submit("waits"))
        await settle()

        async def cancel() -> None:
            queued.cancel()

        await asyncio.to_thread(run, cancel())
        await soon(waiting)
        is_admitted = waiting.done()
        batcher.release()
        await finished(held, await waiting)
        assert is_admitted
