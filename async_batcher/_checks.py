"""Checks of arguments: each error names the parameter, the value and what is allowed."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

UNLIMITED = 2**63 - 1  # the native part's "no limit"

_MAX_WINDOW_S = 2.0**31


def fail(kind: type[Exception], name: str, value: object, allowed: str) -> Exception:
    """Return the error that `value` is not what is allowed."""
    try:
        shown = repr(value)
    except Exception:  # an int has too many digits, or a repr of its own raises
        shown = f"a {type(value).__qualname__} that has no repr"
    return kind(f"{name} must be {allowed}, not {shown}")


def _integer(name: str, value: object, allowed: str) -> int:
    if isinstance(value, bool):
        raise fail(TypeError, name, value, allowed)
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise fail(TypeError, name, value, allowed) from None


def check_limit(name: str, value: object) -> int:
    """A whole number of at least 1, or -1 for no limit, as the native part wants it."""
    allowed = "an int of at least 1, or -1 for no limit"
    number = _integer(name, value, allowed)
    if number == -1:
        return UNLIMITED
    if not 1 <= number <= UNLIMITED:
        raise fail(ValueError, name, value, allowed)
    return number


def check_bound(name: str, value: object) -> int:
    """As check_limit, but that 0, too, is no limit, as in ``asyncio.Queue``."""
    allowed = "an int of at least 1, or 0 or -1 for no limit"
    number = _integer(name, value, allowed)
    if number in (0, -1):
        return UNLIMITED
    if not 1 <= number <= UNLIMITED:
        raise fail(ValueError, name, value, allowed)
    return number


def check_count(name: str, value: object, most_name: str, most: int) -> int:
    """A whole number from 1 to that of another parameter."""
    limit = most_name if most == UNLIMITED else f"{most_name}, {most}"
    allowed = f"an int from 1 to {limit}"
    number = _integer(name, value, allowed)
    if not 1 <= number <= most:
        raise fail(ValueError, name, value, allowed)
    return number


def check_cost(name: str, value: object) -> int:
    """A whole number from 0 to 2**63-1."""
    allowed = "an int from 0 to 2**63-1"
    number = _integer(name, value, allowed)
    if not 0 <= number <= UNLIMITED:
        raise fail(ValueError, name, value, allowed)
    return number


def check_seconds(name: str, value: object) -> int:
    """Seconds from 0 to 2**31, as nanoseconds."""
    allowed = "a number of seconds from 0 to 2**31"
    if isinstance(value, bool):
        raise fail(TypeError, name, value, allowed)
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise fail(TypeError, name, value, allowed) from None
    except OverflowError:
        raise fail(ValueError, name, value, allowed) from None
    if isinstance(value, (str, bytes, bytearray)):
        raise fail(TypeError, name, value, allowed)
    if math.isnan(seconds) or not 0 <= seconds <= _MAX_WINDOW_S:
        raise fail(ValueError, name, value, allowed)
    return math.ceil(seconds * 1e9)


def check_executor(name: str, value: Any) -> None:
    """Anything with submit(), as concurrent.futures.Executor has it, or None."""
    if value is not None and (
        isinstance(value, type) or not callable(getattr(value, "submit", None))
    ):
        raise fail(TypeError, name, value, "a concurrent.futures.Executor or None")


def check_callable(name: str, value: Callable[..., Any] | None) -> None:
    """A callable or None."""
    if value is not None and not callable(value):
        raise fail(TypeError, name, value, "callable or None")


def check_timeout(name: str, value: float | None) -> float | None:
    """Seconds from 0 to 2**31, or None for no end."""
    return None if value is None else check_seconds(name, value) / 1e9
