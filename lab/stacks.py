"""Lets Python's network libraries use a device's TLS stack instead of Python's OpenSSL.

Libraries ask an ``ssl.SSLContext`` for an object between two buffers (``wrap_bio``, asyncio) or
around a socket (``wrap_socket``, threads). A context of this module gives both over another stack
than Python's OpenSSL: rustls by pyrtls, GnuTLS by its own library. So the same client speaks with
the hello, the records and the alerts of that stack.
"""

from __future__ import annotations

import io
import socket
import ssl
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path


class Engine(Protocol):
    """One connection of a stack; knows no socket."""

    def feed(self, data: bytes) -> None:
        """Ciphertext from the server; empty at its end."""

    def drain(self) -> bytes:
        """Ciphertext for the server."""

    def handshake(self) -> bool:
        """Go on with the handshake; whether it is done."""

    def read(self, n_bytes: int) -> bytes | None:
        """Plaintext; None when there is none yet, empty at the end."""

    def write(self, data: bytes) -> int:
        """Plaintext for the server; how much was taken."""

    def close(self) -> None:
        """Queue the closing alert."""


class Context(ssl.SSLContext):
    """An ``ssl.SSLContext`` in form, another stack in fact."""

    start: Callable[[str, Sequence[str]], Engine]
    protocols: Sequence[str]

    @classmethod
    def of(
        cls, start: Callable[[str, Sequence[str]], Engine], protocols: Sequence[str] = ()
    ) -> Context:
        """``start(server name, ALPN)`` makes a connection's engine."""
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context.start, context.protocols = start, protocols
        return context

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """What to offer."""
        self.protocols = tuple(alpn_protocols)

    def wrap_bio(  # type: ignore[override]
        self,
        incoming: Any,
        outgoing: Any,
        _server_side: bool = False,
        server_hostname: str | bytes | None = None,
        _session: Any = None,
        **_: Any,
    ) -> Any:
        """For asyncio; a client's without a session kept."""
        name = server_hostname or ""
        engine = self.start(name if isinstance(name, str) else name.decode(), self.protocols)
        return Buffered(self, engine, incoming, outgoing)

    def wrap_socket(self, sock: socket.socket, *_: Any, **options: Any) -> Any:
        """For threads."""
        engine = self.start(options.get("server_hostname") or "", self.protocols)
        wrapped = Socket(self, engine, sock)
        if options.get("do_handshake_on_connect", True) and wrapped.connected:
            wrapped.do_handshake()
        return wrapped


class Connection:
    """What libraries ask of a connection besides reading and writing."""

    context: Any = None
    server_hostname: str | None = None
    server_side = False

    def __init__(self, context: Context, engine: Engine) -> None:
        self.context, self.engine = context, engine

    def selected_alpn_protocol(self) -> str | None:
        """What the lab's servers take of the offer: HTTP/2 where it is in it."""
        offer = self.context.protocols
        return "h2" if "h2" in offer else next(iter(offer), None)

    def getpeercert(self, binary_form: bool = False) -> Any:
        """Not kept; the stack has checked it."""
        return b"" if binary_form else {}

    def nothing(self, *_: Any, **__: Any) -> None:
        """Not available from these stacks."""

    cipher = compression = get_channel_binding = shared_ciphers = version = nothing


class Buffered(Connection, ssl.SSLObject):  # type: ignore[misc]
    """Between two memory buffers, as asyncio wants it.

    An ``SSLObject`` by name, since slixmpp signs in over nothing else.
    """

    def __init__(self, context: Context, engine: Engine, incoming: Any, outgoing: Any) -> None:
        super().__init__(context, engine)
        self.incoming, self.outgoing = incoming, outgoing

    def _pull(self) -> None:
        if self.incoming.pending:
            self.engine.feed(self.incoming.read())
        elif self.incoming.eof:
            self.engine.feed(b"")

    def _push(self) -> None:
        if data := self.engine.drain():
            self.outgoing.write(data)

    def do_handshake(self) -> None:
        """One step."""
        self._pull()
        try:
            done = self.engine.handshake()
        finally:
            self._push()
        if not done:
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "more of the handshake is needed")

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 - the library's name
        """Bytes, or how many were put into ``buffer``."""
        data = self.engine.read(len)
        if data is None:
            self._pull()
            data = self.engine.read(len)
        self._push()
        if data is None:
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "nothing to read yet")
        if buffer is None:
            return data
        buffer[: data.__len__()] = data
        return data.__len__()

    def write(self, data: Any) -> int:
        """How much was taken."""
        taken = self.engine.write(bytes(data))
        self._push()
        return taken

    def pending(self) -> int:
        """Unknown; a read tells."""
        return 0

    def unwrap(self) -> None:
        """Send the closing alert; the server's is not waited for."""
        self.engine.close()
        self._push()


