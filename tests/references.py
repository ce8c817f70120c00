"""Counts references on a debug build of CPython: what is done again and again may leave none."""

from __future__ import annotations

import gc
import logging
import sys
import time
from array import array
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WARM_UP = 4
FLAT = 5  # rounds in a row without one more
LATER = 36  # rounds after those, for what is left now and then only
MOST = 3  # that all of these may leave, for CPython fills caches of its own
ROUNDS = 80  # at most
THREAD_END_S = 0.5

gettotalrefcount: Callable[[], int] = getattr(sys, "gettotalrefcount", lambda: 0)
# That of looked-up attributes refers to their names, and which fall out of it is chance.
clear_caches: Callable[[], None] = getattr(sys, "_clear_internal_caches", lambda: None)


@contextmanager
def unheard_log() -> Iterator[None]:
    """Keep pytest from collecting the log, and with it the errors in it.

    Inside the test: at its start pytest listens to what then does not propagate.
    """
    loggers = [logging.getLogger(name) for name in ("async_batcher", "asyncio")]
    for logger in loggers:
        logger.propagate = False
    try:
        yield
    finally:
        for logger in loggers:
            logger.propagate = True


class Counts:
    """Counts of all references, in arrays: an int that is kept is a reference, too."""

    def __init__(self) -> None:
        self.now, self.fewest = array("q", [0]), array("q", [0])
        self.give_up = array("d", [0])
        self.more = array("q", [0] * ROUNDS)

    def count(self) -> None:
        gc.collect()
        clear_caches()
        self.now[0] = gettotalrefcount()

    def begin(self) -> None:
        """Count once threads that are about to end have ended."""
        equal = 0
        while equal < 3:
            self.fewest[0] = self.now[0]
            time.sleep(0.005)
            self.count()
            equal = equal + 1 if self.now[0] == self.fewest[0] else 0

    def round(self, index: int) -> None:
        """Count again; where there are more, give the threads time to end."""
        self.give_up[0] = time.monotonic() + THREAD_END_S
        self.count()
        while self.now[0] > self.fewest[0] and time.monotonic() < self.give_up[0]:
            time.sleep(0.005)
            self.count()
        self.more[index] = max(self.now[0] - self.fewest[0], 0)
        self.fewest[0] = self.now[0]

    def is_flat(self, index: int) -> bool:
        """Tell whether the last rounds left little, and five in a row before them nothing."""
        first = index + 1 - LATER
        is_calm = first >= FLAT and not any(self.more[first - FLAT : first])
        return is_calm and sum(self.more[first : index + 1]) <= MOST


def assert_flat(body: Callable[[], None]) -> None:
    """Demand rounds of `body` that leave no reference more, once it is warm."""
    counts = Counts()
    with unheard_log():
        for index in range(-WARM_UP, ROUNDS):  # one loop, for a range has references, too
            if index == 0:
                counts.begin()
            body()
            if index >= 0:
                counts.round(index)
                if counts.is_flat(index):
                    return
    pytest.fail(f"references left by each round: {counts.more.tolist()}")
