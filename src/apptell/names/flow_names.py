"""Adds server name, ALPN, JA4 and HTTP host to flows with kept segments.

The flow table does not parse TLS: names are parsed when a flow is returned. They are evidence and never an
    input of a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from apptell.names.dtls import find_dtls_hellos
from apptell.names.hello import read_hellos
from apptell.names.http import read_hosts
from apptell.names.ja4 import fingerprints
from apptell.names.quic import find_initials
from apptell.names.tls import find_hellos

if TYPE_CHECKING:
    from apptell.flows.schema import FlowBatch
    from apptell.names.tls import Messages

_TCP: Final = 6
_UDP: Final = 17


def add_names(flows: FlowBatch) -> FlowBatch:
    """The same flows with ``server_name``, ``alpn``, ``ja4`` and ``http_host``; null where unseen.

    A hello is searched in the client's segments, and then in the server's. The server name is given if all of
    it was kept, and JA4 if the whole hello was kept.

    Args:
        flows: n flows with the core and segments groups.
    """
    segments = flows.segments()
    protocol = flows.numpy("protocol")
    is_tcp, is_udp = protocol == _TCP, protocol == _UDP
    n = len(flows)
    columns = [_hello_columns(find_hellos(segments, is_tcp), "t", n)]
    host = read_hosts(segments, is_tcp)
    if is_udp.any():
        initials, google = find_initials(segments, is_udp)
        columns.append(_hello_columns(initials, "q", n))
        columns.append(_hello_columns(find_dtls_hellos(segments, is_udp), "d", n))
        if google:
            names = pa.array([google.get(row) for row in range(n)], pa.string())
            columns.append((names, *(pa.nulls(n, pa.string()) for _ in range(2))))
    seen = [column for column in columns if column is not None]
    server_name, alpn, ja4 = (
        (pc.coalesce(*column) if len(column) > 1 else column[0])
        for column in (zip(*seen, strict=True) if seen else [(pa.nulls(n, pa.string()),)] * 3)
    )
    return flows.with_columns(server_name=server_name, alpn=alpn, ja4=ja4, http_host=host)


def _hello_columns(messages: Messages, kind: str, n_flows: int) -> tuple[pa.Array, ...] | None:
    """Server name, ALPN and JA4 of n flows, from the messages that some of them have; None without any."""
    if not len(messages.rows):
        return None
    hellos = read_hellos(messages, kind, n_flows)
    return hellos.server_name, hellos.alpn, fingerprints(hellos.parts)
