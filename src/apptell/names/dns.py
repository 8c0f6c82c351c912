"""UDP flows of port 53 in, names of server addresses out: which name was asked for an address.

Source: RFC 1035 section 4 (messages, name compression), RFC 3596 (AAAA). A chain of CNAME records gives
the name that was asked, which is what the app wanted.
"""

from __future__ import annotations

import ipaddress
import struct
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from apptell.flows.schema import FlowBatch

_UDP: Final = 17
_PORT: Final = 53
_A: Final = 1
_AAAA: Final = 28
_IN: Final = 1
_MAX_JUMPS: Final = 32
_NAMES_AN_ADDRESS: Final = 8


class DnsNames:
    """Which names the answers seen so far gave for an address, and when.

    Args:
        max_addresses: addresses remembered at once; the one longest without an answer goes first.
    """

    def __init__(self, max_addresses: int = 1 << 16) -> None:
        self.max_addresses = max_addresses
        self._known: OrderedDict[str, list[tuple[int, str]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def add(self, address: str, name: str, time_ns: int) -> None:
        """Remembers that ``name`` was answered with ``address`` (RFC 5952 text) at ``time_ns``."""
        seen = self._known.setdefault(address, [])
        self._known.move_to_end(address)
        seen.append((time_ns, name))
        if len(seen) > 1 and seen[-2][0] > time_ns:
            seen.sort()
        del seen[:-_NAMES_AN_ADDRESS]
        while len(self._known) > self.max_addresses:
            self._known.popitem(last=False)

    def name_of(self, address: str, time_ns: int) -> str | None:
        """The name last answered with ``address`` not after ``time_ns``, or None."""
        name = None
        for time, candidate in self._known.get(address, ()):
            if time <= time_ns:
                name = candidate
        return name

    def learn(self, flows: FlowBatch) -> None:
        """Takes the answers out of the kept segments of UDP flows with port 53 on the server's side."""
        rows = np.flatnonzero(
            (flows.numpy("protocol") == _UDP) & (flows.numpy("server_port") == _PORT)
        )
        if not len(rows):
            return
        segments = flows.segments()
        for row in rows.tolist():
            for segment in range(int(segments.first[row]), int(segments.first[row + 1])):
                message = segments.data[
                    segments.start[segment] : segments.start[segment + 1]
                ].tobytes()
                for name, address in read_answers(message):
                    self.add(address, name, int(segments.time_ns[segment]))


def add_dns_names(flows: FlowBatch, known: DnsNames) -> FlowBatch:
    """The same flows with ``dns_name``: what was last asked for the server's address before the start.

    Args:
        flows: n flows with the core and segments groups; their own DNS answers are learned first.
        known: what earlier batches taught; grows with this one.
    """
    known.learn(flows)
    names: pa.Array
    if len(known):
        names = pa.array(
            [
                known.name_of(address, start)
                for address, start in zip(
                    flows.column("server_address").to_pylist(),
                    flows.column("start_ns").to_pylist(),
                    strict=True,
                )
            ],
            pa.string(),
        )
    else:
        names = pa.nulls(len(flows), pa.string())
    return flows.with_columns(dns_name=names)


def read_answers(message: bytes) -> list[tuple[str, str]]:
    """(name asked, address) of each A and AAAA record in a DNS response; none where it is damaged.

    Records before the damage count. A message with other than one question gives none.
    """
    if len(message) < 12:
        return []
    _, flags, n_questions, n_answers = struct.unpack_from(">4H", message)
    if not flags & 0x8000 or n_questions != 1:
        return []
    asked, at = _name(message, 12)
    at += 4
    if not asked:
        return []
    found = []
    for _ in range(n_answers):
        owner, at = _name(message, at)
        if owner is None or at + 10 > len(message):
            break
        kind, klass, _, size = struct.unpack_from(">2HIH", message, at)
        at += 10
        data = message[at : at + size]
        if len(data) < size:
            break
        if klass == _IN and (kind, size) in ((_A, 4), (_AAAA, 16)):
            found.append((asked, str(ipaddress.ip_address(data))))
        at += size
    return found


def _name(message: bytes, at: int) -> tuple[str | None, int]:
    """A domain name, lower case, and what follows it; None where it is damaged."""
    labels: list[str] = []
    after = -1
    for _ in range(128 + _MAX_JUMPS):
        if at >= len(message):
            return None, at
        size = message[at]
        if size == 0:
            return ".".join(labels), after if after >= 0 else at + 1
        if size >= 0xC0:
            if at + 1 >= len(message):
                return None, at
            after = at + 2 if after < 0 else after
            at = (size & 0x3F) << 8 | message[at + 1]
            continue
        if size >= 0x40 or at + 1 + size > len(message):
            return None, at
        label = message[at + 1 : at + 1 + size]
        labels.append(bytes(byte for byte in label if 32 < byte < 127).decode("ascii").lower())
        at += 1 + size
    return None, at
