"""What importing and constructing do to a process: nothing that can be seen."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from support import FREE, clean_script, counts_threads

SUBINTERPRETERS = int(os.environ.get("AB_SUBINTERPRETERS", "10"))
KINDS_OF_SUBINTERPRETERS = ["isolated", "legacy"] if sys.version_info >= (3, 13) else ["legacy"]
"""With a GIL of their own, and with the one of all; before 3.13 all are of the second kind."""

QUIET = """
import logging, os, sys, threading

def census():
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

handlers, level = list(logging.root.handlers), logging.root.level
before = census()
import async_batcher
assert census() == before, "import"

class Sync(async_batcher.AsyncBatcher):
    def process_batch(self, batch):
        return batch

batchers = [Sync() for _ in range(100)]
assert census() == before, "construction"
assert (logging.root.handlers, logging.root.level) == (handlers, level)
"""

LOGGING = """
import logging
from scripted import Sync, run

class Failing(Sync):
    def process_batch(self, batch):
        raise LookupError("no")

async def main():
    async with Sync(max_queue_time=0) as good, Failing(max_queue_time=0) as bad:
        await good.process(1)
        try:
            await bad.process(1)
        except LookupError:
            pass

logging.getLogger("async_batcher").propagate = False
run(main())
assert logging.root.handlers == []
assert logging.root.level == logging.WARNING
ours = logging.getLogger("async_batcher")
assert ours.level == logging.NOTSET
assert all(isinstance(handler, logging.NullHandler) for handler in ours.handlers)
"""

GIL_STAYS_OFF = """
import sys
assert not sys._is_gil_enabled()
import async_batcher
from scripted import Sync, run
assert run(Sync().call(1)) == 1
assert not sys._is_gil_enabled()
"""

REIMPORT = """
import sys
from scripted import Sync, run

assert run(Sync().call(1)) == 1
for name in [name for name in sys.modules if name.split(".")[0] in ("async_batcher", "scripted")]:
    del sys.modules[name]
old = Sync
from scripted import Sync, run
assert Sync is not old
assert run(Sync().call(2)) == 2
assert run(old().call(3)) == 3
"""


SUBINTERPRETER = """
import sys
from scripted import KINDS, run
CODE = (
    "try:\\n import async_batcher\\n"
    "except ImportError as error:\\n assert 'interpreter' in str(error), error\\n"
    "else:\\n raise SystemError('imported')\\n"
)
batchers = [kind(max_queue_time=0.001) for kind in KINDS.values()]
for round in range(int(sys.argv[1])):
    if sys.version_info >= (3, 13):
        import _interpreters
        number = _interpreters.create(sys.argv[2])
        assert _interpreters.exec(number, CODE) is None
        _interpreters.destroy(number)
    else:
        import _xxsubinterpreters
        number = _xxsubinterpreters.create()
        _xxsubinterpreters.run_string(number, CODE)
        _xxsubinterpreters.destroy(number)
    assert [run(batcher.call(round)) for batcher in batchers] == [round] * 2
"""


@counts_threads
def test_import_and_construction_start_nothing(tmp_path: Path) -> None:
    """Scenario 29. Guarantee 7."""
    clean_script(tmp_path, QUIET)


def test_use_changes_no_logging_configuration(tmp_path: Path) -> None:
    """Trap 51."""
    clean_script(tmp_path, LOGGING)


@pytest.mark.skipif(not FREE, reason="needs a free-threaded build")
def test_import_and_use_leave_the_gil_off(tmp_path: Path) -> None:
    """Scenario 56. Trap 47."""
    clean_script(tmp_path, GIL_STAYS_OFF, options=("-X", "gil=0"))


def test_package_can_be_imported_afresh(tmp_path: Path) -> None:
    """Scenario 76."""
    clean_script(tmp_path, REIMPORT)


@pytest.mark.parametrize("name", ["async_batcher", "async_batcher.batcher"])
def test_module_imports_alone_and_quietly(tmp_path: Path, name: str) -> None:
    """Guarantee 7."""
    clean_script(tmp_path, f"import {name}", options=("-X", "dev", "-W", "error"))


@pytest.mark.skipif(
    sys.version_info[:2] == (3, 12), reason="3.12 breaks when a sub-interpreter imports asyncio"
)
@pytest.mark.timeout(60 + SUBINTERPRETERS)
@pytest.mark.parametrize("kind", KINDS_OF_SUBINTERPRETERS)
def test_import_in_a_subinterpreter_is_refused_and_harms_nobody(tmp_path: Path, kind: str) -> None:
    """Scenario 75."""
    clean_script(tmp_path, SUBINTERPRETER, str(SUBINTERPRETERS), kind, timeout=50 + SUBINTERPRETERS)
