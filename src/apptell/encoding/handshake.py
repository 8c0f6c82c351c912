"""Writes tokens of the fields of TLS and DTLS handshake messages; only compiled code.

Never a token: randoms, session ids, key shares, tickets, cookies and GREASE, which differ by
construction. Sources: RFC 8446 and RFC 5246 (messages), RFC 6347 (DTLS), RFC 8701 (GREASE).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.encoding.tokens import (
    ALPN,
    CERTIFICATE,
    CIPHER,
    CIPHERS,
    EXTENSION,
    EXTENSION_LIST,
    EXTENSION_SIZE,
    EXTENSIONS,
    HELLO,
    LETTERS,
    NAME_PART,
    NAME_SIZE,
    NAME_WORD,
    SERVER_EXTENSION,
    SERVER_EXTENSIONS,
    SERVER_HELLO,
    WORD,
    Sink,
    hash_bytes,
    mix,
    put,
    size_class,
)
from apptell.kernels.compiled import inlined, subroutine
from apptell.names.hello import is_grease

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES_ON: Final = 0
NAMES_MASKED: Final = 1
NAMES_HASHED: Final = 2

_SERVER_NAME, _GROUPS, _ALGORITHMS, _ALPN, _VERSIONS, _KEY_SHARE = 0, 10, 13, 16, 43, 51


@inlined
def u16(data: NDArray[np.uint8], at: Any) -> Any:
    """Two bytes as a number; the caller has checked that they exist."""
    return (np.int64(data[at]) << 8) | np.int64(data[at + 1])


@inlined
def _has_own_size(extension: int) -> bool:
    """Whether an extension's size is informative: not that of names, padding, tickets, keys, ECH."""
    return not (
        extension == _SERVER_NAME
        or extension == 21
        or extension == 35
        or extension == 41
        or extension == 44
        or extension == _KEY_SHARE
        or extension == 65037
    )


@subroutine
def put_name(
    sink: Sink, flow: int, data: NDArray[np.uint8], start: int, stop: int, names: int
) -> None:
    """Tokens of a host name: each of its endings, and with names on its words.

    Endings are whole labels from the right, so that ``a.example.net`` and ``b.example.net`` share two.
    """
    if names == NAMES_MASKED or start >= stop:
        return
    at = stop
    key = mix(NAME_PART, names)
    labels = 0
    for place in range(stop - 1, start - 2, -1):
        if place < start or data[place] == 46:  # a dot, or before the first byte
            for index in range(place + 1, at):
                letter = np.int64(data[index])
                key = mix(key, letter | 32 if 65 <= letter <= 90 else letter)
            key = mix(key, 46)
            labels += 1
            if labels >= 2:  # a top-level domain by itself is not informative
                put(sink, flow, key)
            at = place
    if names == NAMES_ON:
        put_letters(sink, flow, NAME_WORD, data, start, stop)


@subroutine
def put_letters(
    sink: Sink, flow: int, field: int, data: NDArray[np.uint8], start: int, stop: int
) -> None:
    """A token for each run of three letters or more, in lower case."""
    begin = start
    for at in range(start, stop + 1):
        letter = np.int64(data[at]) | 32 if at < stop else 0
        if 97 <= letter <= 122:
            continue
        if at - begin >= 3:
            key = mix(field, 0)
            for index in range(begin, at):
                key = mix(key, np.int64(data[index]) | 32)
            put(sink, flow, key)
        begin = at + 1


@inlined
def _is_name_byte(byte: int) -> bool:
    return 48 <= byte <= 57 or 97 <= (byte | 32) <= 122 or byte == 45 or byte == 95


@subroutine
def _host_span(data: NDArray[np.uint8], start: int, stop: int) -> tuple[int, int]:
    """The first host name in data[start:stop]: labels, dots, two letters or more at the end."""
    at = start
    while at < stop:
        if not _is_name_byte(data[at]):
            at += 1
            continue
        begin = at
        last = -1
        while at < stop and (_is_name_byte(data[at]) or data[at] == 46):
            if data[at] == 46 and at > begin:
                last = at
            at += 1
        if last > begin and at - last > 2:
            letters = True
            for index in range(last + 1, at):
                if not 97 <= (np.int64(data[index]) | 32) <= 122:
                    letters = False
            if letters:
                return begin, at
    return -1, -1


@subroutine
def put_words(
    sink: Sink, flow: int, data: NDArray[np.uint8], start: int, stop: int, names: int
) -> None:
    """Tokens of runs of four printable bytes or more: the run, its letters, its host name.

    A run that holds a host name is a name: with names masked it gives nothing.
    """
    begin = start
    for at in range(start, stop + 1):
        if at < stop and 33 <= data[at] <= 126:
            continue
        if at - begin >= 4:
            host, end = _host_span(data, begin, at)
            if host >= 0:
                put_name(sink, flow, data, host, end, names)
            elif at - begin <= 40:
                put(sink, flow, hash_bytes(WORD, data, begin, at))
                put_letters(sink, flow, LETTERS, data, begin, at)
        begin = at + 1


