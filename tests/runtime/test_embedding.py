"""A program that embeds Python: it starts and ends time and again in one process, with us in it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest
from support import SLOWNESS

import async_batcher

PROGRAM = r"""
#include <Python.h>

/* Run a script in an interpreter of its own, a number of times in this process. */
int
main(int argc, char **argv)
{
    for (int i = 0; i < atoi(argv[3]); i++) {
        PyConfig config;
        PyConfig_InitPythonConfig(&config);
        PyConfig_SetBytesString(&config, &config.program_name, argv[1]);
        if (PyStatus_Exception(Py_InitializeFromConfig(&config))) {
            return 10;
        }
        PyConfig_Clear(&config);
        FILE *file = fopen(argv[2], "r");
        if (PyRun_SimpleFileExFlags(file, argv[2], 1, NULL) != 0) {
            return 11;
        }
        if (Py_FinalizeEx() != 0) {
            return 12;
        }
    }
    return 0;
}
"""

USED = """
from scripted import KINDS, run

for kind in KINDS.values():
    batcher = kind(max_queue_time=0.001)
    assert run(batcher.call(1)) == 1
    assert run(batcher.call(2)) == 2
print("used", flush=True)
"""

STOPPED = """
from scripted import KINDS, run

for kind in KINDS.values():
    batcher = kind(max_queue_time=0.001)
    assert run(batcher.call(1)) == 1
    run(batcher.stop())
print("used", flush=True)
"""

PENDING = (
    """
from scripted import KINDS, new_loop, run

async def begin(batcher):
    return [batcher.process(item) for item in range(10)]

loop = new_loop()
waiting = [kind(max_queue_time=3600) for kind in KINDS.values()]
futures = [loop.run_until_complete(begin(batcher)) for batcher in waiting]
"""
    + USED
)

MID_BATCH = (
    """
import threading, time
from scripted import Sync

begun, exits = threading.Event(), threading.Event()

class Slow(Sync):
    def process_batch(self, batch):
        begun.set()
        exits.wait()
        time.sleep(0.02)  # long enough for an end that does not wait
        print("ended", flush=True)
        return batch

slow = Slow(max_queue_time=0)
future = slow.process_threadsafe(1)
begun.wait()
threading._register_atexit(exits.set)  # runs before ours, which was there earlier
"""
    + USED
)

PLAIN = """
import asyncio
asyncio.run(asyncio.sleep(0))
"""
ROUNDS = 3

variable = sysconfig.get_config_var


def link_options() -> list[str]:
    """Return what the linker needs for the library of the running interpreter."""
    if variable("Py_ENABLE_SHARED"):
        folder = variable("LIBDIR")
        library = [f"-L{folder}", f"-Wl,-rpath,{folder}", f"-lpython{variable('LDVERSION')}"]
    else:
        library = [str(Path(variable("LIBPL"), variable("LIBRARY")))]
    names = ("LINKFORSHARED", "LIBS", "SYSLIBS")
    return [*library, *(word for name in names for word in shlex.split(variable(name) or ""))]


def missing() -> str:
    """Return what an embedding program would need and is not there."""
    if sys.platform == "win32":
        return "needs the flags of a POSIX build"
    if shutil.which(shlex.split(variable("CC") or "cc")[0]) is None:
        return "needs the compiler that built the interpreter"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "needs the headers of the interpreter"
    shared = Path(variable("LIBDIR") or "", variable("LDLIBRARY") or "")
    static = Path(variable("LIBPL") or "", variable("LIBRARY") or "")
    if not (shared if variable("Py_ENABLE_SHARED") else static).is_file():
        return "needs the library of the interpreter"
    return ""


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "nothing is missing")


def run_in(
    program: Path, folder: Path, source: str, rounds: int
) -> subprocess.CompletedProcess[str]:
    """Run `source` in `rounds` interpreters, one after the other, of one process."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(source))
    # The interpreter below a virtual environment: its paths are found in every round.
    base = getattr(sys, "_base_executable", sys.executable)
    package = Path(async_batcher.__file__).parents[1]
    search = [Path(__file__).parents[1], package, sysconfig.get_path("purelib")]
    return subprocess.run(
        [str(program), base, str(script), str(rounds)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, search)),
            "AB_TEST_LOOP": "asyncio",
        },
        capture_output=True,
        text=True,
        timeout=50 * SLOWNESS,
    )


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the program with the interpreter's own flags."""
    folder = tmp_path_factory.mktemp("embedding")
    source, target = folder / "program.c", folder / "program"
    source.write_text(PROGRAM)
    compiler = shlex.split(variable("CC") or "cc")
    include = f"-I{sysconfig.get_path('include')}"
    subprocess.run(
        [*compiler, include, str(source), "-o", str(target), *link_options()], check=True
    )
    if run_in(target, folder, PLAIN, ROUNDS).returncode != 0:
        pytest.skip("asyncio alone does not survive a second start of this interpreter")
    return target


@pytest.mark.parametrize(
    ("source", "output"),
    [
        (USED, "used\n"),
        (STOPPED, "used\n"),
        (PENDING, "used\n"),
        (MID_BATCH, "used\nended\n"),
    ],
    ids=["used", "stopped", "pending", "mid batch"],
)
def test_interpreter_that_starts_again_in_its_process_finds_a_working_package(
    tmp_path: Path, program: Path, source: str, output: str
) -> None:
    """Scenario 76."""
    done = run_in(program, tmp_path, source, ROUNDS)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout == ROUNDS * output
