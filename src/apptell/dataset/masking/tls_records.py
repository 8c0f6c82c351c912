"""Marks the bytes of TLS records and DTLS datagrams that are kept.

Sources: RFC 8446 (TLS 1.3), RFC 5246 (TLS 1.2), RFC 6347 and RFC 9147 (DTLS), RFC 6066 (server names). The
hello is read over the joined stream, so that a name that is split over segments or records is also found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from apptell.dataset.masking.board import Places
from apptell.names.domains import is_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apptell.dataset.masking.board import Policy, Stream

_CHANGE_CIPHER, _ALERT, _HANDSHAKE, _DATA, _HEARTBEAT = 20, 21, 22, 23, 24
_MAX_RECORD_BYTES: Final = 2**14 + 2048
_CLIENT_HELLO, _SERVER_HELLO, _HELLO_VERIFY = 1, 2, 3
_NAMING: Final = (11, 13, 22, 25)
"""Messages that name hosts: Certificate, CertificateRequest, CertificateStatus, CompressedCertificate."""
_SERVER_NAME, _KEY_SHARE = 0, 51
_KEPT_EXTENSIONS: Final = frozenset((1, 10, 11, 13, 16, 23, 27, 28, 43, 45, 50, 17513, 17613))
"""Extensions that describe the capabilities of a stack, and no identities or locations."""
_STATUS_REQUEST: Final = 5
"""Its type is kept; names of responders may follow (RFC 6066, section 8)."""
_MAX_MESSAGE_BYTES: Final = 1 << 16


def mask_tls(stream: Stream, policy: Policy) -> bool:
    """Marks what is kept of one side of a TLS connection; False where it does not begin with a record."""
    if not _is_record(stream, 0):
        return False
    at = 0
    is_encrypted = False
    handshake = Places()
    while at < len(stream):
        if not _is_record(stream, at):
            stream.leave(at, len(stream), policy)
            break
        kind, length = stream.number(at, 1), stream.number(at + 3, 2)
        body, at = at + 5, at + 5 + length
        stream.set(body - 5, body, kept=True)
        if kind == _HANDSHAKE and not is_encrypted:
            stream.set(body, at, kept=False)
            handshake.add(stream, body, at)
        elif kind == _CHANGE_CIPHER:
            is_encrypted = True
            stream.set(body, at, kept=length == 1)
        elif kind == _ALERT and length == 2 and not is_encrypted:
            stream.set(body, at, kept=True)
        else:
            stream.set(body, at, kept=policy.keeps_unknown)  # ciphertext
    _mask_messages(handshake, policy)
    return True


@dataclass(slots=True)
class _Message:
    """A handshake message of DTLS as its fragments come."""

    kind: int
    size: int
    data: bytearray
    places: dict[int, tuple[Stream, int]] = field(default_factory=dict)
    heads: Places = field(default_factory=Places)
    is_spoiled: bool = False

    def place(self, at: int, byte: int, stream: Stream, where: int) -> None:
        """One byte of it; two fragments that differ spoil it."""
        if at in self.places:
            self.is_spoiled |= self.data[at] != byte
            return
        self.data[at] = byte
        self.places[at] = stream, where

    def whole(self) -> Places:
        """Where its bytes lie, up to the first that is missing."""
        found = Places()
        for at in range(0 if self.is_spoiled else len(self.places)):
            if at not in self.places:
                break
            stream, where = self.places[at]
            found.add(stream, where, where + 1)
        return found


def mask_dtls(datagrams: Sequence[Stream], policy: Policy) -> set[int]:
    """Marks what is kept of one side's datagrams; the numbers of those that are DTLS."""
    found: set[int] = set()
    messages: dict[int, _Message] = {}
    for number, stream in enumerate(datagrams):
        at = 0
        while _is_datagram_record(stream, at):
            found.add(number)
            kind, epoch = stream.number(at, 1), stream.number(at + 3, 2)
            body, at = at + 13, at + 13 + stream.number(at + 11, 2)
            stream.set(body - 13, body, kept=True)
            if kind == _HANDSHAKE and epoch == 0:
                stream.set(body, at, kept=False)
                _collect(stream, body, min(at, len(stream)), messages)
            elif kind in (_CHANGE_CIPHER, _ALERT) and epoch == 0 and at - body <= 2:
                stream.set(body, at, kept=True)
            else:
                stream.set(body, at, kept=policy.keeps_unknown)
        if number in found and at < len(stream):
            stream.leave(at, len(stream), policy)
    for message in messages.values():
        places = message.whole()
        message.heads.keep(0, _MAX_MESSAGE_BYTES)
        _mask_content(message.kind, places.content(), places, policy, is_datagram=True)
    return found


def _collect(stream: Stream, at: int, stop: int, messages: dict[int, _Message]) -> None:
    """Puts the fragments of a record into their messages."""
    while at + 12 <= stop and stream.has(at, 12):
        kind, size, sequence = (
            stream.number(at, 1),
            stream.number(at + 1, 3),
            stream.number(at + 4, 2),
        )
        first, n = stream.number(at + 6, 3), stream.number(at + 9, 3)
        if size > _MAX_MESSAGE_BYTES or first + n > size:
            return
        message = messages.setdefault(sequence, _Message(kind, size, bytearray(size)))
        if message.kind != kind or message.size != size:
            message.is_spoiled = True
            return
        message.heads.add(stream, at, at + 12)
        for i in range(min(n, stop - at - 12)):
            message.place(first + i, stream.data[at + 12 + i], stream, at + 12 + i)
        at += 12 + n


