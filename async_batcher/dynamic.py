"""DynamicBatcher and TokenBatcher: batches filled to a budget of cost, with back-pressure.

The API is that of ``flyte.extras.DynamicBatcher``; the queue, the policy and the dispatch are those
of :class:`async_batcher.AsyncBatcher`.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic

from async_batcher import _checks, _core
from async_batcher._limits import max_workers
from async_batcher._loops import cancel_tasks
from async_batcher._records import (
    CostEstimator,
    CostEstimatorFn,
    InferenceFn,
    ProcessFn,
    Prompt,
    RecordT,
    ResultT,
    TokenEstimator,
    TokenEstimatorFn,
)
from async_batcher._stats import BatchStats
from async_batcher._waiting import wait_for_space, wait_until_drained, wait_until_told

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = [
    "BatchStats",
    "CostEstimator",
    "CostEstimatorFn",
    "DynamicBatcher",
    "InferenceFn",
    "ProcessFn",
    "Prompt",
    "TokenBatcher",
    "TokenEstimator",
    "TokenEstimatorFn",
]


def _callable_of(function: Any) -> Any:
    """The function, or of an object whose ``__call__`` is async that method."""
    if isinstance(function, functools.partial):
        return functools.partial(_callable_of(function.func), *function.args, **function.keywords)
    method = getattr(function, "__call__", None)  # noqa: B004
    if not inspect.isroutine(function) and inspect.iscoroutinefunction(method):
        return method
    return function


def _costs_given(costs: Sequence[int | None] | None, count: int) -> list[int | None]:
    """The ``estimated_cost`` of a call for each of ``count`` records."""
    if costs is None:
        return [None] * count
    try:
        given = list(costs)
    except TypeError:
        allowed = "a sequence with the cost of each record"
        raise _checks.fail(TypeError, "estimated_cost", costs, allowed) from None
    if len(given) != count:
        raise ValueError(f"estimated_cost must be as long as records, {count}, not {len(given)}")
    return given


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Look at how it ended, or asyncio would complain that nobody did."""
    if not future.cancelled():
        future.exception()


