"""Reads names and addresses from DNS responses; compiled code.

Sources: RFC 1035 sections 4.1 (messages) and 4.1.4 (name compression); RFC 3596 (AAAA); RFC 9460 sections 2.2,
2.4 and 7.3 (HTTPS records, their alias form and address hints); RFC 2181 section 8 (TTL).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from apptell.kernels.compiled import inlined, kernel, subroutine
from apptell.names.text import DOT, escape_into

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ANSWERS: Final = 64
"""Addresses taken from one response."""
MAX_ALIASES: Final = 16
"""Aliases followed in one response."""
_MAX_NAME: Final = 255
"""Bytes of a name on the wire (RFC 1035, section 2.3.4)."""
_MAX_JUMPS: Final = 32
"""Compression pointers followed in one name."""
_A, _CNAME, _AAAA, _HTTPS = 1, 5, 28, 65
_IN: Final = 1


@inlined
def _u16(data: NDArray[np.uint8], at: Any) -> Any:
    return (np.int64(data[at]) << 8) | np.int64(data[at + 1])


@inlined
def _u32(data: NDArray[np.uint8], at: Any) -> Any:
    return (_u16(data, at) << 16) | _u16(data, at + 2)


@subroutine
def _read_name(
    data: NDArray[np.uint8], begin: Any, at: Any, end: Any, name: NDArray[np.uint8]
) -> tuple[Any, Any]:
    """Reads a name of the message data[begin:end] into ``name``: labels with their lengths, lower case.

    A pointer must lead to before the labels that it follows, so that every name ends.

    Returns:
        Its bytes and what follows it at ``at``; -1 bytes where it is damaged.
    """
    n: Any = 0
    jumps = 0
    after: Any = -1
    limit = at
    while at < end:
        size = np.int64(data[at])
        if size >= 0xC0:
            if at + 1 >= end or jumps == _MAX_JUMPS:
                break
            target = begin + (((size & 0x3F) << 8) | np.int64(data[at + 1]))
            if after < 0:
                after = at + 2
            if target >= limit:
                break
            limit = target
            at = target
            jumps += 1
            continue
        if size >= 0x40 or at + 1 + size > end or n + 1 + size > _MAX_NAME:
            break
        name[n] = size
        for index in range(1, size + 1):
            byte = data[at + index]
            name[n + index] = byte + 32 if 65 <= byte <= 90 else byte
        n += 1 + size
        at += 1 + size
        if size == 0:
            return n, after if after >= 0 else at
    return -1, end


@inlined
def _is_asked(data: NDArray[np.uint8], at: Any, end: Any) -> Any:
    """Whether a name is a pointer to the name of the question, as nearly all owners are."""
    return at + 1 < end and data[at] == 0xC0 and data[at + 1] == 12


@subroutine
def _is_same(one: NDArray[np.uint8], n_one: int, other: NDArray[np.uint8], n_other: int) -> bool:
    if n_one != n_other:
        return False
    for index in range(n_one):  # noqa: SIM110 (compiled code has no generators)
        if one[index] != other[index]:
            return False
    return True


@subroutine
def _write_name(name: NDArray[np.uint8], n: int, out: NDArray[np.uint8], at: int) -> int:
    """Writes a name as text, its labels joined by dots; where it ends, or -1 if there is no room."""
    place = np.int64(0)
    begin = at
    while place < n and name[place] != 0:
        size = np.int64(name[place])
        if at > begin:
            if at >= len(out):
                return -1
            out[at] = DOT
            at += 1
        at = escape_into(name, place + 1, place + 1 + size, DOT, True, out, at)
        if at < 0:
            return -1
        place += 1 + size
    return at


class Links(NamedTuple):
    """The aliases of one message."""

    owners: NDArray[np.uint8]
    """Names that have an alias, shape (MAX_ALIASES, _MAX_NAME)."""
    targets: NDArray[np.uint8]
    """Their aliases, likewise."""
    found: NDArray[np.int64]
    """Bytes of the owner (0: used) and of the target, TTL; shape (MAX_ALIASES, 3)."""


class Room(NamedTuple):
    """What ``read_responses`` writes for m messages."""

    name_ends: NDArray[np.int32]
    """End of each message's name in ``text``, shape (m + 1,)."""
    alias_counts: NDArray[np.int32]
    """End of each message's aliases in ``alias_ends``, shape (m + 1,)."""
    alias_ends: NDArray[np.int32]
    """End of each alias in ``alias_text``, shape (MAX_ALIASES * m + 1,)."""
    text: NDArray[np.uint8]
    alias_text: NDArray[np.uint8]
    answers: NDArray[np.uint64]
    """Of each address: message, address (high and low), IP version, TTL; shape (k, 5)."""