def _is_record(stream: Stream, at: int) -> bool:
    if not stream.has(at, 5):
        return False
    kind, major, minor = stream.data[at], stream.data[at + 1], stream.data[at + 2]
    length = stream.number(at + 3, 2)
    return (
        _CHANGE_CIPHER <= kind <= _HEARTBEAT
        and major == 3
        and minor <= 4
        and 0 < length <= _MAX_RECORD_BYTES
    )


def _is_datagram_record(stream: Stream, at: int) -> bool:
    if not stream.has(at, 13):
        return False
    kind, version = stream.data[at], stream.number(at + 1, 2)
    return _CHANGE_CIPHER <= kind <= _HEARTBEAT and version in (0xFEFF, 0xFEFD, 0xFEFC, 0x0100)


def _mask_messages(places: Places, policy: Policy) -> None:
    """The handshake messages of a side, joined over its records, up to the first hole."""
    data = places.content()
    at = 0
    while at + 4 <= len(data):
        length = int.from_bytes(data[at + 1 : at + 4], "big")
        if length > _MAX_MESSAGE_BYTES:
            return
        places.keep(at, at + 4)
        stop = min(at + 4 + length, len(data))
        _mask_content(data[at], data[at + 4 : stop], places.part(at + 4, stop), policy)
        at += 4 + length


def _mask_content(
    kind: int, content: bytes, places: Places, policy: Policy, *, is_datagram: bool = False
) -> None:
    """The content of one message, as far as it is there."""
    if kind in (_CLIENT_HELLO, _SERVER_HELLO):
        hello = _Hello(content, places, policy)
        hello.mark(
            is_client=kind == _CLIENT_HELLO, has_cookie=is_datagram and kind == _CLIENT_HELLO
        )
    elif kind == _HELLO_VERIFY and is_datagram:
        places.keep(0, 3 if policy.framing_only else len(content))
    elif not policy.framing_only and kind not in _NAMING:
        places.keep(0, len(content))


class _Hello:
    """A hello that is read from its beginning until something is missing or wrong."""

    def __init__(self, content: bytes, places: Places, policy: Policy) -> None:
        self._content = content
        self._places = places
        self._policy = policy
        self._at = 0

    def mark(self, *, is_client: bool, has_cookie: bool) -> None:
        """Marks what is kept."""
        whole = not self._policy.framing_only
        if not (self._take(2, kept=True) and self._take(32, kept=whole)):
            return
        if not self._vector(1, kept=whole):  # session id
            return
        if has_cookie and not self._vector(1, kept=whole):
            return
        if is_client:
            if not (self._vector(2, kept=True) and self._vector(1, kept=True)):
                return
        elif not self._take(3, kept=True):
            return
        if not self._take(2, kept=True):  # length of all extensions
            return
        while self._at + 4 <= len(self._content):
            head = self._content[self._at : self._at + 4]
            self._take(4, kept=True)
            self._extension(
                int.from_bytes(head[:2], "big"), int.from_bytes(head[2:], "big"), is_client
            )

    def _extension(self, kind: int, length: int, is_client: bool) -> None:
        body = self._at
        stop = min(body + length, len(self._content))
        self._at = body + length
        if kind == _SERVER_NAME and (self._policy.masks_names or self._holds_address(body, stop)):
            self._names(body, stop)
        elif not self._policy.framing_only or kind in _KEPT_EXTENSIONS or kind == _SERVER_NAME:
            self._places.keep(body, stop)
        elif kind == _STATUS_REQUEST:
            self._places.keep(body, min(body + 1, stop))
        elif kind == _KEY_SHARE:
            self._shares(body, stop, is_client)

    def _names(self, at: int, stop: int) -> None:
        """Length of the list, and type and length of each name; the names themselves go."""
        if at + 2 > stop:
            return
        self._places.keep(at, at + 2)
        at += 2
        while at + 3 <= stop:
            self._places.keep(at, at + 3)
            at += 3 + int.from_bytes(self._content[at + 1 : at + 3], "big")

    def _holds_address(self, body: int, stop: int) -> bool:
        """Whether the name is an address, which RFC 6066 forbids and clients send."""
        return is_address(self._content[body + 5 : stop].decode("latin-1"))

    def _shares(self, at: int, stop: int, is_client: bool) -> None:
        """Group and length of each key; the keys themselves go."""
        if is_client:
            self._places.keep(at, min(at + 2, stop))
            at += 2
        while at + 2 <= stop:
            self._places.keep(at, min(at + 4, stop))
            at += 4 + int.from_bytes(self._content[at + 2 : at + 4], "big")

    def _take(self, n: int, *, kept: bool) -> bool:
        stop = self._at + n
        if stop > len(self._content):
            return False
        if kept:
            self._places.keep(self._at, stop)
        self._at = stop
        return True

    def _vector(self, n_length: int, *, kept: bool) -> bool:
        """A vector with its length before it; the length is always kept."""
        length = int.from_bytes(self._content[self._at : self._at + n_length], "big")
        return self._take(n_length, kept=True) and self._take(length, kept=kept)
