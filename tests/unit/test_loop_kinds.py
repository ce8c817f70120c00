"""Loops of other makes and moods: without readers, in debug mode, eager, nested, refusing tasks."""

from __future__ import annotations

import asyncio
import heapq
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support import (
    PATIENCE,
    AsyncRecorder,
    NoReaders,
    Recorder,
    both,
    finished,
    new_loop,
    no_loop_errors,
    run,
)

from async_batcher import AsyncBatchException

if TYPE_CHECKING:
    import collections
    import selectors
    from collections.abc import Callable
    from concurrent.futures import Future

    from conftest import Clock


@both
@pytest.mark.parametrize("window", [0, 0.002])
def test_loop_without_add_reader_works(kind: type[Recorder], window: float) -> None:
    """Scenario 41."""

    async def main() -> list[Any]:
        async with kind(max_queue_time=window, max_batch_size=3) as batcher:
            one = await batcher.process(1)
            other = await asyncio.to_thread(
                lambda: batcher.process_threadsafe(2).result(PATIENCE),
            )
            return [one, other, *await batcher.process_many(range(10))]

    assert run(main(), factory=NoReaders) == [1, 2, *range(10)]


@both
def test_loop_in_debug_mode_works(kind: type[Recorder]) -> None:
    """Scenario 42. Trap 48."""

    async def main() -> list[Any]:
        async with kind(max_queue_time=0.001, max_batch_size=3) as batcher:
            return await batcher.process_many(range(10))

    assert run(main(), debug=True) == list(range(10))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
@both
@pytest.mark.parametrize("window", [0, 0.001])
def test_eager_tasks_work(kind: type[Recorder], window: float) -> None:
    """Scenario 43. Trap 48."""

    async def main() -> list[Any]:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        async with kind(max_queue_time=window, max_batch_size=3) as batcher:
            tasks = [asyncio.create_task(batcher.call(item)) for item in range(10)]
            return [*await finished(*tasks), *await batcher.process_many(range(10))]

    assert run(main()) == [*range(10), *range(10)]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_eager_batch_that_processes_and_stops_inside_works() -> None:
    """Scenario 43. Scenario 30."""

    class Busy(AsyncRecorder):
        async def process_batch(self, batch: list[Any]) -> Any:
            if batch == ["again"]:
                return batch
            futures.append(self.process("again"))
            return await super().process_batch(batch)

    futures: list[asyncio.Future[Any]] = []

    async def main() -> list[Any]:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        async with Busy(max_queue_time=0, concurrency=2) as batcher:
            return [await batcher.process(1), await futures[0]]

    assert run(main()) == [1, "again"]


