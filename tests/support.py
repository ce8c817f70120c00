"""Helpers shared by the tests: loops, gated recorders, outcomes, subprocess scripts."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from scripted import FREE as FREE
from scripted import LOOP_NAME as LOOP_NAME
from scripted import PATIENCE as PATIENCE
from scripted import SLOWNESS as SLOWNESS
from scripted import new_loop as new_loop
from scripted import run as run

from async_batcher import AsyncBatcher, _core

if TYPE_CHECKING:
    import weakref
    from collections.abc import Awaitable, Callable, Iterator

T = TypeVar("T")

LONG = 3600.0
"""A window that no test waits for, in seconds."""
# What a sanitizer or gcov calls from the code it was built into.
MARKS = (b"__asan_init", b"__ubsan_handle", b"__tsan_init", b"__gcov_")
INSTRUMENTED = any(mark in Path(_core.__file__).read_bytes() for mark in MARKS)
"""Whether the extension under test was built with one of them."""
IS_OTHER_BUILD = INSTRUMENTED or bool(os.environ.get("AB_DEBUG"))
"""Whether it was built otherwise than users have it."""
EXITS = int(os.environ.get("AB_EXITS", "10"))
"""How often a script ends where what may go wrong goes wrong rarely."""
TASKS = Path("/proc/self/task")
"""Where Linux lists the threads of this process."""
counts_threads = pytest.mark.skipif(not TASKS.exists(), reason="threads are counted in /proc")
"""Run the test where `os_threads` works."""
TIMEOUTS = (TimeoutError, asyncio.TimeoutError)
"""Two classes on Python 3.10."""


async def settle(rounds: int = 25) -> None:
    """Let the loop go round `rounds` times."""
    for _ in range(rounds):
        await asyncio.sleep(0)


async def outcome(start: Callable[[], Awaitable[T]]) -> T | BaseException:
    """Return what `start()`, once awaited, gives or raises, and whichever of the two raises it."""
    try:
        return await start()
    except BaseException as error:
        return error


async def finished(*futures: asyncio.Future[Any]) -> list[Any]:
    """Wait for all `futures`; return the result or the exception of each."""
    await asyncio.wait(futures)
    return [told(future) for future in futures]


async def soon(*futures: asyncio.Future[Any]) -> list[Any]:
    """Wait for all `futures` as `finished` does; one that hangs stands for itself."""
    await asyncio.wait(futures, timeout=PATIENCE)
    return [told(future) if future.done() else future for future in futures]


def told(future: asyncio.Future[Any]) -> Any:
    """Return what a done `future` tells: its result, its exception, or a CancelledError."""
    if future.cancelled():
        return asyncio.CancelledError()
    error = future.exception()
    return future.result() if error is None else error


@contextmanager
def no_loop_errors() -> Iterator[None]:
    """Demand that nothing inside reaches the running loop's exception handler."""
    loop = asyncio.get_running_loop()
    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: errors.append(context))
    yield
    gc.collect()
    assert errors == []


