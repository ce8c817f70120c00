"""The decorator form: a function of a list becomes a function of one item."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, Protocol, TypeVar, overload

from async_batcher.batcher import AsyncBatcher

__all__ = ["Batched", "batched"]

T = TypeVar("T")
S = TypeVar("S")

_lock = threading.Lock()  # over the first access to an instance's batcher


class _FunctionBatcher(AsyncBatcher[T, S]):
    """An AsyncBatcher whose process_batch is the decorated function."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        super().__init__(**options)
        self.process_batch = function  # type: ignore[method-assign]

    def process_batch(self, batch: list[T]) -> Any:
        raise NotImplementedError  # every instance has the function in its place


class Batched(Generic[T, S]):
    """What :func:`batched` makes of a function or a method.

    Calling it with one item returns the future of its result. As a method it
    is made anew for each instance, in the instance's ``__dict__``; instance
    and batcher then form a cycle that the garbage collector frees.

    Attributes:
        batcher: The AsyncBatcher behind it.
    """

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._options = options
        self._name: str | None = None
        self.batcher: AsyncBatcher[T, S] = _FunctionBatcher(function, options)

    def __call__(self, item: T) -> asyncio.Future[S]:
        return self.batcher.process(item)

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Batched[T, S]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Batched[T, S]: ...
    def __get__(self, instance: object | None, owner: type) -> Batched[T, S]:
        if instance is None:
            return self
        # Not a data descriptor: from the second access on the instance's own
        # attribute is found before this is asked.
        attributes = getattr(instance, "__dict__", None)
        if attributes is None or self._name is None:
            raise TypeError(
                f"@batched needs a __dict__ on instances of {owner.__name__} to keep"
                f" {self._function.__name__!r} in"
            )
        with _lock:
            bound = attributes.get(self._name)
            if bound is None:
                method = self._function.__get__(instance, owner)
                bound = attributes[self._name] = Batched(method, self._options)
        own: Batched[T, S] = bound
        return own


class _Decorator(Protocol):
    """Infers item and result from the function: async or sync, alone or a method."""

    @overload
    def __call__(
        self, function: Callable[[list[T]], Coroutine[Any, Any, Sequence[S]]], /
    ) -> Batched[T, S]: ...
    @overload
    def __call__(
        self, function: Callable[[Any, list[T]], Coroutine[Any, Any, Sequence[S]]], /
    ) -> Batched[T, S]: ...
    @overload
    def __call__(self, function: Callable[[list[T]], Sequence[S]], /) -> Batched[T, S]: ...
    @overload
    def __call__(self, function: Callable[[Any, list[T]], Sequence[S]], /) -> Batched[T, S]: ...
    @overload
    def __call__(self, function: Callable[..., Any], /) -> Batched[Any, Any]: ...


def batched(**options: Any) -> _Decorator:
    """Make a function of a list callable with one item.

    Args:
        **options: As of :class:`AsyncBatcher`.

    Returns:
        A decorator for a function, or for a method: each instance then has a
        batcher of its own.

    Raises:
        TypeError, ValueError: An option is wrong; raised where the function
            is decorated.

    Example:
        >>> import asyncio
        >>> @batched(max_batch_size=64, max_queue_time=0.002)
        ... async def double(batch: list[int]) -> list[int]:
        ...     return [2 * number for number in batch]
        >>> async def main() -> list[int]:
        ...     return await asyncio.gather(double(1), double(2))
        >>> asyncio.run(main())
        [2, 4]
    """

    def decorate(function: Callable[..., Any]) -> Batched[Any, Any]:
        if not callable(function):
            raise TypeError(f"batched() decorates a callable, not {function!r}")
        return Batched(function, options)

    return decorate
