"""Columns of flows that few readers ask for: owners, fields of the audit, link layer and TCP flags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from apptell.flows.tcp import FIN, RST, SYN
from apptell.packets.headers import TCP
from apptell.packets.links import KNOWN_MAC, TUNNELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from apptell.capture.batch import Owner
    from apptell.packets.links import LinkReader

CONN_STATES: Final = (
    "S0", "S1", "SF", "REJ", "S2", "S3", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR", "OTH",
)  # fmt: skip
"""Zeek's states of a connection (docs.zeek.org, base/protocols/conn/main.zeek)."""


def bits(values: NDArray[np.bool_]) -> pa.Array:
    """Booleans as an Arrow array."""
    packed = pa.py_buffer(np.packbits(values, bitorder="little"))
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, packed])


def owner_columns(
    owners: Sequence[Owner], records: NDArray[Any], ready: NDArray[np.int32]
) -> dict[str, pa.Array]:
    """Who the capture says owns the flows."""
    conflict = bits(records["owner_conflict"][ready] != 0)
    if not owners:
        return {"owner_conflict": conflict}
    numbers = records["owner"][ready]
    codes = pa.array(numbers, mask=numbers < 0)
    return {
        "owner_uid": pa.array([owner.uid for owner in owners], pa.int32()).take(codes),
        "owner_package": pa.array([owner.package for owner in owners], pa.string()).take(codes),
        "owner_name": pa.array([owner.name for owner in owners], pa.string()).take(codes),
        "owner_conflict": conflict,
    }


def audit_columns(
    records: NDArray[Any], ready: NDArray[np.int32], client: NDArray[np.int64]
) -> dict[str, pa.Array]:
    """The columns of the group *audit*."""
    columns = {}
    for column, name in (("ttl", "ttl"), ("sequence", "first_sequence"), ("checksum", "checksum")):
        pair = records[name][ready]  # (n, 2)
        rows = np.arange(len(ready))
        columns[f"client_{column}"] = pa.array(pair[rows, client])
        columns[f"server_{column}"] = pa.array(pair[rows, 1 - client])
    return columns


def link_columns(
    reader: LinkReader,
    records: NDArray[Any],
    ready: NDArray[np.int32],
    client: NDArray[np.int64],
) -> dict[str, pa.Array]:
    """The columns of the group *link*."""
    flows = records[ready]
    known = flows["link"] >= 0
    links = reader.links[np.where(known, flows["link"], 0)]
    client_sent = flows["first_from"] == client
    macs = [np.where(known, links[name], 0) for name in ("source_mac", "target_mac")]
    number = links["tunnel_id"]
    rows = np.arange(len(ready))
    flags = flows["flags"][rows, client], flows["flags"][rows, 1 - client]
    packets = flows["packets"][rows, 1 - client]
    payload = flows["payload_bytes"].sum(axis=1)
    states = conn_states(
        flows["protocol"], *flags, flows["packets"][rows, client], packets, payload
    )
    tunnels = [
        None if not kind else f"{TUNNELS[kind]}:{which}" if which >= 0 else TUNNELS[kind]
        for kind, which in zip(
            np.where(known, links["tunnel"], 0).tolist(), number.tolist(), strict=True
        )
    ]
    return {
        "client_mac": _macs(np.where(client_sent, *macs)),
        "server_mac": _macs(np.where(client_sent, *macs[::-1])),
        "vlan": pa.array(links["vlan"], mask=~known | (links["vlan"] < 0)),
        "inner_vlan": pa.array(links["inner_vlan"], mask=~known | (links["inner_vlan"] < 0)),
        "tunnel": pa.array(tunnels, pa.string()),
        "interface": pa.array(links["interface"], mask=~known),
        "flags_to_server": pa.array(flags[0]),
        "flags_to_client": pa.array(flags[1]),
        "conn_state": pa.array(CONN_STATES, pa.string()).take(pa.array(states)),
    }


def _macs(values: NDArray[np.int64]) -> pa.Array:
    texts = [
        (value ^ KNOWN_MAC).to_bytes(6, "big").hex(":") if value else None
        for value in values.tolist()
    ]
    return pa.array(texts, pa.string())


def conn_states(
    protocol: NDArray[np.uint8],
    to_server: NDArray[np.uint8],
    to_client: NDArray[np.uint8],
    packets_to_server: NDArray[np.int64],
    packets_to_client: NDArray[np.int64],
    payload_bytes: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Zeek's state of each flow, a place in CONN_STATES, shape (n,).

    Args:
        protocol: IP protocol numbers, shape (n,).
        to_server: TCP flags of all packets of the client (Zeek's originator).
        to_client: those of the server (Zeek's responder).
        packets_to_server: packets of the client.
        packets_to_client: packets of the server.
        payload_bytes: of both directions.
    """
    o_syn, o_fin, o_rst = (to_server & flag > 0 for flag in (SYN, FIN, RST))
    r_syn, r_fin, r_rst = (to_client & flag > 0 for flag in (SYN, FIN, RST))
    has_sent_syn_alone = o_syn & ~r_syn & ~o_fin & ~o_rst
    is_rejected = has_sent_syn_alone | (o_rst & (payload_bytes == 0))
    is_silent = packets_to_client == 0
    is_tcp = protocol == TCP
    sent, answered = packets_to_server > 0, packets_to_client > 0
    rules = (
        (~is_tcp & sent & answered, "SF"),
        (~is_tcp & sent, "S0"),
        (~is_tcp & answered, "SHR"),
        (~is_tcp, "OTH"),
        (r_rst & is_rejected, "REJ"),
        (r_rst & ~o_syn & ~o_fin & ~o_rst, "RSTRH"),
        (r_rst, "RSTR"),
        (o_rst & ~r_syn & ~r_fin, "RSTOS0"),
        (o_rst, "RSTO"),
        (o_fin & r_fin, "SF"),
        (o_fin & ~r_syn, "SH"),
        (o_fin, "S2"),
        (r_fin & ~o_syn, "SHR"),
        (r_fin, "S3"),
        (o_syn & is_silent, "S0"),
        (o_syn & r_syn, "S1"),
    )
    found = np.select(
        [condition for condition, _ in rules],
        [CONN_STATES.index(name) for _, name in rules],
        CONN_STATES.index("OTH"),
    )
    return np.asarray(found, dtype=np.int64)
