"""The decorator form: a function of a list becomes a function of one item."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, Protocol, TypeVar, overload

from async_batcher import _checks
from async_batcher.batcher import AsyncBatcher

__all__ = ["Batched", "batched"]

T = TypeVar("T")
S = TypeVar("S")

# Over the first access to an instance's batcher: a destructor may come to another's in there.
_lock = threading.RLock()


class _FunctionBatcher(AsyncBatcher[T, S]):
    """An AsyncBatcher whose process_batch is the decorated function."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        super().__init__(**options)
        self.process_batch = function  # type: ignore[method-assign]

    def process_batch(self, batch: list[T]) -> Any:
        raise NotImplementedError  # every instance has the function in its place


class Batched(Generic[T, S]):
    """What :func:`batched` makes of a function or a method.

    Calling it with one item returns the future of its result. A method has
    one for each instance, kept in the instance's ``__dict__``; instance and
    batcher then form a cycle that the garbage collector frees.

    Attributes:
        batcher: The AsyncBatcher behind it.
    """

    def __init__(
        self, function: Callable[..., Any], options: dict[str, Any], instance: object = None
    ) -> None:
        functools.update_wrapper(self, function)
        self._context = contextvars.copy_context()  # not that of an instance's first caller
        self._function = function
        self._options = options
        self._instance = instance
        self._key: str | None = None
        self.batcher: AsyncBatcher[T, S] = _FunctionBatcher(function, options)

    def __call__(self, item: T) -> asyncio.Future[S]:
        return self.batcher.process(item)

    def __set_name__(self, owner: type, name: str) -> None:
        # Unlike any attribute, and unlike that of an override in a subclass.
        self._key = f"{owner.__module__}.{owner.__qualname__}.{name}"

    @overload
    def __get__(self, instance: None, owner: type) -> Batched[T, S]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Batched[T, S]: ...
    def __get__(self, instance: object | None, owner: type) -> Batched[T, S]:
        if instance is None:
            return self
        attributes = getattr(instance, "__dict__", None)
        if attributes is None or self._key is None:
            raise TypeError(
                f"@batched needs a __dict__ on instances of {owner.__name__} to keep"
                f" {self._function.__name__!r} in"
            )
        own = attributes.get(self._key)
        if own is None or own._instance is not instance:  # none yet, or that of a copied instance
            own = self._bind(instance, owner, attributes, self._key)
        bound: Batched[T, S] = own
        return bound

    def _bind(
        self, instance: object, owner: type, attributes: dict[str, Any], key: str
    ) -> Batched[T, S]:
        with _lock:
            own = attributes.get(key)
            if own is None or own._instance is not instance:
                method = self._function.__get__(instance, owner)
                made: Batched[T, S] = self._context.copy().run(
                    Batched, method, self._options, instance
                )
                own = attributes.get(key)  # looked up once more: it may have come to this one
                if own is None or own._instance is not instance:
                    own = attributes[key] = made
        bound: Batched[T, S] = own
        return bound

    def __reduce__(self) -> Any:
        # A function is pickled by its name, as functions are; an instance's
        # own is left out of a pickle or copy of the instance and made anew.
        return self._function.__qualname__ if self._instance is None else (type(None), ())


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
            raise _checks.fail(TypeError, "what batched() decorates", function, "callable")
        return Batched(function, options)

    return decorate
