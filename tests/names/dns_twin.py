"""DNS messages made by hand, and a plain reading of a response from RFC 1035."""

from __future__ import annotations

import ipaddress
import struct

from apptell.names.text import escape


def wire_name(name: bytes) -> bytes:
    """A name without compression (RFC 1035, section 3.1)."""
    return b"".join(bytes([len(part)]) + part for part in name.split(b".") if part) + b"\0"


def record(kind: int, data: bytes, owner: bytes = b"\xc0\x0c", ttl: int = 60) -> bytes:
    """A resource record; its owner is a pointer to the question's name by default."""
    return owner + struct.pack(">2HIH", kind, 1, ttl, len(data)) + data


def response(
    name: bytes,
    *records: bytes,
    flags: int = 0x8180,
    questions: int = 1,
    kind: int = 1,
    more: bytes = b"",
) -> bytes:
    """A message; ``more`` is one record of the additional section."""
    head = struct.pack(">6H", 7, flags, questions, len(records), 0, 1 if more else 0)
    return head + wire_name(name) + struct.pack(">2H", kind, 1) + b"".join(records) + more


def read_plainly(message: bytes) -> list[tuple[str, str, list[str], int]]:
    """(address, name, aliases, TTL) of each A and AAAA record in the chain of the name that was asked for."""
    try:
        _, flags, n_questions, n_records = struct.unpack_from(">4H", message)
        if flags & 0xF800 != 0x8000 or n_questions != 1:
            return []
        asked, at = _name(message, 12)
        at += 4
    except (IndexError, struct.error, ValueError):
        return []
    if not asked or at > len(message):
        return []
    records = []
    for _ in range(n_records):
        try:
            owner, at = _name(message, at)
            kind, klass, ttl, size = struct.unpack_from(">2HIH", message, at)
        except (IndexError, struct.error, ValueError):
            break
        at += 10
        if at + size > len(message):
            break
        if klass == 1:
            records.append((owner, kind, ttl if ttl < 1 << 31 else 0, at, size))
        at += size
    links: list[tuple[tuple[bytes, ...], tuple[bytes, ...], int]] = []
    for owner, kind, ttl, at, size in records:
        if kind == 5 and len(links) < 16:
            try:
                target, _ = _name(message[: at + size], at)
            except (IndexError, ValueError):
                continue
            if target:
                links.append((owner, target, ttl))
    chain = [(asked, (1 << 32) - 1)]
    while links:
        following = [link for link in links if link[0] == chain[-1][0]]
        if not following:
            break
        links.remove(following[0])
        chain.append((following[0][1], min(chain[-1][1], following[0][2])))
    found: list[tuple[str, str, list[str], int]] = []
    for owner, kind, ttl, at, size in records:
        if (kind, size) in ((1, 4), (28, 16)) and len(found) < 64:
            least = next((least for name, least in chain if name == owner), None)
            if least is not None:
                address = str(ipaddress.ip_address(message[at : at + size]))
                names = [_text(name) for name, _ in chain]
                found.append((address, names[0], names[1:], min(ttl, least)))
    return found


def _text(labels: tuple[bytes, ...]) -> str:
    return ".".join(escape(label).replace(".", r"\x2e") for label in labels)


def _name(message: bytes, at: int) -> tuple[tuple[bytes, ...], int]:
    labels: list[bytes] = []
    after, limit, jumps = None, at, 0
    while True:
        size = message[at]
        if size >= 0xC0:
            target = (size & 63) << 8 | message[at + 1]
            after = after or at + 2
            jumps += 1
            if target >= limit or jumps > 32:
                raise ValueError
            at = limit = target
            continue
        label = message[at + 1 : at + 1 + size]
        if size >= 64 or len(label) < size or sum(map(len, labels)) + len(labels) + size + 1 > 255:
            raise ValueError
        at += 1 + size
        if not size:
            return tuple(labels), after or at
        labels.append(label.lower())
