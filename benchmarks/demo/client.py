"""A small HTTP/1.1 client: keep-alive connections, one request at a time on each.

A general client costs more per request than the service it is to measure; this one is a parser
and a list of idle connections.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from httptools import HttpParserError, HttpResponseParser

if TYPE_CHECKING:
    from collections.abc import Callable

    OnDone = Callable[[int, bytes], None]

FAILED = 0
"""The status reported when no answer came: refused, closed or too late."""


class Exchange:
    """A request under way. ``on_done(status, body)`` is called exactly once."""

    def __init__(self, payload: bytes, on_done: OnDone, timeout_s: float) -> None:
        self.payload = payload
        self.connection: Connection | None = None
        self._on_done: OnDone | None = on_done
        self._timer = asyncio.get_running_loop().call_later(timeout_s, self._expire)

    @property
    def is_done(self) -> bool:
        """Whether the caller has been told."""
        return self._on_done is None

    def finish(self, status: int, body: bytes) -> None:
        """Tell the caller, unless it was told before."""
        self._timer.cancel()
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            on_done(status, body)

    def _expire(self) -> None:
        if self.connection is not None:
            self.connection.abort()
        self.finish(FAILED, b"")


class Connection(asyncio.Protocol):
    """One keep-alive connection; also the callbacks of its parser."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._parser: Any = HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._body = b""

    def start(self, exchange: Exchange) -> None:
        """Send the request of an exchange; the connection must be idle."""
        assert self._exchange is None
        assert self._transport is not None
        self._exchange = exchange
        exchange.connection = self
        self._transport.write(exchange.payload)

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which calls the methods below."""
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request under way, if there is one."""
        del exc
        exchange, self._exchange = self._exchange, None
        self._pool.lost(self)
        if exchange is not None:
            exchange.finish(FAILED, b"")

    def on_message_begin(self) -> None:
        """Begin an answer."""
        self._body = b""

    def on_body(self, body: bytes) -> None:
        """Add a piece of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Hand the answer over and become idle again."""
        exchange, self._exchange = self._exchange, None
        if exchange is None or not self._parser.should_keep_alive():
            self.abort()
        else:
            self._pool.idle(self)
        if exchange is not None:
            exchange.finish(self._parser.get_status_code(), self._body)


class Pool:
    """As many connections as requests are under way, up to a limit; the rest wait here."""

    def __init__(self, host: str, port: int, *, size: int, timeout_s: float) -> None:
        self._address = (host, port)
        self._size = size
        self._timeout_s = timeout_s
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []
        self._waiting: deque[Exchange] = deque()
        self._opening: set[asyncio.Task[None]] = set()

    def request(self, payload: bytes, on_done: OnDone) -> None:
        """Send a request; ``on_done(status, body)`` follows within the time limit."""
        exchange = Exchange(payload, on_done, self._timeout_s)
        if self._idle:
            self._idle.pop().start(exchange)
            return
        self._waiting.append(exchange)
        if len(self._open) + len(self._opening) < self._size:
            task = asyncio.get_running_loop().create_task(self._connect())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def ask(self, payload: bytes) -> tuple[int, bytes]:
        """Send a request and wait for its status and body."""
        future: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()

        def on_done(status: int, body: bytes) -> None:
            if not future.done():
                future.set_result((status, body))

        self.request(payload, on_done)
        return await future

    def idle(self, connection: Connection) -> None:
        """Take back a connection that is free: the next in the queue gets it."""
        while self._waiting:
            exchange = self._waiting.popleft()
            if not exchange.is_done:
                connection.start(exchange)
                return
        self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    async def close(self) -> None:
        """Close every connection and fail what waits."""
        for task in list(self._opening):
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        while self._waiting:
            self._waiting.popleft().finish(FAILED, b"")
        for connection in list(self._open):
            connection.abort()
        await asyncio.sleep(0)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: Connection(self), *self._address)
        except OSError:
            if self._waiting:
                self._waiting.popleft().finish(FAILED, b"")
            return
        self._open.add(connection)
        self.idle(connection)


def post(path: str, host: str, body: bytes) -> bytes:
    """The bytes of a POST request with a JSON body."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body