@subroutine
def _read_chain(
    data: NDArray[np.uint8],
    begin: Any,
    at: Any,
    end: Any,
    n_records: int,
    chain: NDArray[np.uint8],
    sizes: NDArray[np.int64],
    ttls: NDArray[np.int64],
    links: Links,
) -> int:
    """Follows the aliases among the records from ``at`` on; chain[0] is the name that was asked.

    Fills ``chain``, ``sizes`` and ``ttls`` (the smallest TTL up to there) behind their first row. ``links`` is
    overwritten.

    Returns:
        How many names there are, the asked one included.
    """
    owners, targets, found = links
    n_links = 0
    for _ in range(n_records):
        if n_links == MAX_ALIASES:
            break
        is_asked = _is_asked(data, at, end)
        if is_asked:
            owner, at = sizes[0], at + 2
        else:
            owner, at = _read_name(data, begin, at, end, owners[n_links])
        if owner < 0 or at + 10 > end:
            break
        kind, klass, ttl, size = (
            _u16(data, at),
            _u16(data, at + 2),
            _u32(data, at + 4),
            _u16(data, at + 8),
        )
        at += 10
        if at + size > end:
            break
        target = at
        at += size
        if klass != _IN:
            continue
        if kind == _HTTPS and size > 2 and _u16(data, target) == 0:  # priority 0: an alias
            target += 2
        elif kind != _CNAME:
            continue
        n_target, _ = _read_name(data, begin, target, target + size, targets[n_links])
        if n_target > 1:
            if is_asked:
                for index in range(owner):
                    owners[n_links, index] = chain[0, index]
            found[n_links, 0], found[n_links, 1] = owner, n_target
            found[n_links, 2] = ttl if ttl < 1 << 31 else 0
            n_links += 1
    n_names = 1
    while n_names <= n_links:
        last = n_names - 1
        link = -1
        for index in range(n_links):
            if found[index, 0] > 0 and _is_same(
                owners[index], found[index, 0], chain[last], sizes[last]
            ):
                link = index
                break
        if link < 0:
            break
        found[link, 0] = 0  # used: a circle ends
        for index in range(found[link, 1]):
            chain[n_names, index] = targets[link, index]
        sizes[n_names] = found[link, 1]
        ttls[n_names] = min(ttls[last], found[link, 2])
        n_names += 1
    return n_names


@subroutine
def _add_addresses(
    data: NDArray[np.uint8],
    at: Any,
    end: Any,
    kind: int,
    message: int,
    ttl: int,
    answers: NDArray[np.uint64],
    count: int,
) -> int:
    """Adds the addresses (4 or 16 bytes each) in data[at:end] to ``answers``; the new count."""
    size = 4 if kind == _A else 16
    while at + size <= end:
        if count < len(answers):
            high, low = np.uint64(0), np.uint64(0)
            if kind == _AAAA:
                high = (np.uint64(_u32(data, at)) << np.uint64(32)) | np.uint64(_u32(data, at + 4))
                low = np.uint64(_u32(data, at + 8)) << np.uint64(32)
            low |= np.uint64(_u32(data, at + size - 4))
            answers[count, 0] = message
            answers[count, 1] = high
            answers[count, 2] = low
            answers[count, 3] = 4 if kind == _A else 6
            answers[count, 4] = ttl
        count += 1
        at += size
    return count


