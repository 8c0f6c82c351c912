"""Parses ClientHello messages into server names, ALPN lists and the parts of JA4, as Arrow arrays.

Sources: RFC 8446 section 4.1.2 (ClientHello), RFC 6066 section 3 (server_name), RFC 7301 (ALPN), RFC 8701
(GREASE), RFC 6347 section 4.2.1 (the cookie of DTLS); the published JA4 specification for its parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.flows.plain_columns import Text
from apptell.kernels.compiled import inlined, kernel, subroutine
from apptell.names.text import COMMA, NO_SEPARATOR, escape_into, escaped_room

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.names.tls import Messages

MAX_CODES: Final = 512
"""Ciphers, extensions or signature algorithms that are looked at in one hello."""


@dataclass(frozen=True, slots=True)
class Hellos:
    """The content of m ClientHello messages, each a column of length m."""

    server_name: Text
    """Null where none was offered or the name was cut."""
    alpn: Text
    """Protocols joined by commas, GREASE left out (RFC 8701); null where none was offered."""
    parts: Text
    """Bytes: what JA4 is made of (``ja4.fingerprint``); null where the hello was cut."""


@inlined
def _u16(data: NDArray[np.uint8], at: Any, end: Any) -> Any:
    """Two bytes of data[:end] as a number, or -1 where they are not there."""
    if at < 0 or at + 2 > end:
        return -1
    return (np.int64(data[at]) << 8) | np.int64(data[at + 1])


@inlined
def is_grease(code: int) -> bool:
    """Whether a code was put in at random to keep parsers lenient (RFC 8701): 0x0a0a, 0x1a1a, ... 0xfafa."""
    return (code & 0x0F0F) == 0x0A0A and (code >> 8) == (code & 0xFF)


@subroutine
def _put_codes(codes: NDArray[np.int64], n: int, out: NDArray[np.uint8], at: int) -> int:
    for index in range(n):
        if at + 2 > len(out):
            return at
        out[at] = codes[index] >> 8
        out[at + 1] = codes[index] & 255
        at += 2
    return at


@inlined
def _digit_pair(n: int, out: NDArray[np.uint8], at: int) -> None:
    n = min(n, 99)
    if at + 2 <= len(out):
        out[at] = 48 + n // 10
        out[at + 1] = 48 + n % 10


@inlined
def _is_alphanumeric(byte: int) -> bool:
    return 48 <= byte <= 57 or 65 <= byte <= 90 or 97 <= byte <= 122


@inlined
def _hex_digit(value: int) -> int:
    return 48 + value if value < 10 else 87 + value


@kernel
def parse_hellos(
    kinds: NDArray[np.uint8],
    begins: NDArray[np.int64],
    stops: NDArray[np.int64],
    data: NDArray[np.uint8],
    name_ends: NDArray[np.int32],
    names: NDArray[np.uint8],
    alpn_ends: NDArray[np.int32],
    alpns: NDArray[np.uint8],
    part_ends: NDArray[np.int32],
    parts: NDArray[np.uint8],
) -> None:
    """Parses m ClientHello messages; writes names, ALPN lists and JA4 parts with their ends.

    Message i is ``data[begins[i] : stops[i]]``; ``kinds`` has the first letters of JA4: ``t`` TLS, ``q`` QUIC,
    ``d`` DTLS. A part is ten characters
    (JA4_a), the numbers of ciphers and extensions as u16, the sorted ciphers, the sorted extensions but
    server_name and ALPN, and the signature algorithms in order; it is empty where the hello was cut.
    Names are written as in ``names.text``; one for which ``names`` or ``alpns`` has no room is left out.
    ``parts`` has the size of ``data`` and 16 bytes a message more.
    """
    ciphers = np.empty(MAX_CODES, dtype=np.int64)
    extensions = np.empty(MAX_CODES, dtype=np.int64)
    algorithms = np.empty(MAX_CODES, dtype=np.int64)
    name_at = 0
    alpn_at = 0
    part_at = 0
    for message in range(len(begins)):
        kind = kinds[message]
        at = begins[message]
        end = stops[message]
        n_ciphers = 0
        n_extensions = 0
        n_algorithms = 0
        n_seen_ciphers = 0
        n_seen = 0
        has_name = False
        alpn_first: Any = 48
        alpn_last: Any = 48
        version = _u16(data, at + 4, end)
        whole = end - at >= 42
        if whole:
            body = 4 + (
                (np.int64(data[at + 1]) << 16)
                | (np.int64(data[at + 2]) << 8)
                | np.int64(data[at + 3])
            )
            whole = end - at >= body
            end = min(end, at + body)
        at += 38
        n_ids = 2 if kind == 100 else 1  # DTLS: a cookie follows the session id
        for _ in range(n_ids):
            if at < end:
                at += 1 + np.int64(data[at])
        size = _u16(data, at, end)
        at += 2
        if size < 0 or at + size > end:
            whole = False
            size = 0
            at = end
        for index in range(size // 2):
            code = _u16(data, at + 2 * index, end)
            if is_grease(code):
                continue
            n_seen_ciphers += 1
            if n_ciphers < MAX_CODES:
                spot = n_ciphers
                while spot > 0 and ciphers[spot - 1] > code:
                    ciphers[spot] = ciphers[spot - 1]
                    spot -= 1
                ciphers[spot] = code
                n_ciphers += 1
        at += size
        if at < end:
            at += 1 + np.int64(data[at])
        else:
            whole = False
        size = _u16(data, at, end)
        at += 2
        if size > 0:
            if at + size > end:
                whole = False
            else:
                end = at + size
        else:
            at = end  # a hello without extensions
        highest = -1
        while at + 4 <= end:
            code = _u16(data, at, end)
            size = _u16(data, at + 2, end)
            at += 4
            stop = at + size
            complete = stop <= end
            if not complete:
                whole = False
                stop = end
            if not is_grease(code):
                n_seen += 1
                if code == 0:
                    has_name = True
                if code != 0 and code != 16 and n_extensions < MAX_CODES:
                    spot = n_extensions
                    while spot > 0 and extensions[spot - 1] > code:
                        extensions[spot] = extensions[spot - 1]
                        spot -= 1
                    extensions[spot] = code
                    n_extensions += 1
            first_name = name_at == (name_ends[message - 1] if message > 0 else 0)
            if code == 0 and first_name:
                size = _u16(data, at + 3, stop)
                if size > 0 and at + 5 + size <= stop and data[at + 2] == 0:
                    end_of_name = escape_into(
                        data, at + 5, at + 5 + size, NO_SEPARATOR, False, names, name_at
                    )
                    if end_of_name >= 0:
                        name_at = end_of_name
            elif code == 16:
                place = at + 2
                begin = alpn_ends[message - 1] if message > 0 else 0
                is_first = True
                while place < stop and complete:
                    size = np.int64(data[place])
                    place += 1
                    if place + size > stop:
                        break
                    if is_first and size > 0:
                        alpn_first = np.int64(data[place])
                        alpn_last = np.int64(data[place + size - 1])
                        if not (_is_alphanumeric(alpn_first) and _is_alphanumeric(alpn_last)):
                            alpn_first = _hex_digit(alpn_first >> 4)
                            alpn_last = _hex_digit(alpn_last & 15)
                    is_first = False
                    if size > 0 and not (size == 2 and is_grease(_u16(data, place, stop))):
                        follows = 1 if alpn_at > begin else 0
                        end_of_name = escape_into(
                            data, place, place + size, COMMA, False, alpns, alpn_at + follows
                        )
                        if end_of_name >= 0:
                            if follows:
                                alpns[alpn_at] = COMMA
                            alpn_at = end_of_name
                    place += size
            elif code == 13:
                size = min(_u16(data, at, stop), stop - at - 2)
                for index in range(size // 2):
                    value = _u16(data, at + 2 + 2 * index, stop)
                    if not is_grease(value) and n_algorithms < MAX_CODES:
                        algorithms[n_algorithms] = value
                        n_algorithms += 1
            elif code == 43 and at < stop:
                size = min(np.int64(data[at]), stop - at - 1)
                for index in range(size // 2):
                    value = _u16(data, at + 1 + 2 * index, stop)
                    if is_grease(value):
                        continue
                    if kind == 100:  # DTLS counts down: 0xfefd is newer than 0xfeff
                        if highest < 0 or value < highest:
                            highest = value
                    elif value > highest:
                        highest = value
            at = stop
        name_ends[message] = name_at
        alpn_ends[message] = alpn_at
        needed = 14 + 2 * (n_ciphers + n_extensions + n_algorithms)
        if whole and part_at + needed <= len(parts):
            if highest >= 0:
                version = highest
            tag = 0x3030
            if 0x0301 <= version <= 0x0304:
                tag = 0x3100 | (48 + version - 0x0301)
            elif version == 0x0300:
                tag = 0x7333  # s3
            elif version == 0x0002:
                tag = 0x7332  # s2
            elif version == 0xFEFF:
                tag = 0x6431  # d1
            elif version == 0xFEFD:
                tag = 0x6432  # d2
            elif version == 0xFEFC:
                tag = 0x6433  # d3
            parts[part_at] = kind
            parts[part_at + 1] = tag >> 8
            parts[part_at + 2] = tag & 255
            parts[part_at + 3] = 100 if has_name else 105
            _digit_pair(n_seen_ciphers, parts, part_at + 4)
            _digit_pair(n_seen, parts, part_at + 6)
            parts[part_at + 8] = alpn_first
            parts[part_at + 9] = alpn_last
            parts[part_at + 10] = n_ciphers >> 8
            parts[part_at + 11] = n_ciphers & 255
            parts[part_at + 12] = n_extensions >> 8
            parts[part_at + 13] = n_extensions & 255
            part_at = _put_codes(ciphers, n_ciphers, parts, part_at + 14)
            part_at = _put_codes(extensions, n_extensions, parts, part_at)
            part_at = _put_codes(algorithms, n_algorithms, parts, part_at)
        part_ends[message] = part_at


def read_hellos(found: dict[str, Messages], n_flows: int | None = None) -> Hellos:
    """Names, ALPN and JA4 parts of ClientHello messages.

    Args:
        found: messages by the first letter of their JA4: ``t`` TLS, ``q`` QUIC, ``d`` DTLS (whose hellos
            carry a cookie). Where a flow has several, the first kind counts.
        n_flows: give a value for each of so many flows, null for those without a message, instead of one
            for each message in the order of flows.
    """
    kinds, rows, begins, stops, data = _joined(found)
    n = len(rows)
    ends = np.zeros((3, n + 1), dtype=np.int32)
    size = len(data)
    names, alpns = escaped_room(size), escaped_room(size)
    parts = np.empty(size + 16 * n, dtype=np.uint8)
    parse_hellos(
        kinds, begins, stops, data, ends[0, 1:], names, ends[1, 1:], alpns, ends[2, 1:], parts
    )
    if n_flows is not None:  # messages are in the order of their flows: only the ends change
        sizes = np.zeros((3, n_flows + 1), dtype=np.int32)
        sizes[:, rows + 1] = np.diff(ends)
        ends = np.cumsum(sizes, axis=1, dtype=np.int32)
    # copies, so that the rooms can go
    return Hellos(
        Text(ends[0], names[: ends[0, -1]].copy()),
        Text(ends[1], alpns[: ends[1, -1]].copy()),
        Text(ends[2], parts[: ends[2, -1]].copy()),
    )


def _joined(found: dict[str, Messages]) -> tuple[NDArray[Any], ...]:
    """Kinds, flows, first bytes, ends and bytes of messages in the order of flows, one for each flow."""
    each = list(found.values())
    counts = [len(messages.rows) for messages in each]
    kinds = np.repeat(np.frombuffer("".join(found).encode(), dtype=np.uint8), counts)
    if len(each) == 1:
        start = each[0].start
        return kinds, each[0].rows, start[:-1], start[1:], each[0].data
    rows = np.concatenate([messages.rows for messages in each])
    before = np.cumsum([0, *(len(messages.data) for messages in each[:-1])])
    shift = np.repeat(before, counts)
    order = np.argsort(rows, kind="stable")
    order = order[np.flatnonzero(np.diff(rows[order], prepend=-1))]
    begins = np.concatenate([messages.start[:-1] for messages in each]) + shift
    stops = np.concatenate([messages.start[1:] for messages in each]) + shift
    data = np.concatenate([messages.data for messages in each])
    return kinds[order], rows[order], begins[order], stops[order], data
