"""rustls connections, through pyrtls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyrtls

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

CHANGE_CIPHER, HANDSHAKE, DATA = 20, 22, 23
RETRY = bytes.fromhex("cf21ad74e59a6111")
"""How the random of TLS 1.3's HelloRetryRequest begins (RFC 8446, section 4.1.3)."""


class Records:
    """The content types of the TLS records of one direction, from its bytes."""

    def __init__(self) -> None:
        self.kinds: list[int] = []
        self._rest = b""

    def note(self, data: bytes) -> None:
        """Count the whole records of ``data`` and what came before."""
        data = self._rest + data
        at = 0
        while len(data) - at >= 5 and len(data) - at >= (
            size := 5 + int.from_bytes(data[at + 3 : at + 5], "big")
        ):
            self.kinds.append(data[at])
            at += size
        self._rest = data[at:]


class Rustls:
    """One connection.

    pyrtls does not tell when the handshake is done, but the records do: in TLS 1.3 the client's
    Finished is its first encrypted record, in TLS 1.2 the server's follows its change of ciphers.
    """

    def __init__(self, config: pyrtls.ClientConfig, name: str) -> None:
        self.tls = pyrtls.ClientConnection(config, name)
        self.sent, self.received = Records(), Records()
        self.done = self.ended = self.retried = False
        self.plain, self.unsent = bytearray(), bytearray()

    def feed(self, data: bytes) -> None:
        """Ciphertext from the server."""
        if not data:
            self.ended = True
        if not self.done:
            self.received.note(data)
            self.retried = self.retried or RETRY in data
        while data:
            taken = self.tls.read_tls(data)
            data = data[taken:] if taken else b""
            state = self.tls.process_new_packets()
            # taken at once, for pyrtls takes no more ciphertext when its own buffer is full
            part = bytearray(state.plaintext_bytes_to_read)
            if part:
                self.plain += part[: self.tls.read_into(part)]
            self.ended = self.ended or state.peer_has_closed

    def _take(self) -> None:
        """Take what rustls has made."""
        buffer = bytearray(32_768)
        while self.tls.writable() and (taken := self.tls.write_tls_into(buffer)):
            self.unsent += buffer[:taken]
            if not self.done:
                self.sent.note(bytes(buffer[:taken]))

    def drain(self) -> bytes:
        """Ciphertext for the server."""
        self._take()
        data = bytes(self.unsent)
        self.unsent.clear()
        return data

    def handshake(self) -> bool:
        """Whether it is done; its last flight may wait to be drained.

        What the server says next must not be waited for: an IRC server says nothing.
        """
        self._take()
        if not self.done and self.ended:
            raise ConnectionError("rustls: the server ended the handshake")
        kinds = self.received.kinds
        old = CHANGE_CIPHER in kinds and HANDSHAKE in kinds[kinds.index(CHANGE_CIPHER) :]
        self.done = (
            self.done or DATA in self.sent.kinds or (old and DATA not in kinds and not self.retried)
        )
        return self.done

    def read(self, n_bytes: int) -> bytes | None:
        """Plaintext."""
        if not self.plain:
            return b"" if self.ended else None
        part = bytes(self.plain[:n_bytes])
        del self.plain[: len(part)]
        return part

    def write(self, data: bytes) -> int:
        """Plaintext for the server."""
        return int(self.tls.write(data))

    def close(self) -> None:
        """No closing alert: pyrtls queues none; the TCP connection's end must do."""


def factory(ca: Path) -> Callable[[str, Sequence[str]], Rustls]:
    """What starts connections that trust ``ca``."""
    root = ca.read_text()
    configs: dict[tuple[str, ...], pyrtls.ClientConfig] = {}

    def start(name: str, alpn: Sequence[str]) -> Rustls:
        key = tuple(alpn)
        if key not in configs:
            configs[key] = pyrtls.ClientConfig(
                platform_verifier=False, custom_roots=[root], alpn_protocols=list(key) or None
            )
        return Rustls(configs[key], name)

    return start
