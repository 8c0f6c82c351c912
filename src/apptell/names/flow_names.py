"""Adds server name, ALPN, JA4 and HTTP host to flows with kept segments.

The flow table does not parse TLS: names are parsed when a flow is returned. They are evidence and never an
    input of a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from apptell.flows.plain_columns import to_arrow
from apptell.names.dtls import find_dtls_hellos
from apptell.names.hello import read_hellos
from apptell.names.http import read_hosts
from apptell.names.ja4 import fingerprints
from apptell.names.quic import find_initials
from apptell.names.tls import find_hellos

if TYPE_CHECKING:
    from apptell.flows.schema import FlowBatch

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
    found = {"t": find_hellos(segments, is_tcp)}
    google: dict[int, str] = {}
    if is_udp.any():
        found["q"], google = find_initials(segments, is_udp)
        found["d"] = find_dtls_hellos(segments, is_udp)
    found = {kind: messages for kind, messages in found.items() if len(messages.rows)}
    server_name: Any = None
    alpn: Any = None
    ja4: Any = None
    if found:
        hellos = read_hellos(found, n)
        server_name, alpn, ja4 = hellos.server_name, hellos.alpn, fingerprints(hellos.parts)
    if google:
        names = np.full(n, None, dtype=object)
        names[list(google)] = list(google.values())
        shown = to_arrow(server_name, pa.string(), n)
        server_name = pc.coalesce(shown, pa.array(names, pa.string()))
    host = read_hosts(segments, is_tcp)
    return flows.with_plain(
        {"server_name": server_name, "alpn": alpn, "ja4": ja4, "http_host": host}
    )
