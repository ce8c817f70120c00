"""How users write it: strict type checkers must find nothing here, and infer these types."""

from __future__ import annotations

import asyncio
import concurrent.futures

from async_batcher import AsyncBatcher, BatcherStats, batched
from async_batcher.batcher import AsyncBatcher as FromModule


class Lengths(AsyncBatcher[str, int]):
    """An async batcher with a constructor of its own."""

    def __init__(self, offset: int) -> None:
        super().__init__(max_batch_size=64, max_queue_time=0.002, cost=len)
        self.offset = offset

    async def process_batch(self, batch: list[str]) -> list[int]:
        return [len(text) + self.offset for text in batch]


class Uppers(FromModule[str, str]):
    """A sync batcher."""

    def process_batch(self, batch: list[str]) -> list[str]:
        return [text.upper() for text in batch]


class Texts:
    """Something with a batched method."""

    @batched(max_batch_size=8)
    def join(self, batch: list[str]) -> list[str]:
        return batch


@batched()
async def count(batch: list[str]) -> list[int]:
    """A batched function."""
    return [len(text) for text in batch]


async def use() -> None:
    async with Lengths(1) as lengths:
        future: asyncio.Future[int] = lengths.process("a")
        number: int = await future
        number = await asyncio.create_task(lengths.call("b"))
        later: asyncio.Future[int] = await lengths.submit("c")
        many: list[int] = await lengths.process_many(["d", "e"])
        some: list[int | BaseException] = await lengths.process_many("fg", return_exceptions=True)
        threaded: concurrent.futures.Future[int] = lengths.process_threadsafe("h")
        stats: BatcherStats = lengths.stats
        lengths.max_batch_size = 2 * stats.completed + 1
        print(number, await later, many, some, threaded, await lengths.is_running())
    upper = Uppers(executor=concurrent.futures.ThreadPoolExecutor(1))
    text: str = await upper.process("i")
    await upper.stop(timeout=1.0)
    joined: str = await Texts().join("j")
    counted: asyncio.Future[int] = count("k")
    print(text, joined, await counted)
