"""Masks the payload of flows: zeros replace what must not be kept.

The kept bytes of each side are joined by their places in the stream, and read as TLS, DTLS, QUIC, DNS, HTTP/1
or mail. Of these, framing is kept. Payload that is not parsed is zeroed unless the policy keeps it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from apptell.dataset.masking.board import NAMES_ONLY, Policy, drop_names, join, masked
from apptell.dataset.masking.plain import (
    DNS_PORTS,
    MAIL_PORTS,
    mask_dns,
    mask_http,
    mask_mail,
    mask_quic,
)
from apptell.dataset.masking.tls_records import mask_dtls, mask_tls
from apptell.names.text import unescape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apptell.dataset.masking.board import Stream
    from apptell.flows.schema import FlowBatch

__all__ = ["NAMES_ONLY", "Policy", "mask_payload", "mask_server_names", "without_names"]

_UDP: Final = 17


def mask_server_names(flows: FlowBatch) -> FlowBatch:
    """Removes the names of servers from flows and changes nothing else: null columns, zeros in the payload.

    It is used to measure a model without names. For flows that are published, ``mask_payload`` keeps only
    what it can parse.
    """
    return without_names(mask_payload(flows, NAMES_ONLY))


def mask_payload(flows: FlowBatch, policy: Policy) -> FlowBatch:
    """Replaces payload that the policy does not keep by zeros of equal length."""
    column = flows.column("segment_bytes")
    if column.null_count == len(column):
        return flows
    segments = flows.segments()
    blobs = column.to_pylist()
    way, offset = segments.to_server.tolist(), segments.offset.tolist()
    protocol = np.asarray(flows.column("protocol").fill_null(0)).tolist()
    ports = [
        set(pair)
        for pair in zip(
            *(flows.column(f"{side}_port").to_pylist() for side in ("client", "server")),
            strict=True,
        )
    ]
    out: list[list[bytes] | None] = []
    for row, kept in enumerate(blobs):
        if kept is None:
            out.append(None)
            continue
        first = int(segments.first[row])
        n_placed = int(segments.first[row + 1]) - first
        sides = [bool(way[first + i]) if i < n_placed else True for i in range(len(kept))]
        places = [int(offset[first + i]) if i < n_placed else 0 for i in range(len(kept))]
        names = _known_names(flows, row) if policy.masks_names and policy.keeps_unknown else set()
        is_placed = n_placed == len(kept) and protocol[row] != _UDP
        out.append(_mask_flow(kept, sides, places, ports[row], policy, names, is_stream=is_placed))
    return flows.with_columns(segment_bytes=pa.array(out, column.type))


def without_names(flows: FlowBatch) -> FlowBatch:
    """The flows with the columns of names empty."""
    gone: dict[str, Any] = {
        name: pa.nulls(len(flows), pa.string())
        for name in ("server_name", "http_host", "dns_name")
        if name in flows.columns
    }
    return flows.with_columns(**gone)


def _mask_flow(
    blobs: Sequence[bytes],
    sides: Sequence[bool],
    places: Sequence[int],
    ports: set[int | None],
    policy: Policy,
    names: set[bytes],
    *,
    is_stream: bool,
) -> list[bytes]:
    """The segments of one flow, masked."""
    out = list(blobs)
    for side in (True, False):
        numbers = [i for i, way in enumerate(sides) if way == side]
        if not numbers:
            continue
        kept = [blobs[i] for i in numbers]
        if is_stream:
            found = join([places[i] for i in numbers], kept)
        else:
            found = [(join([0], [blob])[0][0], [(i, 0)]) for i, blob in enumerate(kept)]
        streams = [stream for stream, _ in found]
        if is_stream:
            _mask_streams(streams, ports, policy, is_server=not side)
        else:
            _mask_datagrams(streams, ports, policy)
        for stream, laid in found:
            if policy.masks_names and policy.keeps_unknown:
                drop_names(stream, names)
            for i, at in laid:
                out[numbers[i]] = masked(stream, at, kept[i])
    return out


def _mask_streams(
    streams: Sequence[Stream], ports: set[int | None], policy: Policy, *, is_server: bool
) -> None:
    for stream in streams:
        stream.set(0, len(stream), kept=policy.keeps_unknown)
        if mask_tls(stream, policy):
            continue
        if ports & DNS_PORTS and mask_dns(stream, policy, has_length=True):
            continue
        if policy.framing_only and ports & MAIL_PORTS:
            mask_mail(stream, ports, policy, is_server=is_server)
            continue
        if policy.framing_only and mask_http(stream):
            continue
        stream.leave(0, len(stream), policy)


def _mask_datagrams(streams: Sequence[Stream], ports: set[int | None], policy: Policy) -> None:
    for stream in streams:
        stream.set(0, len(stream), kept=policy.keeps_unknown)
    is_dtls = mask_dtls(streams, policy)
    for number, stream in enumerate(streams):
        if number in is_dtls or mask_quic(stream, policy):
            continue
        if ports & DNS_PORTS and mask_dns(stream, policy, has_length=False):
            continue
        stream.leave(0, len(stream), policy)


def _known_names(flows: FlowBatch, row: int) -> set[bytes]:
    """The names of a flow, as they stand in text and in DNS' form."""
    columns = [name for name in ("server_name", "http_host", "dns_name") if name in flows.columns]
    there = [flows.column(name)[row].as_py() for name in columns]
    names = {unescape(name).lower() for name in there if name}
    return names | {_dns_form(name) for name in names}


def _dns_form(name: bytes) -> bytes:
    """A name with a length before each part (RFC 1035, section 3.1)."""
    return b"".join(bytes([min(len(part), 63)]) + part for part in name.split(b".") if part)
