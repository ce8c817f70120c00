"""The module goes in the same collection as a loop that still has work: the order is nobody's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import script

if TYPE_CHECKING:
    from pathlib import Path

# The collector clears what it found in the order of its making. So the module goes first, then
# the loop, which has its reader from the first batcher, and at last the batcher with the item.
LEAVE = """
import asyncio, gc, logging, sys, types, typing, weakref

gc.disable()
logging.getLogger("async_batcher").addHandler(logging.NullHandler())
logging.getLogger("asyncio").addHandler(logging.NullHandler())
state, kind = sys.argv[1:]

class Loop(asyncio.SelectorEventLoop):
    if kind == "silent":
        def __del__(self):  # closes nothing
            pass

class Stepped:
    # asyncio's own tasks remember the types of what they run, and keep them alive.

    def __init__(self, coroutine, loop, **options):
        self.coroutine = coroutine
        if state != "due":
            loop.call_soon(coroutine.send, None)

    def set_name(self, name):
        pass

def make_task(loop, coroutine, **options):
    kind = asyncio.Task if isinstance(coroutine, types.CoroutineType) else Stepped
    return kind(coroutine, loop=loop, **options)

class Item:
    pass

def leave():
    from async_batcher import AsyncBatcher

    class Batcher(AsyncBatcher):
        async def process_batch(self, batch):
            await self.never

    async def use(batcher, item):
        batcher.process(item)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    loop = Loop()
    loop.set_task_factory(make_task)
    first = Batcher(max_queue_time=3600)
    loop.run_until_complete(use(first, "first"))
    batcher = Batcher(max_queue_time=3600 if state == "waiting" else 0)
    batcher.never = loop.create_future()
    batcher.loop = loop
    item = Item()
    loop.run_until_complete(use(batcher, item))
    stats = batcher.stats
    assert (stats.queued, stats.running) == ((0, 1) if state == "running" else (1, 0)), stats
    loop.batchers = [first, batcher]
    return loop, weakref.ref(item)

loop, item = leave()
"""
COLLECT = """
for name in [name for name in sys.modules if name.startswith("async_batcher")]:
    del sys.modules[name]
for forget in typing._cleanups:
    forget()
del loop
for _ in range(3):
    gc.collect()
assert item() is None
"""
END = """
print("end", flush=True)
"""

states = pytest.mark.parametrize("state", ["waiting", "due", "running"])
kinds = pytest.mark.parametrize("kind", ["stock", "silent"])


def leave(folder: Path, source: str, state: str, kind: str) -> None:
    """Demand that the script ends well, whatever it says of the loop that is not closed."""
    options = ("-W", "error" if kind == "stock" else "ignore")
    done = script(folder, LEAVE + source, state, kind, options=options)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
    assert "SystemError" not in done.stderr


@kinds
@states
def test_exit_with_a_loop_left_open_under_work_is_clean(
    tmp_path: Path, state: str, kind: str
) -> None:
    """Scenario 70. Scenario 36."""
    leave(tmp_path, END, state, kind)


@kinds
@states
def test_module_that_is_collected_with_a_loop_under_work_crashes_nothing(
    tmp_path: Path, state: str, kind: str
) -> None:
    """Scenario 76. Scenario 65."""
    leave(tmp_path, COLLECT + END, state, kind)