class DynamicBatcher(_core.Batcher[RecordT, ResultT], Generic[RecordT, ResultT]):
    """Fill batches up to a budget of cost and process them one at a time.

    A batch goes when its cost reaches ``target_batch_cost``, when it has
    ``max_batch_size`` records, or when its oldest record has waited
    ``batch_timeout_s``; and not before the one that runs has ended. It never
    costs more than the budget, but that a record that is dearer goes alone.
    Records go in the order in which they were submitted.

    Args:
        process_fn: A coroutine function of a list of records; a plain
            function runs in a worker thread. It returns a result for each,
            in order; all that ``AsyncBatcher.process_batch`` may return or
            raise has the same meaning here.
        cost_estimator: The cost of a record, an int from 0 to 2**63-1. None:
            what ``record.estimate_cost()`` gives, or ``default_cost`` where
            there is no such method.
        target_batch_cost: Most cost of a batch, at least 1; -1: no limit.
        max_batch_size: Most records in a batch; -1: no limit.
        min_batch_size: Records wanted in a batch, at most ``max_batch_size``.
            Fewer go all the same once ``batch_timeout_s`` is over or the
            budget is full, so nothing can wait for company that never comes.
        batch_timeout_s: Seconds the oldest record may wait for company while
            no batch runs; 0: none, all that is there goes at once.
        max_queue_size: Most records that wait in the queue; 0: no limit.
        prefetch_batches: Batches assembled from the queue while one runs; 0:
            no limit. Their records, and those of the batch that is being
            assembled behind them, do not count in ``max_queue_size``. Each
            goes on growing until its turn.
        default_cost: Cost of a record that nothing else tells the cost of.

    Raises:
        TypeError: A value is of the wrong type.
        ValueError: A value is out of its range.

    Example:
        >>> async def count_words(texts: list[str]) -> list[int]:
        ...     return [len(text.split()) for text in texts]
        >>> async def main() -> list[int]:
        ...     async with DynamicBatcher(count_words, cost_estimator=len) as batcher:
        ...         futures = await batcher.submit_batch(["to be", "or not to be"])
        ...         return [await future for future in futures]
        >>> asyncio.run(main())
        [2, 4]
    """

    _calls_by_position = True  # whatever the parameter of process_fn is called
    _estimates: tuple[str, ...] = ("estimate_cost",)  # methods of records, the first asked first
    _estimator_name = "cost_estimator"
    _function_name = "process_fn"
    _is_forced = False
    _is_running = False  # here, too: a subclass may skip __init__, and is told so

    def __init__(
        self,
        process_fn: ProcessFn[RecordT, ResultT],
        *,
        cost_estimator: CostEstimatorFn[RecordT] | None = None,
        target_batch_cost: int = 32_000,
        max_batch_size: int = 256,
        min_batch_size: int = 1,
        batch_timeout_s: float = 0.05,
        max_queue_size: int = 5_000,
        prefetch_batches: int = 2,
        default_cost: int = 1,
    ) -> None:
        if not callable(process_fn):
            raise _checks.fail(TypeError, self._function_name, process_fn, "callable")
        _checks.check_callable(self._estimator_name, cost_estimator)
        size = _checks.check_limit("max_batch_size", max_batch_size)
        limits = (
            size,
            _checks.check_limit("target_batch_cost", target_batch_cost),
            _checks.check_bound("max_queue_size", max_queue_size),
            _checks.UNLIMITED,  # cost in the queue
            1,  # batch at a time
            _checks.check_seconds("batch_timeout_s", batch_timeout_s),
            _checks.check_bound("prefetch_batches", prefetch_batches),
            True,  # records are asked for their cost
        )
        # Checked, and not kept: a batch that is not full waits for the timeout in any case.
        _checks.check_count("min_batch_size", min_batch_size, "max_batch_size", size)
        default_cost = _checks.check_cost("default_cost", default_cost)
        self._setup(
            max_workers(), None, cost_estimator, self._estimator_name, self._estimates, default_cost
        )
        self._set_limits(None, None, *limits)
        self.process_batch: Any = _callable_of(process_fn)
        self._stopping_on: list[asyncio.AbstractEventLoop] = []  # one for each stop() that waits
        self._drain()  # until start()

    # ---- starting and stopping ----

    async def start(self) -> None:
        """Accept records, for the first time or again after :meth:`stop`.

        Raises:
            RuntimeError: The batcher is running, or a stop is under way.

        Example:
            >>> async def main() -> bool:
            ...     batcher = DynamicBatcher(process_fn=list)
            ...     await batcher.start()
            ...     try:
            ...         return batcher.is_running
            ...     finally:
            ...         await batcher.stop()
            >>> asyncio.run(main())
            True
        """
        self._check()
        # A stop() on a loop that was closed meanwhile goes nowhere any more.
        is_stopping = any(not loop.is_closed() for loop in self._stopping_on)
        if self._is_running or is_stopping:
            state = "running" if self._is_running else "running: it is about to stop"
            raise RuntimeError(f"{type(self).__name__} is already {state}")
        self._reopen()
        self._is_forced = False
        self._is_running = True

    async def stop(self) -> None:
        """Accept no more records, and return when all the others have ended.

        What waits goes at once. Callers that wait for space get a
        RuntimeError. Stopping what is stopped does nothing. Cancelling this
        call fails the records that are left. Called from inside
        ``process_fn``, or in a done callback on its worker, it only begins
        the stop.

        Example:
            >>> async def main() -> list[str]:
            ...     batcher = DynamicBatcher(list, batch_timeout_s=3600)
            ...     await batcher.start()
            ...     future = await batcher.submit("kept")
            ...     await batcher.stop()
            ...     return future.result()
            >>> asyncio.run(main())
            'kept'
        """
        self._check()
        self._is_running = False
        self._drain()
        if self._is_forced or self._is_inside() or self._is_worker():
            return
        loop = asyncio.get_running_loop()
        self._stopping_on.append(loop)
        try:
            await wait_until_drained(self, self._force, None)
        finally:
            self._stopping_on.remove(loop)

    def _force(self) -> None:
        self._is_running = False
        tasks = self._abort()
        self._is_forced = True  # which it is not where memory failed in there
        cancel_tasks(tasks)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            await self.stop()
        else:
            self._force()
            await wait_until_told(self)

    # ---- submitting ----

    async def submit(
        self, record: RecordT, *, estimated_cost: int | None = None
    ) -> asyncio.Future[ResultT]:
        """Wait for space in the queue, then queue one record.

        Callers that wait are served first come, first served. One that is
        cancelled hands its place on.

        Args:
            record: Anything; it is passed on as it is.
            estimated_cost: Its cost, from 0 to 2**63-1. None: what the
                estimator, the record or ``default_cost`` says.

        Returns:
            The future of its result.

        Raises:
            RuntimeError: The batcher is not running, or stops while this
                waits; or this is ``process_fn``, which would wait for itself.
            TypeError, ValueError: The cost is no int from 0 to 2**63-1.
            BaseException: What the estimator raised.

        Example:
            >>> async def main() -> str:
            ...     async with DynamicBatcher(process_fn=list) as batcher:
            ...         future = await batcher.submit("record", estimated_cost=128)
            ...         return await future
            >>> asyncio.run(main())
            'record'
        """
        if not self._is_running:
            raise self._not_running()
        future, space, number = self._submit(record, estimated_cost)
        if space is not None:
            await wait_for_space(self, future, space, number)
        return future

    async def submit_batch(
        self, records: Sequence[RecordT], *, estimated_cost: Sequence[int | None] | None = None
    ) -> list[asyncio.Future[ResultT]]:
        """Queue many records, in order; wait for space where it is short.

        All costs are looked at first: where one is wrong, no record is
        queued. Cancelling this call cancels the records that still wait; one
        that is refused because the batcher stops leaves those before it
        accepted.

        Args:
            records: An iterable of records.
            estimated_cost: The cost of each; None among them as in
                :meth:`submit`.

        Returns:
            The futures of their results, in order.

        Raises:
            ValueError: ``estimated_cost`` is not as long as ``records``.
            RuntimeError, TypeError, ValueError, BaseException: As in
                :meth:`submit`.

        Example:
            >>> async def main() -> list[str]:
            ...     async with DynamicBatcher(process_fn=list) as batcher:
            ...         futures = await batcher.submit_batch("abc", estimated_cost=[1, 2, 3])
            ...         return await asyncio.gather(*futures)
            >>> asyncio.run(main())
            ['a', 'b', 'c']
        """
        if not self._is_running:
            raise self._not_running()
        records = list(records)
        given = _costs_given(estimated_cost, len(records))
        costs = [self._cost_of(*pair) for pair in zip(records, given, strict=True)]
        futures: list[asyncio.Future[ResultT]] = []
        try:
            for record, cost in zip(records, costs, strict=True):
                future, space, number = self._submit(record, cost)
                if space is not None:
                    await wait_for_space(self, future, space, number)
                futures.append(future)
        except asyncio.CancelledError:
            for future in futures:
                future.cancel()
            raise
        except BaseException:
            for future in futures:
                future.add_done_callback(_retrieve)  # nobody else has them
            raise
        return futures

    def _not_running(self) -> RuntimeError:
        self._check()
        return RuntimeError(
            f"{type(self).__name__} is not running: use 'async with', or await start() first"
        )

    # ---- what it is and did ----

    @property
    def is_running(self) -> bool:
        """Whether records are accepted: from ``start()`` until ``stop()``."""
        self._check()
        return self._is_running

    @property
    def stats(self) -> BatchStats:
        """A snapshot of what the batcher has done so far.

        Example:
            >>> DynamicBatcher(process_fn=list).stats.total_batches
            0
        """
        self._check()
        counted = self._snapshot()
        batches = counted["batches"]
        return BatchStats(
            total_submitted=counted["submitted"],
            total_completed=counted["completed"] + counted["failed"],
            total_batches=batches,
            total_batch_cost=counted["total_cost"],
            avg_batch_size=counted["batched_items"] / batches if batches else 0.0,
            avg_batch_cost=counted["total_cost"] / batches if batches else 0.0,
            busy_time_s=counted["busy_s"],
            idle_time_s=counted["idle_s"],
            prefetched_batches=counted["prefetched"],
        )

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")


