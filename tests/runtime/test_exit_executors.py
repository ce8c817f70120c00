"""How a process ends while items wait for a batch in an `executor=`, and no loop is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support import clean_script

if TYPE_CHECKING:
    from pathlib import Path

REFUSED = "cannot process items: the interpreter is shutting down\n"

BEGIN = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from scripted import Sync

def show(future):
    try:
        print(future.result(), flush=True)
    except RuntimeError as error:
        print(error, flush=True)
"""

QUEUED = """
batcher = Sync(max_queue_time=3600, executor=ThreadPoolExecutor(1))
future = batcher.process_threadsafe(1)
threading.Thread(target=show, args=(future,)).start()
"""

BEHIND = """
begun, goes_on = threading.Event(), threading.Event()

class Held(Sync):
    def process_batch(self, batch):
        begun.set()
        goes_on.wait()
        return batch

# Called in the reverse order: the batch ends after our own callback, which is the first item's.
threading._register_atexit(goes_on.set)
batcher = Held(max_queue_time=0, max_batch_size=1, executor=ThreadPoolExecutor(1))
first = batcher.process_threadsafe("first")
begun.wait()
second = batcher.process_threadsafe("second")

def wait():
    show(first)
    show(second)

threading.Thread(target=wait).start()
"""


def test_item_that_waits_for_an_executor_is_refused_at_exit(tmp_path: Path) -> None:
    """Scenario 70. Scenario 93. Guarantee 1."""
    assert clean_script(tmp_path, BEGIN + QUEUED) == REFUSED


def test_item_behind_a_batch_in_an_executor_is_refused_at_exit(tmp_path: Path) -> None:
    """Scenario 71. Scenario 93. Guarantee 1."""
    assert clean_script(tmp_path, BEGIN + BEHIND) == "first\n" + REFUSED