async def test_task_factory_that_raises_loses_no_other_batcher(clock: Clock) -> None:
    """Scenario 92."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)
    batchers = [AsyncRecorder(max_queue_time=1) for _ in range(3)]
    futures = [batcher.process(index) for index, batcher in enumerate(batchers)]
    refusals = [RuntimeError("no task today")]

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        if refusals:
            coroutine.close()
            raise refusals.pop()
        return asyncio.Task(coroutine, loop=loop, **options)

    loop.set_task_factory(factory)
    clock.advance(2)
    answers = await finished(*futures)
    loop.set_task_factory(None)
    failed = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(failed) == 1
    assert isinstance(failed[0], (RuntimeError, AsyncBatchException))
    for batcher in batchers:
        await batcher.stop()


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
async def test_interrupt_inside_our_callback_loses_no_other_batcher(
    clock: Clock, interrupt: type[BaseException]
) -> None:
    """Scenario 92. Scenario 62."""
    loop = asyncio.get_running_loop()
    batchers = [AsyncRecorder(max_queue_time=1) for _ in range(5)]
    futures = [batcher.process(index) for index, batcher in enumerate(batchers)]
    interrupts = [interrupt(), interrupt()]

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        if interrupts:
            coroutine.close()
            raise interrupts.pop()  # as a signal's handler would, had it come now
        return asyncio.Task(coroutine, loop=loop, **options)

    loop.set_task_factory(factory)
    clock.advance(2)
    answers = await finished(*futures)
    loop.set_task_factory(None)
    told = {answer for answer in answers if not isinstance(answer, interrupt)}
    assert len(told) == 3
    assert told < set(range(5))
    for batcher in batchers:
        await batcher.stop()


@both
def test_loop_inside_a_callback_of_another_works(kind: type[Recorder]) -> None:
    """Scenario 92. Scenario 87."""
    batcher = kind(max_queue_time=0)

    def nested(answer: asyncio.Future[Any]) -> None:
        """Run a loop inside a callback of another: inside a task asyncio forbids it."""
        running = asyncio.get_running_loop()
        asyncio._set_running_loop(None)  # noqa: SLF001
        inner_loop = new_loop()
        try:
            answer.set_result(inner_loop.run_until_complete(batcher.call("inner")))
        finally:
            inner_loop.close()
            asyncio._set_running_loop(running)  # noqa: SLF001

    async def main() -> Any:
        outer = await batcher.process("outer")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        loop.call_soon(nested, answer)
        return outer, await answer, await batcher.process("again")

    assert run(main()) == ("outer", "inner", "again")


class Nesting(asyncio.SelectorEventLoop):
    """A loop that may run on inside its own callbacks, as nest_asyncio has it; uvloop cannot."""

    _ready: collections.deque[asyncio.Handle]
    _scheduled: list[Any]
    _selector: selectors.BaseSelector

    def _run_once(self) -> None:
        """Go round once, and bear it that a callback went round, too."""
        due = self._ready or self._stopping  # type: ignore[attr-defined]
        wait_s = 0 if due else self._scheduled[0].when() - self.time() if self._scheduled else None
        self._process_events(self._selector.select(wait_s))  # type: ignore[attr-defined]
        while self._scheduled and self._scheduled[0].when() <= self.time():
            self._ready.append(heapq.heappop(self._scheduled))
        for _ in range(len(self._ready)):
            if self._ready and not (handle := self._ready.popleft()).cancelled():
                handle._run()  # noqa: SLF001

    def run_on(self, rounds: int = 25) -> None:
        """Go round, inside a callback or a task, without waiting for anything."""
        task = asyncio.current_task(self)
        if task is not None:
            asyncio.tasks._leave_task(self, task)  # noqa: SLF001
        for _ in range(rounds):
            self.call_soon(int)
            self._run_once()
        if task is not None:
            asyncio.tasks._enter_task(self, task)  # noqa: SLF001


class RunsOn:
    """Runs its loop on, once, and looks which of `futures` are done then."""

    def __init__(self) -> None:
        self.loop = Nesting()
        self.futures: list[Future[Any]] = []
        self.seen: list[bool] = []

    def __call__(self, *_: Any) -> None:
        if self.futures and not self.seen:
            self.seen.append(False)  # not again in the nested run
            self.loop.run_on()
            self.seen[:] = [future.done() for future in self.futures]

    def as_task_factory(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Task[Any]:
        self()
        return asyncio.Task(coroutine, loop=loop, **options)

    def run(self, prepare: Callable[[], None]) -> list[Any]:
        """Return the answers of three callers, whose letters are in the mailbox all at once."""
        return run(self.main(prepare), factory=lambda: self.loop)

    async def main(self, prepare: Callable[[], None]) -> list[Any]:
        batchers = [AsyncRecorder(max_queue_time=0) for _ in range(3)]
        for batcher in batchers:
            await batcher.process("first")

        def post() -> None:
            futures = [batcher.process_threadsafe(n) for n, batcher in enumerate(batchers)]
            self.futures += futures

        with no_loop_errors():
            thread = threading.Thread(target=post)
            thread.start()
            thread.join()  # and the loop stands still until all three letters are there
            prepare()
            answers = await asyncio.gather(*map(asyncio.wrap_future, self.futures))
            for batcher in batchers:
                await batcher.stop()
        return answers


# Time that passes would be more mail in the nested run: that is one more call of a callback that
# runs, asyncio refuses it its context and logs that, and the log keeps the loop.
at_once = pytest.mark.usefixtures("clock")


@at_once
def test_loop_that_runs_on_inside_our_callback_loses_no_letter() -> None:
    """Scenario 92."""
    nested = RunsOn()
    answers = nested.run(lambda: nested.loop.set_task_factory(nested.as_task_factory))
    assert nested.seen[0] is False  # its task is what the factory was asked for
    assert answers == [0, 1, 2]


@at_once
def test_loop_that_runs_on_inside_a_done_callback_serves_the_other_batchers() -> None:
    """Scenario 92."""
    nested = RunsOn()
    answers = nested.run(lambda: nested.futures[0].add_done_callback(nested))
    assert nested.seen == [True] * 3
    assert answers == [0, 1, 2]


@at_once
def test_loop_that_runs_on_inside_our_callback_serves_the_other_batchers() -> None:
    """Scenario 92."""
    nested = RunsOn()
    nested.run(lambda: nested.loop.set_task_factory(nested.as_task_factory))
    assert nested.seen == [False, True, True]
