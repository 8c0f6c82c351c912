"""Runs the application with uvicorn, with limits that slow or numerous clients cannot pass."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from apptell.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

HEAD_S: Final = 10.0
"""Seconds within which a client has to send the head of its request."""
READ_S: Final = 30.0
"""Seconds that a client may leave an answer unread."""
MOST_CONNECTIONS: Final = 512
"""Maximum number of concurrent connections; further ones are closed immediately."""
MOST_REQUESTS: Final = 500
"""Maximum number of concurrent requests; further ones are answered 503."""
HEAD_BYTES: Final = 32_768
_END_S: Final = 2
_BACKLOG: Final = 128


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 with a time for the head of a request and for the reading of an answer."""

    head_s = HEAD_S
    read_s = READ_S
    _head_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins the time for the head."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
            return
        self._head_timer = self.loop.call_later(self.head_s, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Takes data; the time for a head ends when the head is complete, and begins with a new one."""
        if self._head_timer is None and self.conn.their_state is h11.IDLE:
            self._head_timer = self.loop.call_later(self.head_s, self.transport.abort)
        super().data_received(data)
        if self._head_timer is not None and self.conn.their_state is not h11.IDLE:
            self._head_timer.cancel()
            self._head_timer = None

    def pause_writing(self) -> None:
        """Called when the client does not read: begins the time for it."""
        super().pause_writing()
        if self._read_timer is None:
            self._read_timer = self.loop.call_later(self.read_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Called when the client has read."""
        super().resume_writing()
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends all times."""
        for timer in (self._head_timer, self._read_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)


def listen(address: tuple[str, int]) -> socket.socket:
    """A listening socket.

    Raises:
        OutputError: the address is not available.
    """
    try:
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, number, _, place = found[0]
        listening = socket.socket(family, kind, number)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(place)
            listening.listen(_BACKLOG)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise OutputError(f"{address[0]}:{address[1]}: {error.strerror or error}") from error
    return listening


class WebServer(uvicorn.Server):
    """The server of an application; signals are the caller's.

    Args:
        app: the application.
        when_ready: called once it answers.
    """

    def __init__(self, app: ASGIApp, when_ready: Callable[[], None] = lambda: None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedProtocol,
                ws="none",
                loop="asyncio",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=MOST_REQUESTS,
                timeout_keep_alive=15,
                timeout_graceful_shutdown=_END_S,
                h11_max_incomplete_event_size=HEAD_BYTES,
            )
        )
        self._when_ready = when_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to answer."""
        await super().startup(sockets)
        self._when_ready()

    def serve_socket(self, listening: socket.socket) -> None:
        """Answers until ``should_exit`` is set; closes the socket."""
        asyncio.run(self._serve([listening]))
