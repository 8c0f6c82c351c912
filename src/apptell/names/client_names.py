"""Reads the names of clients from decoded packets: what devices call themselves in DHCP and in mDNS.

``ClientNameReader`` is called with each ``HeaderBatch`` and returns what the packets tell. From DHCP it takes
the host name of a request (option 12, or 81) with the address that the device asks for or has; from mDNS the
addresses of ``NAME.local``, told by the device that has them or by one in its network.

Sources: RFC 2131 and 2132 (DHCP and its options), RFC 4702 (option 81), RFC 6762 (mDNS).
"""

from __future__ import annotations

import ipaddress
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from apptell.names.text import escape
from apptell.packets.headers import UDP, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from apptell.packets.headers import HeaderBatch

_SERVER_PORT, _CLIENT_PORT, _MDNS_PORT = 67, 68, 5353
_FIXED_BYTES: Final = 236
_COOKIE: Final = bytes((99, 130, 83, 99))
_PAD, _HOST_NAME, _REQUESTED, _KIND, _FQDN, _END = 0, 12, 50, 53, 81, 255
_REQUEST, _INFORM = 3, 8
_ETHERNET: Final = 1
_LOCAL: Final = b"local"
_A, _AAAA = 1, 28
_MAX_MESSAGES: Final = 1024
"""mDNS messages that are read of one batch of packets."""
_MAX_RECORDS, _MAX_LABELS = 256, 16


class ClientName(NamedTuple):
    """What a packet tells of a device."""

    address: str
    name: str | None
    """As it was sent, without ``.local``; unusual bytes are escaped. None where only the address is told."""
    time_ns: int
    """Of the packet, ns since 1970 UTC."""
    mac: str | None = None
    """Of the device, as in ``02:00:00:00:00:01``; None where it is not told."""


class ClientNameReader:
    """Finds the names of clients among packets. It remembers nothing."""

    def __call__(self, headers: HeaderBatch) -> list[ClientName]:
        """What these packets tell, in their order."""
        source_port = headers.rows["source_port"]
        listed = np.flatnonzero((source_port == _CLIENT_PORT) | (source_port == _MDNS_PORT))
        if not len(listed):
            return []
        rows = headers.rows[listed]
        is_whole = (rows["status"] == Status.OK) & (rows["protocol"] == UDP)
        is_mdns = rows["source_port"] == _MDNS_PORT
        is_dhcp = is_whole & ~is_mdns & (rows["target_port"] == _SERVER_PORT)
        is_mdns &= is_whole
        found = [
            told
            for row in np.flatnonzero(is_dhcp).tolist()
            if (told := _of_request(rows[row], _payload(headers, rows[row]))) is not None
        ]
        if is_mdns.any():
            found += _of_mdns(headers, rows[is_mdns])
            found.sort(key=lambda told: told.time_ns)
        return found


def _payload(headers: HeaderBatch, row: Any) -> bytes:
    data = headers.whole if row["is_whole"] else headers.buffer
    at = int(row["payload_at"])
    size = max(min(int(row["payload_captured"]), int(row["payload"])), 0)
    return data[at : at + size].tobytes()


def _of_request(row: Any, data: bytes) -> ClientName | None:
    """The name and the MAC address in a DHCP request or inform; None for other messages and damaged ones."""
    if len(data) < _FIXED_BYTES + 4 or data[0] != 1 or data[1] != _ETHERNET:
        return None
    if data[_FIXED_BYTES : _FIXED_BYTES + 4] != _COOKIE:
        return None
    options = _options(data, _FIXED_BYTES + 4)
    if options.get(_KIND, b"\0")[0] not in (_REQUEST, _INFORM):
        return None
    name = options.get(_HOST_NAME, b"") or options.get(_FQDN, b"")[3:]
    asked = options.get(_REQUESTED, b"")
    has = data[12:16] if any(data[12:16]) else asked
    name = name.rstrip(b"\0")
    if len(has) != 4 or not any(has):
        return None
    mac = data[28:34].hex(":") if data[2] == 6 else None
    text = escape(name) if name else None
    return ClientName(str(ipaddress.IPv4Address(has)), text, int(row["time_ns"]), mac)


def _options(data: bytes, at: int) -> dict[int, bytes]:
    """The options of a DHCP message, the first of each kind."""
    found: dict[int, bytes] = {}
    while at < len(data) and data[at] != _END:
        if data[at] == _PAD:
            at += 1
            continue
        if at + 2 > len(data) or at + 2 + data[at + 1] > len(data):
            break
        body = data[at + 2 : at + 2 + data[at + 1]]
        if body:
            found.setdefault(data[at], body)
        at += 2 + data[at + 1]
    return found


def _of_mdns(headers: HeaderBatch, rows: NDArray[Any]) -> list[ClientName]:
    """Addresses of names in mDNS responses."""
    return [
        ClientName(address, escape(name), int(row["time_ns"]))
        for row in rows[:_MAX_MESSAGES]
        for name, address in _hosts(_payload(headers, row))
    ]


def _hosts(data: bytes) -> Iterator[tuple[bytes, str]]:
    """The first label of each NAME.local in a response, and its address; up to where it is damaged."""
    if len(data) < 12 or not data[2] & 0x80:
        return
    n_questions, *counts = struct.unpack_from(">4H", data, 4)
    at = 12
    for _ in range(n_questions):
        _, at = _labels(data, at)
        at += 4
    for _ in range(min(sum(counts), _MAX_RECORDS)):
        labels, at = _labels(data, at)
        if at + 10 > len(data):
            return
        kind, klass, _, size = struct.unpack_from(">HHIH", data, at)
        at += 10
        body = data[at : at + size]
        at += size
        is_address = (kind, len(body)) in ((_A, 4), (_AAAA, 16)) and klass & 0x7FFF == 1
        if is_address and len(labels) == 2 and labels[1].lower() == _LOCAL:
            yield labels[0], str(ipaddress.ip_address(body))


def _labels(data: bytes, at: int) -> tuple[list[bytes], int]:
    """The labels of a name, and what follows it; the end of the message where it is damaged."""
    labels: list[bytes] = []
    after = -1
    limit = at
    while at < len(data) and len(labels) < _MAX_LABELS:
        size = data[at]
        if size >= 0xC0:
            target = ((size & 0x3F) << 8) | (data[at + 1] if at + 1 < len(data) else 0)
            after = at + 2 if after < 0 else after
            if target >= limit:
                break
            at = limit = target
        elif size == 0:
            return labels, at + 1 if after < 0 else after
        elif size >= 0x40:
            break
        else:
            labels.append(data[at + 1 : at + 1 + size])
            at += 1 + size
    return [], len(data)
