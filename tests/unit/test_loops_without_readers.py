"""Loops that no fd wakes: one that has stopped, or will, is nobody's hope."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support import AsyncRecorder, NoReaders, Recorder, SyncRecorder, soon

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["async", "executor"])
def options(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """How to make a batcher whose batches a loop begins."""
    with ThreadPoolExecutor(1) as pool:
        yield {} if request.param == "async" else {"executor": pool}


def make(options: dict[str, Any], **limits: Any) -> Recorder:
    """Make one of them."""
    return (SyncRecorder if options else AsyncRecorder)(**options, **limits)


@contextmanager
def two_loops() -> Iterator[tuple[asyncio.AbstractEventLoop, asyncio.AbstractEventLoop]]:
    """Two loops that no fd wakes."""
    loops = NoReaders(), NoReaders()
    try:
        yield loops
    finally:
        for loop in loops:
            loop.close()


def test_window_is_kept_though_the_loop_that_kept_it_has_stopped(options: dict[str, Any]) -> None:
    """Scenario 41. Scenario 87. Guarantee 4."""
    batcher = make(options, max_queue_time=0.05)

    async def put() -> asyncio.Future[Any]:
        return batcher.process("first")

    async def main() -> list[Any]:
        return await soon(batcher.process("second"))

    with two_loops() as (stops, runs):
        first = stops.run_until_complete(put())
        assert runs.run_until_complete(main()) == ["second"]
        assert stops.run_until_complete(first) == "first"
