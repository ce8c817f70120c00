"""How a process ends after a forced stop that came at a bad moment for a worker."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from support import clean_script

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = """
import logging, sys, threading
from scripted import Sync, run

reached, goes_on, ended = threading.Event(), threading.Event(), threading.Event()
local = threading.local()

class Last:
    def __del__(self):  # the thread it belongs to ends
        ended.set()

def stay():
    local.last = Last()
    reached.set()
    goes_on.wait()

def stop():
    reached.wait()
    run(batcher.stop(force=True))
    goes_on.set()
    ended.wait()
    print("main ends", flush=True)
"""

SETTLES = """
class Staying(logging.Handler):
    def emit(self, record):
        stay()

logging.getLogger("async_batcher").addHandler(Staying())

class Failing(Sync):
    def process_batch(self, batch):
        raise ValueError

batcher = Failing(max_queue_time=0)
future = batcher.process_threadsafe(1)
stop()
"""

FORMS = """
from async_batcher._core import _clock_advance, _clock_freeze

class Item:
    def __del__(self):
        stay()

_clock_freeze()
batcher = Sync(max_queue_time=1)
first = batcher.process_threadsafe(1)
batcher.process_threadsafe(Item()).cancel()  # not at the head: the batch drops it as it forms
_clock_advance(2)
stop()
"""

RUNS = """
class Running(Sync):
    def process_batch(self, batch):
        stay()
        return batch

batcher = Running(max_queue_time=0)
future = batcher.process_threadsafe(1)
stop()
"""


@pytest.mark.parametrize("source", [SETTLES, FORMS, RUNS], ids=["settles", "forms", "runs"])
def test_process_ends_after_a_forced_stop_while_a_worker_is_busy(
    tmp_path: Path, source: str
) -> None:
    """Scenario 26. Scenario 70."""
    if source is FORMS and not getattr(sys, "_is_gil_enabled", lambda: True)():
        pytest.skip(
            "the item is destroyed on the main thread, which made it: it would wait for itself"
        )
    assert clean_script(tmp_path, BEGIN + source) == "main ends\n"