class Socket(Connection):
    """Around a socket, as threads want it."""

    def __init__(self, context: Context, engine: Engine, sock: socket.socket) -> None:
        super().__init__(context, engine)
        self.sock = sock
        self.unsent = self.partial = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    @property
    def connected(self) -> bool:
        try:
            self.sock.getpeername()
        except OSError:
            return False
        return True

    def connect(self, address: Any) -> None:
        """Connect, then the handshake."""
        self.sock.connect(address)
        self.do_handshake()

    def do_handshake(self) -> None:
        """To its end; the socket blocks."""
        while not self.engine.handshake():
            self._flush()
            self._record()
        self._flush()

    def _record(self) -> None:
        """Feed one record and no more, as OpenSSL reads.

        What callers wait for with ``select`` must stay in the socket.
        """
        while True:
            head = self.partial[:5]
            wanted = 5 if len(head) < 5 else 5 + int.from_bytes(head[3:5], "big")
            if len(self.partial) == wanted > 5:
                break
            data = self.sock.recv(wanted - len(self.partial))
            if not data:
                break
            self.partial += data
        self.engine.feed(self.partial)
        self.partial = b""

    def _flush(self) -> None:
        self.unsent += self.engine.drain()
        while self.unsent:
            self.unsent = self.unsent[self.sock.send(self.unsent) :]

    def recv(self, n_bytes: int, _flags: int = 0) -> bytes:
        """Plaintext; raises as an ``SSLSocket`` does when the socket does not block."""
        while (data := self.engine.read(n_bytes)) is None:
            try:
                self._record()
            except BlockingIOError:
                raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "nothing yet") from None
        return data

    def recv_into(self, buffer: Any, n_bytes: int = 0, _flags: int = 0) -> int:
        """The same into a buffer."""
        data = self.recv(n_bytes or len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def send(self, data: Any, _flags: int = 0) -> int:
        """Plaintext. What the socket does not take now goes with the next call."""
        try:
            self._flush()
            taken = self.engine.write(bytes(data))
            self._flush()
        except BlockingIOError:
            if not self.unsent or "taken" not in locals():
                raise ssl.SSLWantWriteError(ssl.SSL_ERROR_WANT_WRITE, "full") from None
        return taken

    def sendall(self, data: Any, _flags: int = 0) -> None:
        """All of it."""
        view = memoryview(data)
        while view:
            view = view[self.send(view) :]

    def pending(self) -> int:
        """Unknown; a read tells."""
        return 0

    def makefile(self, _mode: str = "rb", *_: Any, **__: Any) -> Any:
        """A buffered reader, for the mail libraries."""
        return io.BufferedReader(socket.SocketIO(self, "r"))  # type: ignore[arg-type]

    def _decref_socketios(self) -> None:
        """The reader is closed; the socket stays."""

    def unwrap(self) -> Any:
        """Send the closing alert."""
        self.engine.close()
        self._flush()
        return self.sock

    def close(self) -> None:
        """The closing alert, as far as it goes, and the end."""
        try:
            self.unwrap()
        except OSError:
            pass
        finally:
            self.sock.close()


def context(stack: str, ca: Path, alpn: Sequence[str], priority: str) -> Context:
    """A context of ``rustls`` or ``gnutls`` that trusts ``ca``; ``priority`` is GnuTLS's."""
    if stack == "rustls":
        from lab import rustls

        return Context.of(rustls.factory(ca), tuple(alpn))
    from lab import gnutls

    return Context.of(gnutls.factory(ca, priority), tuple(alpn))