@subroutine
def _read_addresses(
    data: NDArray[np.uint8],
    begin: Any,
    at: Any,
    end: Any,
    n_records: int,
    chain: NDArray[np.uint8],
    sizes: NDArray[np.int64],
    ttls: NDArray[np.int64],
    n_names: int,
    message: int,
    answers: NDArray[np.uint64],
    count: int,
    owner: NDArray[np.uint8],
) -> int:
    """Adds the addresses of the records from ``at`` on whose owner is in the chain; the new count.

    ``owner`` is overwritten.
    """
    first = count
    for _ in range(n_records):
        is_asked = _is_asked(data, at, end)
        if is_asked:
            n_owner, at = sizes[0], at + 2
        else:
            n_owner, at = _read_name(data, begin, at, end, owner)
        if n_owner < 0 or at + 10 > end or count - first >= MAX_ANSWERS:
            break
        kind, klass, ttl = _u16(data, at), _u16(data, at + 2), _u32(data, at + 4)
        stop = at + 10 + _u16(data, at + 8)
        at += 10
        if stop > end:
            break
        place = -1
        if klass != _IN or (kind != _A and kind != _AAAA and kind != _HTTPS):
            place = -1
        elif is_asked:
            place = 0
        else:
            for index in range(n_names):
                if _is_same(owner, n_owner, chain[index], sizes[index]):
                    place = index
                    break
        if place >= 0:
            ttl = min(ttl if ttl < 1 << 31 else 0, ttls[place])
            if kind == _HTTPS:
                at += 2
                _, at = _read_name(data, begin, at, stop, owner)
                while at + 4 <= stop:  # parameters: key, length, value
                    key, size = _u16(data, at), _u16(data, at + 2)
                    at += 4
                    if at + size > stop:
                        break
                    if key == 4:  # ipv4hint
                        count = _add_addresses(
                            data, at, at + size, _A, message, ttl, answers, count
                        )
                    elif key == 6:  # ipv6hint
                        count = _add_addresses(
                            data, at, at + size, _AAAA, message, ttl, answers, count
                        )
                    at += size
            elif stop - at == (4 if kind == _A else 16):
                count = _add_addresses(data, at, stop, kind, message, ttl, answers, count)
        at = stop
    return min(count, first + MAX_ANSWERS)


@kernel
def read_responses(
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    data: NDArray[np.uint8],
    with_aliases: bool,
    room: Room,
) -> int:
    """Reads m messages, ``data[start[i] : stop[i]]``, into ``room``; the number of addresses in them.

    Of more addresses than there is room for the first are written. -1: a text has no room. Aliases are always
    followed, but only written with ``with_aliases``.
    """
    name_ends, alias_counts, alias_ends, text, alias_text, answers = room
    chain = np.empty((MAX_ALIASES + 1, _MAX_NAME), dtype=np.uint8)
    sizes = np.zeros(MAX_ALIASES + 1, dtype=np.int64)
    ttls = np.full(MAX_ALIASES + 1, np.int64(0xFFFFFFFF))
    links = Links(
        np.empty((MAX_ALIASES, _MAX_NAME), dtype=np.uint8),
        np.empty((MAX_ALIASES, _MAX_NAME), dtype=np.uint8),
        np.empty((MAX_ALIASES, 3), dtype=np.int64),
    )
    owner = np.empty(_MAX_NAME, dtype=np.uint8)
    count = 0
    text_at = 0
    alias_at = 0
    n_aliases = 0
    name_ends[0] = alias_counts[0] = alias_ends[0] = 0
    for message in range(len(start)):
        begin, end = start[message], stop[message]
        before = count
        n_names = 0
        if (
            end - begin >= 12
            and data[begin + 2] & 0xF8 == 0x80  # a response to a standard query
            and _u16(data, begin + 4) == 1
        ):
            n_records = _u16(data, begin + 6)
            sizes[0], at = _read_name(data, begin, begin + 12, end, chain[0])
            at += 4
            if sizes[0] > 1 and at <= end:
                n_names = _read_chain(data, begin, at, end, n_records, chain, sizes, ttls, links)
                count = _read_addresses(
                    data,
                    begin,
                    at,
                    end,
                    n_records,
                    chain,
                    sizes,
                    ttls,
                    n_names,
                    message,
                    answers,
                    count,
                    owner,
                )
        if count > before:
            text_at = _write_name(chain[0], sizes[0], text, text_at)
            for index in range(1, n_names if with_aliases else 1):
                if text_at < 0 or alias_at < 0:
                    break
                alias_at = _write_name(chain[index], sizes[index], alias_text, alias_at)
                n_aliases += 1
                alias_ends[n_aliases] = alias_at
            if text_at < 0 or alias_at < 0:
                return -1
        name_ends[message + 1] = text_at
        alias_counts[message + 1] = n_aliases
    return count
