"""AsyncBatcher: collects single calls into batches and gives each caller its own answer."""

from __future__ import annotations

import abc
import asyncio
import warnings
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from async_batcher import _checks, _core
from async_batcher._limits import check_limits, limit, max_workers
from async_batcher._loops import call_in, cancel_tasks, set_done
from async_batcher._waiting import (
    is_called_by_batch,
    wait_for_space,
    wait_until_drained,
    wait_until_told,
)
from async_batcher.exceptions import BatcherStoppedError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from async_batcher._stats import BatcherStats

__all__ = ["AsyncBatcher"]

T = TypeVar("T")
S = TypeVar("S")

_DEPRECATED = {
    "batch_size": "use max_batch_size",
    "sleep_time": "it has no effect",
    "buffering_time": "it has no effect",
}


class AsyncBatcher(_core.Batcher[T, S], Generic[T, S], abc.ABC):
    """Collect single items into batches and process each batch at once.

    Subclass it, override :meth:`process_batch`, and await :meth:`process`
    from as many tasks as you like. One batcher serves any number of event
    loops and threads, one ``asyncio.run()`` after another, and a forked
    child. Nothing is started before the first item.

    Args:
        max_batch_size: Most items in a batch; -1: no limit.
        max_queue_time: Seconds the oldest item may wait for company while
            fewer than ``concurrency`` batches run. 0: no window; items of the
            same loop iteration go together, though a worker may begin with
            the first.
        concurrency: Most batches that run at once; -1: no limit.
        max_queue_size: Most items that wait in the queue; -1: no limit.
        executor: Where a sync ``process_batch`` runs; None: in threads of the
            batcher's own.
        max_batch_cost: Most cost of a batch; an item that is dearer goes
            alone; -1: no limit.
        max_queue_cost: Most cost that waits in the queue; -1: no limit.
        cost: The cost of an item, an int from 0 to 2**63-1. None: what
            ``item.estimate_cost()`` gives, or 1 where there is no such method.

    Raises:
        TypeError: A value is of the wrong type, a keyword is unknown, or the
            class has no ``process_batch``. A subclass that takes a private
            name of this class is one where it is defined.
        ValueError: A value is out of its range.

    Example:
        >>> import asyncio
        >>> class Doubler(AsyncBatcher[int, int]):
        ...     async def process_batch(self, batch: list[int]) -> list[int]:
        ...         return [2 * number for number in batch]
        >>> async def main() -> list[int]:
        ...     async with Doubler(max_batch_size=64, max_queue_time=0.002) as doubler:
        ...         return await asyncio.gather(*map(doubler.process, range(4)))
        >>> asyncio.run(main())
        [0, 2, 4, 6]
    """

    _is_stopping = False
    _is_stopped = False
    _is_forced = False

    def __init__(
        self,
        *,
        max_batch_size: int = -1,
        max_queue_time: float = 0.01,
        concurrency: int = 1,
        max_queue_size: int = -1,
        executor: Executor | None = None,
        max_batch_cost: int = -1,
        max_queue_cost: int = -1,
        cost: Callable[[T], int] | None = None,
        **deprecated: Any,
    ) -> None:
        # Not at import, which it would double; nor later, when files may not be had.
        from async_batcher._stats import make_stats

        for name in deprecated:
            if name not in _DEPRECATED:
                raise TypeError(
                    f"{type(self).__name__}() got an unexpected keyword argument {name!r}"
                )
            warnings.warn(
                f"{name} is deprecated: {_DEPRECATED[name]}", DeprecationWarning, stacklevel=2
            )
        _checks.check_executor("executor", executor)
        _checks.check_callable("cost", cost)
        limits: dict[str, Any] = {
            "max_batch_size": deprecated.get("batch_size", max_batch_size),
            "max_batch_cost": max_batch_cost,
            "max_queue_size": max_queue_size,
            "max_queue_cost": max_queue_cost,
            "concurrency": concurrency,
        }
        # Not in the literal: CPython 3.14 has no error set when memory fails for one of six.
        limits["max_queue_time"] = max_queue_time
        native = check_limits(limits)
        self._setup(max_workers(), executor, cost, "cost", ("estimate_cost",), 1)
        self._set_limits(None, limits, *native)
        self.__executor = executor
        self.__cost = cost
        self.__runners: set[asyncio.Future[None]] = set()
        self.__make_stats = make_stats

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in dir(AsyncBatcher):
            is_ours = name.startswith("_") and not name.startswith(("__", "_abc"))
            if is_ours and getattr(cls, name) is not getattr(AsyncBatcher, name):
                raise TypeError(
                    f"{cls.__name__} cannot have {name!r}: AsyncBatcher uses that name itself"
                )

    @abc.abstractmethod
    def process_batch(self, batch: list[T]) -> Any:
        """Process the items of one batch; override it, sync or async.

        An async one is awaited on the event loop, in a task of its own. A
        sync one runs in a worker thread, or in ``executor``.

        Args:
            batch: The items, in the order of submission; a list of your own.

        Returns:
            A sequence with one result for each item, in order; rows of an
            array count. An ``Exception`` instance in it is raised to that
            caller alone. None gives every caller None.

        Raises:
            BaseException: Whatever it raises, each caller gets an exception
                of its own with the original as ``__cause__``.

        Example:
            >>> class Upper(AsyncBatcher[str, str]):
            ...     def process_batch(self, batch: list[str]) -> list[str]:
            ...         return [text.upper() for text in batch]
            >>> asyncio.run(Upper().call("once"))
            'ONCE'
        """

    # ---- submitting ----

    async def call(self, item: T) -> S:
        """Process one item: the coroutine twin of :meth:`process`.

        Args:
            item: Anything; it is passed on as it is.

        Returns:
            Its result.

        Raises:
            QueueFullException: The queue is full.
            BatcherStoppedError: The batcher is stopped.
            BaseException: What ``process_batch`` raised.

        Example:
            >>> async def main() -> int:
            ...     async with Doubler() as doubler:
            ...         return await asyncio.create_task(doubler.call(21))
            >>> asyncio.run(main())
            42
        """
        return await self.process(item)

    async def submit(self, item: T) -> asyncio.Future[S]:
        """Wait for space in a bounded queue, then queue one item.

        Callers that wait are served first come, first served, and before any
        newcomer. One that is cancelled hands its place on.

        Args:
            item: Anything; it is passed on as it is.

        Returns:
            The future of its result.

        Raises:
            BatcherStoppedError: The batcher is stopped, or is while this waits.

        Example:
            >>> async def main() -> int:
            ...     async with Doubler(max_queue_size=1) as doubler:
            ...         future = await doubler.submit(21)
            ...         return await future
            >>> asyncio.run(main())
            42
        """
        future, space, number = self._submit(item, None)
        if space is not None:
            await wait_for_space(self, future, space, number)
        return future

    # ---- starting and stopping ----

    def start(self) -> None:
        """Start now; not needed, for the first item starts the batcher.

        Raises:
            BatcherStoppedError: The batcher was stopped; it stays stopped.

        Example:
            >>> Doubler().start()
        """
        if self._is_stopping:
            raise BatcherStoppedError("the batcher is stopped; it cannot be started again")
        self._begin()

    async def run(self) -> None:
        """Start, and return when the batcher is stopped.

        Raises:
            BatcherStoppedError: The batcher was stopped before.

        Example:
            >>> async def main() -> None:
            ...     doubler = Doubler()
            ...     running = asyncio.create_task(doubler.run())
            ...     await doubler.process(1)
            ...     await doubler.stop()
            ...     await running
            >>> asyncio.run(main())
        """
        self.start()
        stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.__runners.add(stopped)
        try:
            await stopped
        finally:
            self.__runners.discard(stopped)

    async def is_running(self) -> bool:
        """Tell whether the batcher is in use: from the first use until stopped.

        Returns:
            True or False.

        Example:
            >>> asyncio.run(Doubler().is_running())
            False
        """
        self._check()
        return bool(self._snapshot()["is_used"]) and not self._is_stopped

    async def idle(self) -> None:
        """Wait until nothing is queued or running and every caller is told.

        Raises:
            RuntimeError: Called from inside ``process_batch``.

        Example:
            >>> async def main() -> bool:
            ...     doubler = Doubler()
            ...     future = doubler.process(1)
            ...     await doubler.idle()
            ...     return future.done()
            >>> asyncio.run(main())
            True
        """
        self._check()
        if self._is_within():
            raise RuntimeError("process_batch cannot wait for its own batch to end")
        await self._watch(False)

    async def stop(self, force: bool = False, timeout: float | None = None) -> None:
        """Take no new items, and return when all the others have ended.

        What is queued goes at once, without waiting for windows. Stopping
        again waits again, unless the stop was forced; a stopped batcher stays
        stopped. Cancelling this call forces. Called from inside
        ``process_batch``, or in a done callback on one of its workers, it
        only begins the stop, for neither could end before.

        Args:
            force: Fail queued and running items with ``BatcherStoppedError``
                now, cancel the tasks of running batches and wait for no
                batch.
            timeout: Seconds to wait before the rest is forced; None: for ever.

        Raises:
            TimeoutError: ``timeout`` passed; the rest was forced.
            TypeError, ValueError: ``timeout`` is no number of seconds.

        Example:
            >>> async def main() -> int:
            ...     doubler = Doubler(max_queue_time=3600)
            ...     future = doubler.process(21)
            ...     await doubler.stop()
            ...     return future.result()
            >>> asyncio.run(main())
            42
        """
        self._check()
        timeout = _checks.check_timeout("timeout", timeout)
        self._is_stopping = True
        if force:
            self._force()
        if self._is_forced:  # and what a sync batch of then still does is nobody's
            await wait_until_told(self)
            return
        self._drain()
        # Neither its own batch nor, in a done callback, its own thread can end before it.
        if not (self._is_within() or self._is_worker()):
            await wait_until_drained(self, self._force, timeout)
        self._end_runs()

    def _is_within(self) -> bool:
        return self._is_inside() or (self.__executor is not None and is_called_by_batch(self))

    def _force(self) -> None:
        tasks = self._abort()
        self._is_forced = True  # which it is not where memory failed in there
        cancel_tasks(tasks)
        self._end_runs()

    def _end_runs(self) -> None:
        self._is_stopped = True
        for stopped in list(self.__runners):
            call_in(stopped.get_loop(), set_done, stopped)

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop(force=kind is not None)

    # ---- what it is and did ----

    @property
    def stats(self) -> BatcherStats:
        """A snapshot of what the batcher has done so far.

        Example:
            >>> Doubler().stats.completed
            0
        """
        self._check()
        return self.__make_stats(self._snapshot())

    if TYPE_CHECKING:
        max_batch_size: int
        max_queue_time: float
        concurrency: int
        max_queue_size: int
        max_batch_cost: int
        max_queue_cost: int
    else:
        max_batch_size = limit("max_batch_size")
        max_queue_time = limit("max_queue_time")
        concurrency = limit("concurrency")
        max_queue_size = limit("max_queue_size")
        max_batch_cost = limit("max_batch_cost")
        max_queue_cost = limit("max_queue_cost")

    @property
    def executor(self) -> Executor | None:
        """Where a sync ``process_batch`` runs; None: in threads of the batcher's own."""
        self._check()
        return self.__executor

    @property
    def cost(self) -> Callable[[T], int] | None:
        """The estimator that the batcher was made with."""
        self._check()
        return self.__cost

    def __reduce__(self) -> Any:
        raise TypeError(
            f"cannot pickle {type(self).__name__!r} object: for a process pool make process_batch"
            " a static method, a function or a functools.partial of one"
        )
