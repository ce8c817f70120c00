"""A DynamicBatcher that is started again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support import new_loop, run, settle

from async_batcher import DynamicBatcher


async def never(batch: list[Any]) -> list[Any]:
    await asyncio.Event().wait()
    return batch


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_stop_that_went_with_its_loop_does_not_keep_a_batcher_from_starting() -> None:
    batcher = DynamicBatcher(never, batch_timeout_s=0)

    async def begin() -> asyncio.Task[None]:
        await batcher.start()
        await batcher.submit("running")
        stopping = asyncio.create_task(batcher.stop())
        await settle()
        return stopping

    loop = new_loop()
    loop.set_exception_handler(lambda _loop, _context: None)  # the task is destroyed pending
    stopping = loop.run_until_complete(begin())
    loop.close()
    run(batcher.start())
    assert batcher.is_running
    assert not stopping.done()  # held by the test, as by whoever wants to know how it ended