@subroutine
def _put_list(
    sink: Sink, flow: int, code: int, data: NDArray[np.uint8], start: int, stop: int, step: int
) -> None:
    """One token for an extension's list of 16-bit values, GREASE left out; key shares give groups."""
    key = mix(EXTENSION_LIST, code)
    at = start
    while at + 2 <= stop:
        value = u16(data, at)
        if not is_grease(value):
            key = mix(key, value + 1)
        at += 2
        if step == 4:  # a key share: the group, a length, the key
            if at + 2 > stop:
                break
            at += 2 + u16(data, at)
    put(sink, flow, key)


@subroutine
def put_client_hello(
    sink: Sink,
    flow: int,
    data: NDArray[np.uint8],
    start: Any,
    stop: Any,
    is_datagram: bool,
    names: int,
) -> None:
    """Tokens of a ClientHello in data[start:stop], from its type on, perhaps cut at its end."""
    if start + 39 > stop:
        return
    put(sink, flow, mix(mix(HELLO, 1), u16(data, start + 4)))
    put(sink, flow, mix(mix(HELLO, 2), size_class(stop - start)))
    at = start + 38
    put(sink, flow, mix(mix(HELLO, 3), np.int64(data[at])))  # length of the session id
    at += 1 + np.int64(data[at])
    if is_datagram:
        if at >= stop:
            return
        at += 1 + np.int64(data[at])  # the cookie
    if at + 2 > stop:
        return
    end = min(at + 2 + u16(data, at), stop)
    at += 2
    key = mix(CIPHERS, 0)
    while at + 2 <= end:
        code = u16(data, at)
        at += 2
        if not is_grease(code):
            key = mix(key, code + 1)
            put(sink, flow, mix(CIPHER, code))
    put(sink, flow, key)
    at = end
    if at >= stop:
        return
    put(sink, flow, mix(mix(HELLO, 4), np.int64(data[at])))  # compression methods
    at += 1 + np.int64(data[at])
    at += 2  # length of all extensions
    ordered = mix(EXTENSIONS, 1)
    unordered = 0
    while at + 4 <= stop:
        code = u16(data, at)
        size = u16(data, at + 2)
        at += 4
        end = min(at + size, stop)
        if is_grease(code):
            at = end
            continue
        ordered = mix(ordered, code + 1)
        unordered ^= mix(mix(EXTENSIONS, 2), code)
        put(sink, flow, mix(EXTENSION, code))
        if code == _SERVER_NAME:
            if at + 5 <= end:
                put(sink, flow, mix(NAME_SIZE, size - 5))
                put_name(sink, flow, data, at + 5, end, _mode(data, at + 5, end, names))
        elif code == _ALPN:
            put(sink, flow, hash_bytes(ALPN, data, at, end))
        elif code == _VERSIONS:
            _put_list(sink, flow, code, data, at + 1, end, 2)
        elif code == _KEY_SHARE:
            _put_list(sink, flow, code, data, at + 2, end, 4)
        elif code == _GROUPS or code == _ALGORITHMS:
            _put_list(sink, flow, code, data, at + 2, end, 2)
        elif _has_own_size(code):
            put(sink, flow, mix(mix(EXTENSION_SIZE, code), size))
        at = end
    put(sink, flow, ordered)
    put(sink, flow, unordered)


@subroutine
def _mode(data: NDArray[np.uint8], start: int, stop: int, names: int) -> int:
    """The requested treatment of names; masked if the name was overwritten by zeros."""
    for at in range(start, stop):
        if data[at] != 0:
            return names
    return NAMES_MASKED


@subroutine
def put_server_hello(sink: Sink, flow: int, data: NDArray[np.uint8], start: Any, stop: Any) -> None:
    """Tokens of a ServerHello in data[start:stop], from its type on."""
    if start + 39 > stop:
        return
    put(sink, flow, mix(mix(SERVER_HELLO, 1), u16(data, start + 4)))
    put(sink, flow, mix(mix(SERVER_HELLO, 2), size_class(stop - start)))
    at = start + 38
    put(sink, flow, mix(mix(SERVER_HELLO, 3), np.int64(data[at])))
    at += 1 + np.int64(data[at])
    if at + 3 > stop:
        return
    put(sink, flow, mix(mix(SERVER_HELLO, 4), u16(data, at)))
    at += 5
    key = mix(SERVER_EXTENSIONS, 0)
    while at + 4 <= stop:
        code = u16(data, at)
        size = u16(data, at + 2)
        at += 4
        end = min(at + size, stop)
        if code == _ALPN:
            put(sink, flow, hash_bytes(mix(ALPN, 1), data, at, end))
        key = mix(mix(key, code), size)
        put(sink, flow, mix(mix(SERVER_EXTENSION, code), size))
        at = end
    put(sink, flow, key)


@subroutine
def put_certificates(
    sink: Sink, flow: int, data: NDArray[np.uint8], start: Any, stop: Any, names: int
) -> None:
    """Tokens of a Certificate message in plain text (TLS 1.2 and before), from its type on."""
    if start + 7 > stop:
        return
    at = start + 7
    key = mix(CERTIFICATE, 0)
    while at + 3 <= stop:
        size = (np.int64(data[at]) << 16) | u16(data, at + 1)
        key = mix(key, size_class(size))
        at += 3 + size
    put(sink, flow, key)
    put_words(sink, flow, data, start + 7, stop, names)
