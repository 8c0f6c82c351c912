"""GnuTLS connections through the library itself."""

from __future__ import annotations

import ctypes
import errno
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

CLIENT, NONBLOCK = 2, 8
CRD_CERTIFICATE, NAME_DNS, FMT_PEM, SHUT_WR = 1, 1, 1, 1
AGAIN, E_PREMATURE_END = (-28, -52), -110
lib = ctypes.CDLL("libgnutls.so.30")
lib.gnutls_strerror.restype = ctypes.c_char_p
for name in ("record_send", "record_recv"):
    getattr(lib, f"gnutls_{name}").restype = ctypes.c_ssize_t
    getattr(lib, f"gnutls_{name}").argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
PUSH = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class Datum(ctypes.Structure):
    """``gnutls_datum_t``."""

    _fields_ = (("data", ctypes.c_char_p), ("size", ctypes.c_uint))


def check(code: int) -> int:
    """Raise what GnuTLS says of a negative code."""
    if code < 0:
        raise ConnectionError(f"gnutls: {lib.gnutls_strerror(code).decode()}")
    return code


class GnuTls:
    """One connection."""

    def __init__(
        self, credentials: ctypes.c_void_p, priority: bytes, name: str, alpn: Sequence[str]
    ) -> None:
        self.credentials = credentials  # kept for as long as the session points to them
        self.incoming, self.outgoing = bytearray(), bytearray()
        self.ended = False
        self.session = ctypes.c_void_p()
        check(lib.gnutls_init(ctypes.byref(self.session), CLIENT | NONBLOCK))
        check(lib.gnutls_priority_set_direct(self.session, priority, None))
        check(lib.gnutls_credentials_set(self.session, CRD_CERTIFICATE, credentials))
        self.name = name.encode()
        check(lib.gnutls_server_name_set(self.session, NAME_DNS, self.name, len(self.name)))
        lib.gnutls_session_set_verify_cert(self.session, self.name, 0)
        if alpn:
            data = (Datum * len(alpn))(*(Datum(p.encode(), len(p)) for p in alpn))
            check(lib.gnutls_alpn_set_protocols(self.session, data, len(alpn), 0))
        self._push, self._pull = PUSH(self._send), PUSH(self._receive)
        lib.gnutls_transport_set_push_function(self.session, self._push)
        lib.gnutls_transport_set_pull_function(self.session, self._pull)

    def __del__(self) -> None:
        lib.gnutls_deinit(self.session)

    def _send(self, _: Any, data: int, size: int) -> int:
        self.outgoing += ctypes.string_at(data, size)
        return size

    def _receive(self, _: Any, buffer: int, size: int) -> int:
        if not self.incoming:
            if self.ended:
                return 0
            lib.gnutls_transport_set_errno(self.session, errno.EAGAIN)
            return -1
        part = bytes(self.incoming[:size])
        ctypes.memmove(buffer, part, len(part))
        del self.incoming[: len(part)]
        return len(part)

    def feed(self, data: bytes) -> None:
        """Ciphertext from the server."""
        self.incoming += data
        self.ended = self.ended or not data

    def drain(self) -> bytes:
        """Ciphertext for the server."""
        data = bytes(self.outgoing)
        self.outgoing.clear()
        return data

    def handshake(self) -> bool:
        """One step."""
        code = lib.gnutls_handshake(self.session)
        return code not in AGAIN and check(code) == 0

    def read(self, n_bytes: int) -> bytes | None:
        """Plaintext."""
        buffer = ctypes.create_string_buffer(n_bytes)
        left = -1
        while (code := lib.gnutls_record_recv(self.session, buffer, n_bytes)) in AGAIN:
            # After a session ticket it says the same, though more may have come with it.
            if len(self.incoming) in (0, left):
                return None
            left = len(self.incoming)
        return b"" if code == E_PREMATURE_END else buffer.raw[: check(code)]

    def write(self, data: bytes) -> int:
        """Plaintext for the server."""
        return check(lib.gnutls_record_send(self.session, data, len(data)))

    def close(self) -> None:
        """Queue the closing alert."""
        lib.gnutls_bye(self.session, SHUT_WR)


def factory(ca: Path, priority: str) -> Callable[[str, Sequence[str]], GnuTls]:
    """What starts connections that trust ``ca`` and offer what ``priority`` says."""
    credentials = ctypes.c_void_p()
    check(lib.gnutls_certificate_allocate_credentials(ctypes.byref(credentials)))
    check(lib.gnutls_certificate_set_x509_trust_file(credentials, str(ca).encode(), FMT_PEM))

    def start(name: str, alpn: Sequence[str]) -> GnuTls:
        return GnuTls(credentials, priority.encode(), name, alpn)

    return start
