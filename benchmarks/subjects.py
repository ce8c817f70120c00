"""What is compared: for each subject how a caller hands in one item.

A subject is a context manager that gives a function of an item whose answer can be awaited. Every
batch function is trivial, so that what is measured is the batching.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.harness import Measure, Numbers, Target

Process = Callable[[Any], Awaitable[Any]]
Subject = Callable[[int], AbstractAsyncContextManager[Process]]

PEERS = Path(__file__).parents[1] / "build" / "bench"


async def echo(batch: list[Any]) -> list[Any]:
    """The batch function of every subject."""
    return batch


class Floor:
    """The least that bare Python can do: no window, no errors, no cancellation, no limits."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.loop = asyncio.get_running_loop()
        self.items: list[Any] = []
        self.futures: list[asyncio.Future[Any]] = []

    def process(self, item: Any) -> asyncio.Future[Any]:
        """Collect an item."""
        future = self.loop.create_future()
        if not self.items:
            self.loop.call_soon(self.dispatch)
        self.items.append(item)
        self.futures.append(future)
        return future

    def dispatch(self) -> None:
        """Start all batches there are."""
        items, futures = self.items, self.futures
        self.items, self.futures = [], []
        for k in range(0, len(items), self.size):
            part = slice(k, k + self.size)
            self.tasks = self.loop.create_task(self.run(items[part], futures[part]))

    async def run(self, items: list[Any], futures: list[asyncio.Future[Any]]) -> None:
        """Run a batch."""
        for future, result in zip(futures, await echo(items), strict=False):
            future.set_result(result)


@asynccontextmanager
async def ours(size: int) -> AsyncIterator[Process]:
    """AsyncBatcher with its defaults."""
    from async_batcher import AsyncBatcher

    class Echo(AsyncBatcher[Any, Any]):
        async def process_batch(self, batch: list[Any]) -> list[Any]:
            return batch

    async with Echo(max_batch_size=size) as batcher:
        yield batcher.process


@asynccontextmanager
async def floor(size: int) -> AsyncIterator[Process]:
    """The pure-Python floor."""
    yield Floor(size).process


@asynccontextmanager
async def sleep(size: int) -> AsyncIterator[Process]:
    """Asyncio's own limit: a task that goes round once."""

    def process(item: Any) -> Awaitable[Any]:
        return asyncio.sleep(0, item)

    yield process


def import_ancestor() -> Any:
    """Import async-batcher 0.2, which has our import name, from a folder of its own."""
    sys.path.insert(0, str(PEERS / "async-batcher"))
    if "async_batcher" in sys.modules:
        raise ImportError("async_batcher is imported already")
    import async_batcher.batcher as ancestor

    if hasattr(ancestor.AsyncBatcher, "process_many"):
        raise ImportError("async-batcher 0.2 is not installed: make bench installs it")
    return ancestor


@asynccontextmanager
async def ancestor(size: int) -> AsyncIterator[Process]:
    """async-batcher 0.2.2 with its defaults."""

    class Echo(import_ancestor().AsyncBatcher):  # type: ignore[misc]
        async def process_batch(self, batch: list[Any]) -> list[Any]:
            return batch

    batcher = Echo(max_batch_size=size)
    yield lambda item: batcher.process(item=item)
    await batcher.stop()


@asynccontextmanager
async def aiodataloader(size: int) -> AsyncIterator[Process]:
    """Aiodataloader without its cache."""
    from aiodataloader import DataLoader

    class Echo(DataLoader[Any, Any]):  # type: ignore[misc]
        async def batch_load_fn(self, keys: list[Any]) -> list[Any]:
            return keys

    yield Echo(max_batch_size=size, cache=False).load


@asynccontextmanager
async def strawberry(size: int) -> AsyncIterator[Process]:
    """Strawberry's DataLoader without its cache."""
    from strawberry.dataloader import DataLoader

    yield DataLoader(load_fn=echo, max_batch_size=size, cache=False).load


@asynccontextmanager
async def batched(size: int) -> AsyncIterator[Process]:
    """Mixedbread's `batched`, its asyncio form, with its defaults."""
    from batched import aio

    yield aio.dynamically(echo, batch_size=size)


@asynccontextmanager
async def bentoml(size: int) -> AsyncIterator[Process]:
    """BentoML's dispatcher, with a deadline that it never comes near."""
    from bentoml._internal.marshal.dispatcher import CorkDispatcher

    cork = CorkDispatcher(10_000, size, fallback=lambda: None)
    yield cork(echo)


@asynccontextmanager
async def dynamic(size: int) -> AsyncIterator[Process]:
    """DynamicBatcher with its defaults."""
    from async_batcher import DynamicBatcher

    async with DynamicBatcher(echo, max_batch_size=size) as batcher:
        submit = batcher.submit

        async def process(item: Any) -> Any:
            return await (await submit(item))

        yield process


@asynccontextmanager
async def flyte(size: int) -> AsyncIterator[Process]:
    """Flyte's DynamicBatcher with its defaults."""
    sys.path.append(str(PEERS / "flyte"))
    from flyte.extras import DynamicBatcher

    async with DynamicBatcher(echo, max_batch_size=size) as batcher:
        submit = batcher.submit

        async def process(item: Any) -> Any:
            return await (await submit(item))

        yield process


SUBJECTS: dict[str, Subject] = {
    "ours": ours,
    "floor": floor,
    "sleep": sleep,
    "async-batcher 0.2": ancestor,
    "aiodataloader": aiodataloader,
    "strawberry": strawberry,
    "batched": batched,
    "bentoml": bentoml,
}

TO_THE_FLOOR = [
    Target("over the floor", "ours.rate", "floor.rate", at_least=1.0),
    Target(
        "over the floor, on uvloop", "ours on uvloop.rate", "floor on uvloop.rate", at_least=1.0
    ),
]


def cases(measure: Callable[[str], Coroutine[Any, Any, Numbers]]) -> dict[str, Measure]:
    """Measure every subject on asyncio's loop, and ours and the floor on uvloop's as well."""

    def case(subject: str, loop: str) -> Numbers:
        return harness.run(measure(subject), loop)

    return {
        **{name: functools.partial(case, name, "asyncio") for name in SUBJECTS},
        **{
            f"{name} on uvloop": functools.partial(case, name, "uvloop")
            for name in ("ours", "floor")
        },
    }
