"""The exception classes: what they are kinds of, and where they are found."""

from __future__ import annotations

import asyncio
import copy
import pickle

import pytest

import async_batcher
from async_batcher import (
    AsyncBatchException,
    BatchCancelledError,
    BatcherStoppedError,
    BatchResultError,
    QueueFullException,
    exceptions,
)

CLASSES = [
    AsyncBatchException,
    BatchCancelledError,
    BatchResultError,
    BatcherStoppedError,
    QueueFullException,
]
each = pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)


@each
def test_error_is_an_error_of_ours(error: type[Exception]) -> None:
    assert issubclass(error, AsyncBatchException)
    assert issubclass(error, Exception)


@each
def test_error_is_exported_from_both_places(error: type[Exception]) -> None:
    assert getattr(exceptions, error.__name__) is error
    assert getattr(async_batcher, error.__name__) is error


@each
def test_error_is_no_cancellation(error: type[Exception]) -> None:
    """Trap 36."""
    assert not issubclass(error, asyncio.CancelledError)


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (QueueFullException, asyncio.QueueFull),
        (BatcherStoppedError, RuntimeError),
        (BatchResultError, ValueError),
    ],
)
def test_error_is_of_the_familiar_kind(error: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(error, builtin)


@each
def test_error_can_be_copied_and_pickled(error: type[Exception]) -> None:
    original = error("text")
    for twin in (copy.copy(original), pickle.loads(pickle.dumps(original))):
        assert type(twin) is error
        assert str(twin) == "text"
