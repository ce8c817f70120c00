"""`process` and `call`: one item in, one future or coroutine out."""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from typing import Any

import pytest
from support import (
    LONG,
    AsyncRecorder,
    Recorder,
    SyncRecorder,
    both,
    collected,
    in_threads,
    outcome,
    run,
)

from async_batcher import AsyncBatcher


@both
async def test_process_returns_a_pending_future_of_the_running_loop(kind: type[Recorder]) -> None:
    async with kind(max_queue_time=LONG) as batcher:
        future = batcher.process(1)
        assert isinstance(future, asyncio.Future)
        assert future.get_loop() is asyncio.get_running_loop()
        assert not future.done()


@both
async def test_item_gets_its_own_result(kind: type[Recorder]) -> None:
    async with kind(lambda batch: [2 * item for item in batch]) as batcher:
        assert await asyncio.gather(*map(batcher.process, range(50))) == list(range(0, 100, 2))


@both
async def test_item_may_be_given_by_keyword(kind: type[Recorder]) -> None:
    async with kind() as batcher:
        assert await batcher.process(item=3) == 3
        assert await batcher.call(item=4) == 4
        assert await (await batcher.submit(item=5)) == 5


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [((), {}), ((1, 2), {}), ((1,), {"item": 2}), ((), {"thing": 1}), ((1,), {"nothing": 2})],
)
async def test_other_arguments_are_a_type_error(
    arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    async with AsyncRecorder() as batcher:
        with pytest.raises(TypeError):
            await batcher.process(*arguments, **keywords)
        assert batcher.stats.submitted == 0


@both
async def test_call_is_a_coroutine_that_gives_the_result(kind: type[Recorder]) -> None:
    """Scenario 21."""
    async with kind() as batcher:
        coroutine = batcher.call(1)
        assert asyncio.iscoroutine(coroutine)
        assert await asyncio.create_task(coroutine) == 1


def test_asyncio_run_takes_call() -> None:
    """Scenario 21."""
    assert run(AsyncRecorder().call(1)) == 1


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup is new in 3.11")
async def test_task_group_takes_call() -> None:
    """Scenario 21."""
    async with AsyncRecorder() as batcher:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(batcher.call(item)) for item in range(3)]
        assert [task.result() for task in tasks] == [0, 1, 2]


async def test_gather_and_wait_for_take_the_future() -> None:
    async with AsyncRecorder() as batcher:
        assert await asyncio.gather(batcher.process(1), batcher.process(2)) == [1, 2]
        assert await asyncio.wait_for(batcher.process(3), LONG) == 3


class Strange:
    """An item on which every question fails."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")

    def __hash__(self) -> int:
        raise AssertionError("hashed")

    def __bool__(self) -> bool:
        raise AssertionError("tested for truth")

    def __len__(self) -> int:
        raise AssertionError("measured")


STRANGE = [
    None,
    0,
    "",
    float("nan"),
    [],
    [1, 2],
    {"unhashable": []},
    (),
    ValueError,
    Strange(),
    bytearray(1_000_000),
    asyncio.sleep,
    NotImplemented,
    ...,
]


@both
@pytest.mark.parametrize("item", STRANGE, ids=lambda item: type(item).__name__)
async def test_item_is_opaque(kind: type[Recorder], item: Any) -> None:
    """Scenario 13. Trap 29."""
    async with kind() as batcher:
        assert await batcher.process(item) is item
        assert batcher.seen[0][0] is item


@both
async def test_exception_as_item_is_opaque(kind: type[Recorder]) -> None:
    """Trap 29."""
    error = ValueError("an item")
    async with kind(lambda batch: [type(item).__name__ for item in batch]) as batcher:
        assert await batcher.process(error) == "ValueError"
        assert batcher.seen[0][0] is error


async def test_awaitable_as_item_is_not_awaited() -> None:
    """Trap 29."""
    item = asyncio.get_running_loop().create_future()
    async with AsyncRecorder(lambda batch: [len(batch)]) as batcher:
        assert await batcher.process(item) == 1
        assert batcher.seen[0][0] is item


@both
async def test_batch_is_a_fresh_list(kind: type[Recorder]) -> None:
    given: list[Any] = []

    def keep(batch: list[Any]) -> None:
        given.append(batch)

    async with kind(keep) as batcher:
        await batcher.process(1)
        await batcher.process(2)
    assert [type(batch) for batch in given] == [list, list]
    assert given == [[1], [2]]


def test_process_without_a_running_loop_is_a_runtime_error() -> None:
    """Scenario 44."""
    batcher = AsyncRecorder()
    with pytest.raises(RuntimeError):
        batcher.process(1)
    with pytest.raises(RuntimeError):
        batcher.process_many([1])
    assert (batcher.stats.submitted, batcher.stats.queued) == (0, 0)


async def test_process_from_a_plain_thread_queues_nothing() -> None:
    """Scenario 44."""
    async with AsyncRecorder() as batcher:
        await batcher.process(0)

        def body(_index: int) -> None:
            with pytest.raises(RuntimeError):
                batcher.process(1)

        await asyncio.to_thread(in_threads, 2, body)
        await batcher.idle()
        assert batcher.seen == [[0]]


class Nested(AsyncBatcher[int, Any]):
    """Answers an item above 0 with what the batcher itself makes of the item below."""

    async def process_batch(self, batch: list[int]) -> list[Any]:
        return [await outcome(lambda i=i: self.process(i - 1)) if i else "bottom" for i in batch]


@pytest.mark.parametrize("window", [0, 0.001])
async def test_process_inside_process_batch_fails_when_it_would_wait_for_itself(
    window: float,
) -> None:
    """Trap 16."""
    errors: list[BaseException] = []

    class SelfAwaiting(AsyncBatcher[int, str]):
        async def process_batch(self, batch: list[int]) -> list[str]:
            future = self.process(1)
            assert future.done()
            errors.append(await outcome(lambda: future))  # type: ignore[arg-type]
            return ["outer"] * len(batch)

    async with SelfAwaiting(max_queue_time=window) as batcher:
        assert await batcher.process(0) == "outer"
        assert [type(error) for error in errors] == [RuntimeError]
        assert await batcher.process(0) == "outer"


async def test_process_inside_process_batch_works_with_a_second_permit() -> None:
    """Trap 16."""
    async with Nested(concurrency=2, max_queue_time=0) as batcher:
        assert await batcher.process(1) == "bottom"


async def test_other_tasks_may_process_while_a_batch_runs() -> None:
    """Trap 16."""
    futures: list[asyncio.Future[int]] = []

    class Spawning(AsyncBatcher[int, int]):
        async def process_batch(self, batch: list[int]) -> list[int]:
            async def add() -> None:
                futures.append(self.process(1))

            if not futures:
                await asyncio.create_task(add())
            return batch

    async with Spawning(max_queue_time=0) as batcher:
        assert await batcher.process(0) == 0
        assert await futures[0] == 1


@both
async def test_temporary_batcher_answers_and_is_gone(kind: type[Recorder]) -> None:
    """Scenario 98."""
    references: list[weakref.ref[Recorder]] = []

    def temporary() -> Recorder:
        batcher = kind()
        references.append(weakref.ref(batcher))
        return batcher

    assert await temporary().process(1) == 1
    await collected(references[0])


def test_sync_process_batch_does_not_run_on_the_loop_thread() -> None:
    names: list[int] = []

    async def main() -> None:
        async with SyncRecorder(lambda batch: names.append(threading.get_ident())) as batcher:
            await batcher.process(1)

    run(main())
    assert names[0] != threading.get_ident()
