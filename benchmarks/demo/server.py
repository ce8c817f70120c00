"""The server's process: started, and always ended, by the measuring one.

The parent writes the pickled model to its standard input and then keeps that pipe open; the
end of it, however the parent came to its own end, ends the server. The server chooses a free
port and writes its number as the first line of its output.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"
BACKLOG = 2048
STOP_LIMIT_S = 5.0


@contextmanager
def running_server(model: Any) -> Iterator[tuple[str, int]]:
    """Run the service in a process of its own; gives its host and port."""
    command = [sys.executable, "-m", "benchmarks.demo.server"]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the parent alone
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        pickle.dump(model, process.stdin)
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the server did not start")
        yield HOST, int(line)
    finally:
        _reap(process)


def _reap(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def serve() -> None:
    """Serve until told to end, or until the parent process is gone."""
    import uvicorn

    from benchmarks.demo.app import create_app

    app = create_app(pickle.load(sys.stdin.buffer))
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=2,
        )
    )

    def end_with_parent() -> None:
        # Not through sys.stdin: its lock, held by a daemon thread, would be fatal at exit.
        os.read(0, 1)
        server.should_exit = True

    threading.Thread(target=end_with_parent, daemon=True).start()
    with socket.create_server((HOST, 0), backlog=BACKLOG) as listener:
        print(listener.getsockname()[1], flush=True)
        server.run(sockets=[listener])


if __name__ == "__main__":
    serve()
