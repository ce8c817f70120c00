"""A real pre-forking server: gunicorn with four uvicorn workers and a batcher of the module."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import SLOWNESS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MISSING = [
    name for name in ("gunicorn", "uvicorn", "uvicorn_worker") if not importlib.util.find_spec(name)
]
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="gunicorn needs fork"),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
WORKERS = 4
PATIENCE_S = 40.0 * SLOWNESS

APP = """
import asyncio, os, sys
from pathlib import Path
from scripted import KINDS

HERE = Path(__file__).parent

async def answer(batch):
    held = [item for item in batch if item.startswith("held")]
    for item in held:
        Path(HERE, f"begun-{item}").touch()
    while held and not Path(HERE, "gate").exists():
        await asyncio.sleep(0.01)
    return [f"{os.getpid()} {item}" for item in batch]

class Async(KINDS["async"]):
    async def process_batch(self, batch):
        return await answer(batch)

class Sync(KINDS["sync"]):
    def process_batch(self, batch):
        return asyncio.run(answer(batch))

# Of the module: with --preload it is made before the fork.
kind = {"async": Async, "sync": Sync}[os.environ["AB_KIND"]]
batcher = kind(max_queue_time=0.002, concurrency=-1)
if os.environ["AB_USED"]:
    asyncio.run(batcher.call("used before the fork"))

async def app(scope, receive, send):
    assert scope["type"] == "http"
    body = (await batcher.process(scope["path"][1:])).encode()
    headers = [(b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""

CONFIGURATION = """
import os
worker_class = "uvicorn_worker.UvicornWorker"
workers = 4
graceful_timeout = 30
control_socket_disable = True
bind = "127.0.0.1:0"

def when_ready(server):
    port = server.LISTENERS[0].sock.getsockname()[1]
    with open("port.new", "w") as file:
        file.write(str(port))
    os.rename("port.new", "port")

def post_worker_init(worker):
    open(f"worker-{worker.pid}", "w").close()
"""


def until(condition: Callable[[], object]) -> None:
    """Wait until what another process does is done."""
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


class Server:
    """A running gunicorn."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.process = process

    @property
    def port(self) -> int:
        """Where it listens."""
        return int((self.folder / "port").read_text())

    def workers(self) -> set[int]:
        """Return the ids of all workers that ever were ready."""
        return {int(path.name.partition("-")[2]) for path in self.folder.glob("worker-*")}

    def request(self, item: str) -> socket.socket:
        """Send a request for `item`; return its connection."""
        connection = socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)
        connection.sendall(f"GET /{item} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        return connection

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the arbiter."""
        self.process.send_signal(number)


def answer_of(connection: socket.socket) -> tuple[int, str]:
    """Return which worker answered, and what."""
    with connection, connection.makefile("rb") as file:
        head, _, body = file.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    worker, _, item = body.decode().partition(" ")
    return int(worker), item


def all_answer(server: Server, workers: set[int]) -> None:
    """Ask until each of `workers` has answered, a batch of requests at a time."""
    answered: set[int] = set()
    give_up = time.monotonic() + PATIENCE_S
    while not workers <= answered:
        assert time.monotonic() < give_up, (workers, answered)
        items = [f"item-{number}" for number in range(20)]
        answers = [answer_of(connection) for connection in map(server.request, items)]
        assert [item for _, item in answers] == items
        answered |= {worker for worker, _ in answers}


@contextmanager
def served(folder: Path, kind: str, *options: str, used: bool = False) -> Iterator[Server]:
    """Serve inside; demand a clean end on SIGTERM, and not a word of an error."""
    (folder / "app.py").write_text(textwrap.dedent(APP))
    (folder / "gunicorn.conf.py").write_text(textwrap.dedent(CONFIGURATION))
    search = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", *options, "app:app"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, search)),
                "AB_KIND": kind,
                "AB_USED": "1" if used else "",
            },
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(folder, process)
    try:
        until(lambda: process.poll() is not None or len(server.workers()) == WORKERS)
        yield server
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its workers, too
        process.wait()
    text = (folder / "log").read_text()
    assert "Traceback" not in text, text
    assert "[ERROR]" not in text, text
    assert "[CRITICAL]" not in text, text


kinds = pytest.mark.parametrize("kind", ["async", "sync"])
preloads = pytest.mark.parametrize("options", [(), ("--preload",)], ids=["forked", "preloaded"])


@kinds
@preloads
def test_every_worker_of_a_server_answers(
    tmp_path: Path, kind: str, options: tuple[str, ...]
) -> None:
    """Scenario 51. Scenario 47."""
    with served(tmp_path, kind, *options) as server:
        all_answer(server, server.workers())


@kinds
def test_batcher_used_before_its_server_forks_answers_in_every_worker(
    tmp_path: Path, kind: str
) -> None:
    """Scenario 51. Trap 44."""
    with served(tmp_path, kind, "--preload", used=True) as server:
        all_answer(server, server.workers())


@kinds
@preloads
def test_request_in_flight_is_answered_when_the_server_is_terminated(
    tmp_path: Path, kind: str, options: tuple[str, ...]
) -> None:
    """Scenario 51. Scenario 73."""
    with served(tmp_path, kind, *options) as server:
        items = [f"held-{number}" for number in range(2 * WORKERS)]
        connections = [server.request(item) for item in items]
        until(lambda: len(list(tmp_path.glob("begun-*"))) == len(items))
        server.signal(signal.SIGTERM)
        until(lambda: "Handling signal: term" in (tmp_path / "log").read_text())
        (tmp_path / "gate").touch()
        assert [item for _, item in map(answer_of, connections)] == items
        assert server.process.wait(PATIENCE_S) == 0


@kinds
@preloads
def test_server_that_is_told_to_reload_answers_and_serves_on(
    tmp_path: Path, kind: str, options: tuple[str, ...]
) -> None:
    """Scenario 51."""
    with served(tmp_path, kind, *options) as server:
        old = server.workers()
        all_answer(server, old)
        connection = server.request("held")
        until((tmp_path / "begun-held").exists)
        server.signal(signal.SIGHUP)
        until(lambda: len(server.workers()) == 2 * WORKERS)
        (tmp_path / "gate").touch()
        worker, item = answer_of(connection)
        assert worker in old
        assert item == "held"
        # A worker on its way out may take a connection and reset it.
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in old))
        all_answer(server, server.workers() - old)