class TokenBatcher(DynamicBatcher[RecordT, ResultT]):
    """A DynamicBatcher whose cost is counted in tokens, for language models.

    Records may have ``estimate_tokens()``, which is asked before
    ``estimate_cost()``. The parameters not named here are those of
    :class:`DynamicBatcher`.

    Args:
        inference_fn: What ``process_fn`` is there; one of the two is needed,
            and this one wins.
        process_fn: The same.
        token_estimator: The number of tokens of a record; wins over
            ``cost_estimator``.
        cost_estimator: The same.
        target_batch_tokens: Most tokens of a batch; None:
            ``target_batch_cost``.
        target_batch_cost: The same.
        default_token_estimate: Tokens of a record that nothing else tells
            the number of; None: ``default_cost``.
        default_cost: The same.

    Raises:
        TypeError: A value is of the wrong type, or there is no function.
        ValueError: A value is out of its range.

    Example:
        >>> async def answer(prompts: list[Prompt]) -> list[str]:
        ...     return [prompt.text.upper() for prompt in prompts]
        >>> async def main() -> str:
        ...     async with TokenBatcher(answer, target_batch_tokens=4096) as batcher:
        ...         return await (await batcher.submit(Prompt("why?")))
        >>> asyncio.run(main())
        'WHY?'
    """

    _estimates = ("estimate_tokens", "estimate_cost")

    def __init__(
        self,
        inference_fn: InferenceFn[RecordT, ResultT] | None = None,
        *,
        process_fn: ProcessFn[RecordT, ResultT] | None = None,
        token_estimator: TokenEstimatorFn[RecordT] | None = None,
        cost_estimator: CostEstimatorFn[RecordT] | None = None,
        target_batch_tokens: int | None = None,
        target_batch_cost: int = 32_000,
        default_token_estimate: int | None = None,
        default_cost: int = 1,
        max_batch_size: int = 256,
        min_batch_size: int = 1,
        batch_timeout_s: float = 0.05,
        max_queue_size: int = 5_000,
        prefetch_batches: int = 2,
    ) -> None:
        if inference_fn is not None:
            self._function_name = "inference_fn"
        function = process_fn if inference_fn is None else inference_fn
        if function is None:
            raise TypeError(f"{type(self).__name__} requires either 'inference_fn' or 'process_fn'")
        if token_estimator is not None:
            cost_estimator, self._estimator_name = token_estimator, "token_estimator"
        if target_batch_tokens is not None:
            _checks.check_limit("target_batch_tokens", target_batch_tokens)
            target_batch_cost = target_batch_tokens
        if default_token_estimate is not None:
            default_cost = _checks.check_cost("default_token_estimate", default_token_estimate)
        super().__init__(
            function,
            cost_estimator=cost_estimator,
            target_batch_cost=target_batch_cost,
            max_batch_size=max_batch_size,
            min_batch_size=min_batch_size,
            batch_timeout_s=batch_timeout_s,
            max_queue_size=max_queue_size,
            prefetch_batches=prefetch_batches,
            default_cost=default_cost,
        )

    async def submit(
        self,
        record: RecordT,
        *,
        estimated_tokens: int | None = None,
        estimated_cost: int | None = None,
    ) -> asyncio.Future[ResultT]:
        """As in :class:`DynamicBatcher`.

        Args:
            record: Anything; it is passed on as it is.
            estimated_tokens: Its number of tokens; wins over ``estimated_cost``.
            estimated_cost: The same.

        Returns:
            The future of its result.

        Raises:
            RuntimeError, TypeError, ValueError, BaseException: As there.

        Example:
            >>> async def main() -> str:
            ...     async with TokenBatcher(process_fn=list) as batcher:
            ...         return await (await batcher.submit("why?", estimated_tokens=2))
            >>> asyncio.run(main())
            'why?'
        """
        if estimated_tokens is not None:
            estimated_cost = _checks.check_cost("estimated_tokens", estimated_tokens)
        return await super().submit(record, estimated_cost=estimated_cost)
