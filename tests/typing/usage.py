"""How users write it: strict type checkers must find nothing here, and infer these types."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from async_batcher import (
    AsyncBatcher,
    BatcherStats,
    BatchStats,
    CostEstimator,
    DynamicBatcher,
    Prompt,
    TokenBatcher,
    TokenEstimator,
    batched,
)
from async_batcher.batcher import AsyncBatcher as FromModule

if TYPE_CHECKING:
    from async_batcher.dynamic import CostEstimatorFn, InferenceFn, ProcessFn, TokenEstimatorFn


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


@dataclass
class Query:
    """A record that knows its cost and its tokens."""

    text: str

    def estimate_cost(self) -> int:
        return len(self.text)

    def estimate_tokens(self) -> int:
        return len(self.text.split())


async def lengths_of(queries: list[Query]) -> list[int]:
    """An async process_fn."""
    return [len(query.text) for query in queries]


def halves_of(numbers: list[int]) -> tuple[float, ...]:
    """A sync process_fn, which returns another sequence than a list."""
    return tuple(number / 2 for number in numbers)


async def answer(prompts: list[Prompt]) -> list[str]:
    """An inference_fn."""
    return [prompt.text for prompt in prompts]


def cost_of(query: Query) -> int:
    """A cost_estimator."""
    return query.estimate_cost()


def weigh(record: CostEstimator, prompt: TokenEstimator) -> int:
    """The protocols, as parameters."""
    return record.estimate_cost() + prompt.estimate_tokens()


def guess(record: object) -> int:
    """The protocols, as questions."""
    if isinstance(record, TokenEstimator):
        return record.estimate_tokens()
    return record.estimate_cost() if isinstance(record, CostEstimator) else 1


async def use_dynamic() -> None:
    process_fn: ProcessFn[Query, int] = lengths_of
    estimator: CostEstimatorFn[Query] = cost_of
    async with DynamicBatcher(
        process_fn, cost_estimator=estimator, target_batch_cost=100, batch_timeout_s=0
    ) as queries:
        future: asyncio.Future[int] = await queries.submit(Query("a"))
        dear: asyncio.Future[int] = await queries.submit(Query("b"), estimated_cost=128)
        costs: Sequence[int | None] = [1, None]
        both: list[asyncio.Future[int]] = await queries.submit_batch(
            [Query("c"), Query("d")], estimated_cost=costs
        )
        many: list[int] = await queries.process_many([Query("e")])
        print(await future, await dear, await asyncio.gather(*both), many)
    halves = DynamicBatcher(halves_of, max_batch_size=-1, max_queue_size=0, prefetch_batches=0)
    await halves.start()
    half: float = await (await halves.submit(1))
    await halves.stop()
    is_running: bool = halves.is_running
    stats: BatchStats = halves.stats
    counts: tuple[int, int, int, int] = (
        stats.total_submitted,
        stats.total_completed,
        stats.total_batches,
        stats.prefetched_batches,
    )
    share: float = stats.utilization
    print(half, is_running, counts, share, BatchStats() == stats)


async def use_tokens() -> None:
    inference_fn: InferenceFn[Prompt, str] = answer
    estimator: TokenEstimatorFn[Prompt] = Prompt.estimate_tokens
    async with TokenBatcher(inference_fn, target_batch_tokens=4096) as prompts:
        future: asyncio.Future[str] = await prompts.submit(Prompt("a"), estimated_tokens=2)
        futures: list[asyncio.Future[str]] = await prompts.submit_batch([Prompt("b")])
        print(await future, await futures[0])
    async with TokenBatcher(process_fn=answer, token_estimator=estimator) as prompts:
        text: str = await (await prompts.submit(Prompt("c"), estimated_cost=1))
    tokens: int = Prompt("d").estimate_tokens()
    print(text, tokens, weigh(Query("e"), Prompt("f")), guess("g"))


class Doubler(DynamicBatcher[int, int]):
    """A subclass with a function of its own."""

    def __init__(self, factor: int = 2) -> None:
        async def scale(batch: list[int]) -> list[int]:
            return [factor * number for number in batch]

        super().__init__(scale, max_batch_size=8)


async def use_subclass() -> None:
    async with Doubler(3) as doubler:
        itself: Doubler = doubler
        number: int = await itself.process(1)
        print(number)
