"""contextvars: a batch sees the context its batcher was made in, and nothing of its callers'."""

from __future__ import annotations

import contextvars
from typing import Any

import pytest
from support import AsyncRecorder, Recorder, both, run

from async_batcher import batched

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


def look(batch: list[Any]) -> list[str]:
    """Answer each item with what the batch sees."""
    return [VARIABLE.get()] * len(batch)


def look_and_set(batch: list[Any]) -> list[str]:
    """Answer with what the batch sees, and leave something behind."""
    seen = look(batch)
    VARIABLE.set("left by a batch")
    return seen


@both
async def test_batch_does_not_see_its_callers_context(kind: type[Recorder]) -> None:
    """Trap 49."""
    async with kind(look, max_queue_time=0) as batcher:
        VARIABLE.set("caller")
        assert await batcher.process(1) == "unset"


@both
async def test_batch_sees_the_context_of_the_construction(kind: type[Recorder]) -> None:
    """Trap 49."""
    token = VARIABLE.set("constructor")
    batcher = kind(look, max_queue_time=0)
    VARIABLE.reset(token)
    async with batcher:
        assert await batcher.process(1) == "constructor"


@both
async def test_batch_does_not_see_what_the_one_before_left(kind: type[Recorder]) -> None:
    """Trap 49."""
    async with kind(look_and_set, max_queue_time=0) as batcher:
        assert [await batcher.process(item) for item in range(3)] == ["unset"] * 3


@both
async def test_caller_does_not_see_what_a_batch_left(kind: type[Recorder]) -> None:
    """Trap 49."""
    async with kind(look_and_set, max_queue_time=0) as batcher:
        await batcher.process(1)
        assert VARIABLE.get() == "unset"


@both
def test_context_of_the_first_loop_is_not_kept(kind: type[Recorder]) -> None:
    """Trap 49. Scenario 38."""
    batcher = kind(look, max_queue_time=0)

    async def main(value: str) -> str:
        VARIABLE.set(value)
        return await batcher.process(1)

    assert [run(main("first")), run(main("second"))] == ["unset", "unset"]


@pytest.mark.parametrize("name", ["caller-1", "caller-2"])
async def test_caller_keeps_its_own_context(name: str) -> None:
    """Trap 49."""
    async with AsyncRecorder(max_queue_time=0) as batcher:
        VARIABLE.set(name)
        await batcher.process(1)
        assert VARIABLE.get() == name


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_method_does_not_keep_the_context_of_its_first_caller(is_async: bool) -> None:
    """Trap 49. The batcher of an instance is made when somebody first uses it."""

    async def seen_on_the_loop(self: Any, batch: list[Any]) -> list[str]:
        return look(batch)

    def seen_in_a_worker(self: Any, batch: list[Any]) -> list[str]:
        return look(batch)

    class Service:
        seen = batched(max_queue_time=0)(seen_on_the_loop if is_async else seen_in_a_worker)

    VARIABLE.set("first caller")
    service = Service()
    assert await service.seen(1) == "unset"
    await service.seen.batcher.stop()
