"""What the scripts that fork begin with."""

from __future__ import annotations

BEGIN = """
import _thread, asyncio, os, signal, sys, threading, warnings
from scripted import KINDS, PATIENCE, Sync, new_loop, run
warnings.simplefilter("ignore", DeprecationWarning)
new_loop().close()  # the first one is made under a lock of asyncio's, which a child may find held

def end(work):
    code = 1
    signal.alarm(int(PATIENCE))
    try:
        work()
        code = 0
    except BaseException as error:
        print("child:", repr(error), file=sys.stderr, flush=True)
    finally:
        os._exit(code)

def has_ended_well(pid):
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status

def in_child(work):
    pid = os.fork()
    if pid == 0:
        end(work)
    has_ended_well(pid)

def fork_and_return(work):
    # The child goes on here, and works in another thread, with a GIL as soon as this one waits.
    pid = os.fork()
    if pid == 0:
        sys.setswitchinterval(PATIENCE)
        _thread.start_new_thread(end, (work,))
    else:
        has_ended_well(pid)

def check(got, wanted):
    assert got == wanted, got
"""
