"""An exit that a handler asks for while a call of ours runs comes out in the main thread."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from support import LOOP_NAME, clean_script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

BEGIN = """
import asyncio, logging, signal, sys, threading
from scripted import PATIENCE, Async, new_loop

# What the error leaves pending is destroyed at exit, as it must be: no word on it.
logging.getLogger("asyncio").addHandler(logging.NullHandler())
armed = False

def handler(*_):
    raise SystemExit(3)

def arrive():
    # The signal comes now, once: its handler runs before this returns.
    global armed
    if armed and threading.current_thread() is threading.main_thread():
        armed = False
        signal.raise_signal(signal.SIGTERM)

def when_called(method):
    def called(self, *args, **options):
        arrive()
        return getattr(super(Hit, self), method)(*args, **options)

    def add_reader(self, *args):
        raise NotImplementedError  # so that a call is what wakes it

    class Hit(type(new_loop())):
        pass

    Hit.add_reader = add_reader
    setattr(Hit, method, called)
    return Hit()

signal.signal(signal.SIGTERM, handler)
batcher = Async(max_queue_time=0)

def expect(use):
    try:
        use()
        print("missed", flush=True)
    except SystemExit as error:
        print("came out", error.args, flush=True)
    assert not armed
"""

OWN_LOOP = """
loop = when_called("call_soon")

async def use():
    global armed
    await batcher.process(1)
    armed = True
    future = batcher.process_threadsafe(2)
    await asyncio.wrap_future(future)

expect(lambda: loop.run_until_complete(use()))
loop.run_until_complete(batcher.stop(force=True))
loop.close()
"""

OTHER_LOOP = """
loop = when_called("call_soon_threadsafe")
thread = threading.Thread(target=loop.run_forever)
thread.start()

async def warm():
    return await batcher.process(1)

assert asyncio.run_coroutine_threadsafe(warm(), loop).result(PATIENCE) == 1

def use():
    global armed
    armed = True
    batcher.process_threadsafe(2).result(PATIENCE)

expect(use)
asyncio.run_coroutine_threadsafe(batcher.stop(force=True), loop).result(PATIENCE)
loop.call_soon_threadsafe(loop.stop)
thread.join()
loop.close()
"""

CALLBACK = """
loop = new_loop()

async def use():
    global armed
    await batcher.process(1)
    armed = True
    future = batcher.process_threadsafe(2)
    future.add_done_callback(lambda future: arrive())
    while armed:
        await asyncio.sleep(0)

expect(lambda: loop.run_until_complete(use()))
loop.run_until_complete(batcher.stop(force=True))
loop.close()
"""

LOG = """
class Arriving(logging.Handler):
    def emit(self, record):
        arrive()

class Failing(Async):
    async def process_batch(self, batch):
        raise ValueError

logging.getLogger("async_batcher").addHandler(Arriving())
batcher = Failing(max_queue_time=0)
loop = new_loop()

async def use():
    global armed
    armed = True
    await asyncio.wait([batcher.process(1)])
    while armed:
        await asyncio.sleep(0)

expect(lambda: loop.run_until_complete(use()))
loop.run_until_complete(batcher.stop(force=True))
loop.close()
"""

# The exit is put off to the next Python code of the main thread. On a loop written in C
# that can be a weak reference's callback, out of which CPython lets nothing come.
put_off = pytest.mark.skipif(
    LOOP_NAME == "uvloop", reason="an exit put off may meet a weak reference's callback"
)
places = pytest.mark.parametrize(
    "place",
    [
        pytest.param(OWN_LOOP, id="own loop"),
        pytest.param(OTHER_LOOP, id="other loop"),
        pytest.param(CALLBACK, id="callback", marks=put_off),
        pytest.param(LOG, id="log", marks=put_off),
    ],
)


@places
def test_exit_that_a_handler_asks_for_inside_a_call_of_ours_comes_out(
    tmp_path: Path, place: str
) -> None:
    """Scenario 62. Scenario 73."""
    assert clean_script(tmp_path, BEGIN + place) == "came out (3,)\n"
