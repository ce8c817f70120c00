"""The forms of `process_batch`: how it gets its batch, and when it counts as async."""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import Any

import pytest
from support import AsyncRecorder, run

from async_batcher import AsyncBatcher, BatchResultError


class Named(AsyncBatcher[Any, Any]):
    async def process_batch(self, batch: list[Any]) -> list[Any]:
        return batch


class NamedSync(AsyncBatcher[Any, Any]):
    def process_batch(self, batch: list[Any]) -> list[Any]:
        return batch


class OtherName(AsyncBatcher[Any, Any]):
    async def process_batch(self, items: list[Any]) -> list[Any]:
        return items


class OtherNameSync(AsyncBatcher[Any, Any]):
    def process_batch(self, items: list[Any]) -> list[Any]:
        return items


class PositionalOnly(AsyncBatcher[Any, Any]):
    async def process_batch(self, batch: list[Any], /) -> list[Any]:
        return batch


class KeywordOnly(AsyncBatcher[Any, Any]):
    async def process_batch(self, *, batch: list[Any]) -> list[Any]:
        return batch


class KeywordOnlySync(AsyncBatcher[Any, Any]):
    def process_batch(self, *, batch: list[Any]) -> list[Any]:
        return batch


class Keywords(AsyncBatcher[Any, Any]):
    async def process_batch(self, **options: list[Any]) -> list[Any]:
        assert list(options) == ["batch"]
        return options["batch"]


class KeywordsSync(AsyncBatcher[Any, Any]):
    def process_batch(self, **options: list[Any]) -> list[Any]:
        assert list(options) == ["batch"]
        return options["batch"]


class PositionAndKeywords(AsyncBatcher[Any, Any]):
    async def process_batch(self, items: list[Any], **options: Any) -> list[Any]:  # type: ignore[override]
        assert options == {}
        return items


class Positions(AsyncBatcher[Any, Any]):
    async def process_batch(self, *arguments: list[Any]) -> list[Any]:
        (batch,) = arguments
        return batch


class Defaults(AsyncBatcher[Any, Any]):
    async def process_batch(self, batch: list[Any], scale: int = 1) -> list[Any]:
        assert scale == 1
        return batch


class SecondName(AsyncBatcher[Any, Any]):
    async def process_batch(self, scale: int = 1, batch: list[Any] | None = None) -> Any:
        assert scale == 1
        return batch


class Static(AsyncBatcher[Any, Any]):
    @staticmethod
    async def process_batch(batch: list[Any]) -> list[Any]:
        return batch


class StaticSync(AsyncBatcher[Any, Any]):
    @staticmethod
    def process_batch(batch: list[Any]) -> list[Any]:
        return batch


class OfClass(AsyncBatcher[Any, Any]):
    @classmethod
    async def process_batch(cls, batch: list[Any]) -> list[Any]:
        assert cls is OfClass
        return batch


class OfClassSync(AsyncBatcher[Any, Any]):
    @classmethod
    def process_batch(cls, items: list[Any]) -> list[Any]:
        assert cls is OfClassSync
        return items


async def scaled(scale: int, batch: list[Any]) -> list[Any]:
    assert scale == 1
    return batch


class Partial(AsyncBatcher[Any, Any]):
    process_batch = staticmethod(functools.partial(scaled, 1))  # type: ignore[assignment]


class BuiltIn(AsyncBatcher[Any, Any]):
    process_batch = staticmethod(list)  # type: ignore[assignment]


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    async def wrapper(*arguments: Any, **options: Any) -> Any:
        return await function(*arguments, **options)

    return wrapper


class Decorated(AsyncBatcher[Any, Any]):
    @decorated
    async def process_batch(self, batch: list[Any]) -> list[Any]:
        return batch


FORMS = [
    Named,
    NamedSync,
    OtherName,
    OtherNameSync,
    PositionalOnly,
    KeywordOnly,
    KeywordOnlySync,
    Keywords,
    KeywordsSync,
    PositionAndKeywords,
    Positions,
    Defaults,
    SecondName,
    Static,
    StaticSync,
    OfClass,
    OfClassSync,
    Partial,
    BuiltIn,
    Decorated,
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
async def test_form_of_process_batch_gets_its_batch(form: type[AsyncBatcher[Any, Any]]) -> None:
    """Scenario 12."""
    async with form(max_queue_time=0) as batcher:
        assert await batcher.process_many([1, 2, 3]) == [1, 2, 3]


class Callable:
    def __call__(self, batch: list[Any]) -> list[str]:
        return [f"callable {item}" for item in batch]


class AsyncCallable:
    async def __call__(self, batch: list[Any]) -> list[Any]:
        return batch


class Replaceable(AsyncBatcher[Any, Any]):
    def __init__(self, function: Any) -> None:
        super().__init__(max_queue_time=0)
        self.process_batch = function  # type: ignore[method-assign]

    def process_batch(self, batch: list[Any]) -> Any:
        raise NotImplementedError


async def coroutine_function(batch: list[Any]) -> list[str]:
    return [f"coroutine {item}" for item in batch]


ASSIGNED: list[tuple[Any, str]] = [
    (Callable(), "callable 1"),
    (coroutine_function, "coroutine 1"),
    (lambda items: [f"lambda {item}" for item in items], "lambda 1"),
    (functools.partial(coroutine_function), "coroutine 1"),
]


@pytest.mark.parametrize(
    ("function", "result"), ASSIGNED, ids=["callable", "coroutine", "lambda", "partial"]
)
async def test_process_batch_assigned_after_init_is_used(function: Any, result: str) -> None:
    """Scenario 12."""
    async with Replaceable(function) as batcher:
        assert await batcher.process(1) == result


async def test_object_with_async_call_is_no_coroutine_function() -> None:
    """Trap 12."""
    async with Replaceable(AsyncCallable()) as batcher:
        with pytest.raises(BatchResultError):
            await batcher.process(1)


async def test_async_process_batch_runs_on_the_loop_thread() -> None:
    threads: list[int] = []
    async with AsyncRecorder(lambda batch: threads.append(threading.get_ident())) as batcher:
        await batcher.process(1)
    assert threads == [threading.get_ident()]


async def test_every_batch_runs_in_a_task_of_its_own() -> None:
    tasks: list[Any] = []
    async with AsyncRecorder(lambda batch: tasks.append(asyncio.current_task())) as batcher:
        await batcher.process(1)
        await batcher.process(2)
    assert len({id(task) for task in (*tasks, asyncio.current_task())}) == 3


def test_slots_and_attributes_of_a_subclass_are_its_own() -> None:
    """Scenario 12."""

    class Slotted(AsyncBatcher[int, int]):
        __slots__ = ("factor",)

        def __init__(self, factor: int) -> None:
            super().__init__(max_queue_time=0)
            self.factor = factor

        async def process_batch(self, batch: list[int]) -> list[int]:
            return [self.factor * item for item in batch]

    assert run(Slotted(3).call(2)) == 6


def test_process_batch_may_be_inherited_from_a_mixin() -> None:
    """Scenario 12."""

    class Mixin:
        def process_batch(self, batch: list[int]) -> list[int]:
            return [item + 1 for item in batch]

    class Mixed(Mixin, AsyncBatcher[int, int]):
        pass

    assert run(Mixed(max_queue_time=0).call(2)) == 3
