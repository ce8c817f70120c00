"""A batch that asks its own batcher, while its permits become more or fewer."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from support import PATIENCE, finished, new_loop, run, settle, told

from async_batcher import AsyncBatcher


class Raising(AsyncBatcher[Any, Any]):
    """Gives itself a second permit before it asks."""

    async def process_batch(self, batch: list[Any]) -> list[Any]:
        if batch == ["outer"]:
            self.concurrency = 2
            return [await self.process("inner")]
        return batch


async def test_batch_may_wait_for_its_batcher_once_it_has_raised_concurrency() -> None:
    """Trap 16."""
    async with Raising(max_queue_time=0) as batcher:
        assert await batcher.process("outer") == "inner"


class Crossed(AsyncBatcher[Any, Any]):
    """One batch asks in the middle of a step, after another one has stepped on its own loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(max_queue_time=0, max_batch_size=1, concurrency=2)
        self.loop = loop
        self.may_ask, self.may_step, self.may_end = (asyncio.Event() for _ in range(3))
        self.stepped = threading.Event()

    async def process_batch(self, batch: list[Any]) -> list[Any]:
        if batch == ["steps"]:
            await self.may_step.wait()
            self.loop.call_soon(self.stepped.set)  # when this step is over
            await self.may_end.wait()
        elif batch == ["asks"]:
            await self.may_ask.wait()
            self.loop.call_soon_threadsafe(self.may_step.set)
            self.stepped.wait(PATIENCE)
            future = self.process("asked")
            await asyncio.wait([future], timeout=PATIENCE)
            return [told(future) if future.done() else "hangs"]
        return batch


async def start(batcher: Crossed, item: str) -> asyncio.Future[Any]:
    """Give `item`, and have its batch begin on the running loop."""
    future = batcher.process(item)
    await settle()
    return future


def test_batch_does_not_wait_for_itself_when_concurrency_was_lowered() -> None:
    """Trap 16. Scenario 39."""
    other = new_loop()
    batcher = Crossed(other)
    steps = other.run_until_complete(start(batcher, "steps"))
    # A loop that stands still is not asked to run the next batch.
    thread = threading.Thread(target=other.run_forever)

    async def main() -> Any:
        asks = await start(batcher, "asks")
        assert batcher.stats.running == 2
        batcher.concurrency = 1
        thread.start()
        batcher.may_ask.set()
        (answer,) = await finished(asks)
        other.call_soon_threadsafe(batcher.may_end.set)
        await batcher.stop()
        return answer

    try:
        assert isinstance(run(main()), RuntimeError)
        assert steps.done()
    finally:
        other.call_soon_threadsafe(other.stop)
        thread.join()
        other.close()