def in_threads(count: int, target: Callable[[int], None]) -> None:
    """Run `target(index)` in `count` threads that begin together; raise their first error."""
    barrier = threading.Barrier(count)
    errors: list[BaseException] = []

    def body(index: int) -> None:
        try:
            barrier.wait(PATIENCE)
            target(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=body, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def os_threads() -> set[str]:
    """Name the threads of the process, ours included: `threading` knows nothing of those.

    Names and not a number: a thread of an earlier test that ends meanwhile hides no new one.
    """
    return set(os.listdir(TASKS))


async def collected(reference: weakref.ref[Any]) -> None:
    """Wait until the referent is gone: a worker that ends may be the last to let go of it."""
    give_up = time.monotonic() + PATIENCE
    gc.collect()
    while reference() is not None and time.monotonic() < give_up:
        await asyncio.sleep(0.001)
        gc.collect()
    assert reference() is None


async def ended(threads: set[str]) -> None:
    """Wait until none of `threads` is left: one that ends does so in its own time."""
    give_up = time.monotonic() + PATIENCE
    while threads & os_threads() and time.monotonic() < give_up:
        await asyncio.sleep(0.001)
    assert threads & os_threads() == set()


class NoReaders(asyncio.SelectorEventLoop):
    """A loop that cannot watch a stranger's fds, as Windows' Proactor."""

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
        raise NotImplementedError

    def remove_reader(self, fd: Any) -> bool:
        raise NotImplementedError


def raiser(error: BaseException | type[BaseException]) -> Callable[[list[Any]], Any]:
    """Return a process function that raises `error`, but echoes a batch of "fine"."""

    def function(batch: list[Any]) -> list[Any]:
        if batch == ["fine"]:
            return batch
        raise error

    return function


class Item:
    """An item that can be referred to weakly."""


class Recorder(AsyncBatcher[Any, Any]):
    """Records its batches and answers `function(batch)`; between `hold` and `release` they wait."""

    gate: asyncio.Event | threading.Event

    def __init__(self, function: Callable[[list[Any]], Any] = list, **options: Any) -> None:
        super().__init__(**options)
        self.function = function
        self.seen: list[list[Any]] = []
        self.active = 0
        self.peak = 0
        self.mutex = threading.Lock()
        self.watchers: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = []

    @property
    def items(self) -> list[Any]:
        """Every item that process_batch was given, in order."""
        return [item for batch in self.seen for item in batch]

    def hold(self) -> None:
        """Keep the batches that begin from now on until `release`."""
        self.gate.clear()

    def release(self) -> None:
        """Let the held batches end."""
        self.gate.set()

    async def begun(self, count: int = 1) -> None:
        """Wait until `count` batches have begun."""
        event = asyncio.Event()
        with self.mutex:
            if len(self.seen) >= count:
                return
            self.watchers.append((count, asyncio.get_running_loop(), event))
        await event.wait()

    async def busy(self, item: Any = "held") -> asyncio.Future[Any]:
        """Make one held batch run; return the future of its only item."""
        self.hold()
        future = self.process(item)
        self.flush()
        await self.begun(1)
        return future

    @contextmanager
    def recorded(self, batch: list[Any]) -> Iterator[None]:
        """Note that `batch` begins and, at the end, that it is over."""
        with self.mutex:
            self.seen.append(list(batch))
            self.active += 1
            self.peak = max(self.peak, self.active)
            count = len(self.seen)
            ready = [watcher for watcher in self.watchers if watcher[0] <= count]
            self.watchers = [watcher for watcher in self.watchers if watcher[0] > count]
        for _, loop, event in ready:
            loop.call_soon_threadsafe(event.set)
        try:
            yield
        finally:
            with self.mutex:
                self.active -= 1

    async def __aexit__(self, *error: Any) -> Any:
        if error[0] is None:
            self.release()
        try:
            return await super().__aexit__(*error)
        finally:
            self.release()


class AsyncRecorder(Recorder):
    """A recorder whose process_batch is awaited on the loop; `gate` serves one loop only."""

    def __init__(self, function: Callable[[list[Any]], Any] = list, **options: Any) -> None:
        super().__init__(function, **options)
        self.gate = asyncio.Event()
        self.gate.set()

    async def process_batch(self, batch: list[Any]) -> Any:
        with self.recorded(batch):
            if not self.gate.is_set():
                await self.gate.wait()
            return self.function(batch)


class KnownTasks(AsyncRecorder):
    """An async recorder that keeps the tasks of its batches."""

    def __init__(self, function: Callable[[list[Any]], Any] = list, **options: Any) -> None:
        super().__init__(function, **options)
        self.tasks: list[asyncio.Task[Any]] = []

    async def process_batch(self, batch: list[Any]) -> Any:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        return await super().process_batch(batch)


class SyncRecorder(Recorder):
    """A recorder whose process_batch runs in a thread."""

    def __init__(self, function: Callable[[list[Any]], Any] = list, **options: Any) -> None:
        super().__init__(function, **options)
        self.gate = threading.Event()
        self.gate.set()

    def process_batch(self, batch: list[Any]) -> Any:
        with self.recorded(batch):
            self.gate.wait()
            return self.function(batch)


both = pytest.mark.parametrize("kind", [AsyncRecorder, SyncRecorder], ids=["async", "sync"])
"""Run the test with an async and with a sync process_batch."""


def script(
    folder: Path,
    source: str,
    *arguments: str,
    options: tuple[str, ...] = (),
    timeout: float = 50,
    **env: str,
) -> subprocess.CompletedProcess[str]:
    """Run `source` as a file in `folder`, with `support` importable; return how it ended."""
    path = folder / "script.py"
    path.write_text(textwrap.dedent(source))
    inherited = os.environ.get("PYTHONPATH")
    search = [str(Path(__file__).parent), *([inherited] if inherited else [])]
    return subprocess.run(
        [sys.executable, *options, str(path), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(search), **env},
        capture_output=True,
        text=True,
        timeout=timeout * SLOWNESS,
    )


def clean_script(
    folder: Path,
    source: str,
    *arguments: str,
    options: tuple[str, ...] = (),
    timeout: float = 50,
    **env: str,
) -> str:
    """Run `source` as `script` does, demand exit code 0 and empty stderr; return its output."""
    done = script(folder, source, *arguments, options=options, timeout=timeout, **env)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def leave(folder: Path, source: str, *arguments: str, output: str = "") -> None:
    """Run the script `AB_EXITS` times; demand a clean end with `output` each time."""
    for _ in range(EXITS):
        assert clean_script(folder, source, *arguments) == output
