"""Frames in, headers out: link layers, tunnels, IPv4/IPv6, TCP and UDP, one compiled pass.

``layers`` opens link layers, ``tunnels`` what IP and UDP carry, ``ip`` and ``transport`` their own headers. A
frame that aggregates several packets (A-MSDU of IEEE 802.11) gives a row for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from apptell.kernels.compiled import inlined, kernel
from apptell.packets.headers import HEADER, HeaderBatch, Status
from apptell.packets.ip import open_ip
from apptell.packets.layers import registry
from apptell.packets.layers.numbers import AMSDU, IP, LINK_TYPE, LLC, UNKNOWN
from apptell.packets.layers.registry import open_layer
from apptell.packets.layers.wifi import open_subframe
from apptell.packets.transport import open_tcp, open_udp
from apptell.packets.tunnels import open_ip_tunnel, open_udp_tunnel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.capture.batch import PacketBatch

MAX_DEPTH: Final = 4
"""Tunnels within tunnels that are opened."""
_MAX_LAYERS: Final = 64
"""Every layer takes at least a byte off; 64 layers are no traffic."""
_TCP, _UDP = 6, 17

_OK, _NOT_IP, _CUT = int(Status.OK), int(Status.NOT_IP), int(Status.CUT_IN_HEADERS)
_FRAGMENT, _OTHER = int(Status.FRAGMENT), int(Status.OTHER_PROTOCOL)
_TOO_DEEP = int(Status.TOO_DEEP)


class Frames(NamedTuple):
    """The columns of a PacketBatch that decoding takes."""

    buffer: NDArray[np.uint8]
    offset: NDArray[np.int64]
    captured: NDArray[np.int32]
    wire: NDArray[np.int32]
    time_ns: NDArray[np.int64]
    link_type: NDArray[np.uint16]
    direction: NDArray[np.uint8]
    owner: NDArray[np.int32]


class DecodeRules(NamedTuple):
    """What is opened."""

    layer_of_link: NDArray[np.uint8]
    """The first layer by LINKTYPE_ value."""
    max_depth: int
    """Tunnels within tunnels that are opened."""
    fragments_apart: bool
    """Whether no transport header is read of first fragments either."""


@kernel(allocates=False)
def decode_frames(frames, first_frame, rules, rows, n_rows):
    """Decodes ``frames[first_frame:]`` into ``rows[n_rows:]``; (next frame, rows filled).

    It returns before the end where a frame's packets find no room in ``rows``: then that frame is next.
    """
    buffer, layer_of_link = frames.buffer, rules.layer_of_link
    max_depth, fragments_apart = rules.max_depth, rules.fragments_apart
    offset, captured, wire = frames.offset, frames.captured, frames.wire
    time_ns, link_type = frames.time_ns, frames.link_type
    direction, owner = frames.direction, frames.owner
    size = len(buffer)
    for frame in range(first_frame, len(offset)):
        before = n_rows
        at = offset[frame]
        end = min(at + np.int64(captured[frame]), size)
        wire_end = max(at + np.int64(wire[frame]), end)
        kind = np.int64(link_type[frame])
        layer = _first_layer(kind, layer_of_link)
        is_bad = at < 0 or captured[frame] < 0
        while True:
            if n_rows == len(rows):
                return frame, before
            out = rows[n_rows]
            n_rows += 1
            _clear(out, time_ns[frame], direction[frame], owner[frame])
            out.is_further = n_rows > before + 1
            if is_bad:
                out.status = _CUT
                break
            at, end, wire_end = _decode(
                buffer,
                at,
                end,
                wire_end,
                layer,
                kind,
                layer_of_link,
                max_depth,
                fragments_apart,
                out,
            )
            if at == 0:
                break
            layer = AMSDU
    return len(offset), n_rows


@inlined
def _first_layer(link_type, layer_of_link):
    """The layer that frames of a link type begin with; ``UNKNOWN`` for those that are not known."""
    return np.int64(layer_of_link[link_type]) if link_type < len(layer_of_link) else UNKNOWN


@inlined
def _clear(out, time_ns, direction, owner):
    """A row with what the capture says of a packet, and nothing else."""
    out.time_ns = time_ns
    out.direction = direction
    out.owner = owner
    out.status = _NOT_IP
    out.ip_version = 0
    out.protocol = 0
    out.is_fragment = 0
    out.tunnels = 0
    out.flags = 0
    out.payload = 0
    out.payload_captured = 0
    out.ip_bytes = 0
    out.sequence = 0
    out.acknowledgement = 0
    out.checksum = 0
    out.is_whole = 0


@inlined
def _decode(buffer, at, end, wire_end, layer, kind, layer_of_link, max_depth, fragments_apart, out):
    """Decodes one packet; (next subframe of a frame that aggregates packets or 0, the frame's end, wire end).

    ``end`` is where the captured bytes end, ``wire_end`` where the frame ended on the wire; both shrink with
    every length field on the way in, so that padding and trailers never count as payload. ``kind`` is the
    EtherType or link type that the layer before announced.
    """
    status = _NOT_IP
    depth = 0
    following, following_end, following_wire_end = 0, 0, 0
    for _layer in range(_MAX_LAYERS):
        if layer == IP:
            status, protocol, at, wire_end = open_ip(buffer, at, end, wire_end, out)
            end = min(end, wire_end)
            if status == _FRAGMENT or (status == _OK and fragments_apart and out.is_fragment):
                out.payload_at = at
                out.payload = wire_end - at
                out.payload_captured = end - at
                status = _FRAGMENT
            if status != _OK:
                break
            if protocol == _TCP:
                status = open_tcp(buffer, at, end, wire_end, out)
                break
            if protocol == _UDP:
                status, at, wire_end = open_udp(buffer, at, end, wire_end, out)
                end = min(end, wire_end)
                if status != _OK or depth >= max_depth or out.is_fragment:
                    break
                layer, at, kind = open_udp_tunnel(
                    buffer, at, end, wire_end, out.source_port, out.target_port
                )
                if layer == UNKNOWN:
                    break
            else:
                status = _OTHER
                if out.is_fragment:  # what is inside a fragment cannot be read
                    break
                layer, at, kind = open_ip_tunnel(protocol, buffer, at, end, wire_end)
                if layer == UNKNOWN:
                    break
                if depth >= max_depth:
                    status = _TOO_DEEP
                    break
            depth += 1
            status = _NOT_IP
        elif layer == AMSDU:
            start, stop, place = open_subframe(buffer, at, end)
            if start == 0:
                status = _CUT
                break
            if place:
                following, following_end, following_wire_end = place, end, wire_end
            wire_end = min(wire_end, stop)
            end, at, layer = min(end, wire_end), start, LLC
        elif layer == LINK_TYPE:
            layer = _first_layer(kind, layer_of_link)
        else:
            layer, at, wire_end, kind = open_layer(layer, buffer, at, end, wire_end, kind)
            end = min(end, wire_end)
            if layer < 0:
                status = -layer
                break
    out.status = status
    out.tunnels = depth
    return following, following_end, following_wire_end


class Decoder:
    """Decodes batch after batch into rows that it keeps and reuses.

    Args:
        max_tunnels: tunnels within tunnels to open, 0 to 4; 0 leaves all closed.
        fragments_apart: whether first fragments too get the status ``FRAGMENT``, for a ``Reassembler``.
    """

    def __init__(self, max_tunnels: int = MAX_DEPTH, *, fragments_apart: bool = False) -> None:
        registry.use_table()
        self.max_tunnels = max_tunnels
        self.fragments_apart = fragments_apart
        self._rows: NDArray[Any] = np.zeros(0, dtype=HEADER)

    def __call__(self, batch: PacketBatch) -> HeaderBatch:
        """Headers of a batch; valid until the next call."""
        if len(self._rows) < len(batch):
            self._rows = np.zeros(len(batch), dtype=HEADER)
        frames = Frames(
            batch.buffer,
            batch.offset,
            batch.captured,
            batch.wire,
            batch.time_ns,
            batch.link_type,
            batch.direction,
            batch.owner,
        )
        rules = DecodeRules(registry.LAYER_OF_LINK, self.max_tunnels, self.fragments_apart)
        frame, n_rows = decode_frames(frames, 0, rules, self._rows, 0)
        while frame < len(batch):  # more packets than frames
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
            frame, n_rows = decode_frames(frames, frame, rules, self._rows, n_rows)
        return HeaderBatch(self._rows[:n_rows], batch.buffer)


def decode(batch: PacketBatch, max_tunnels: int = MAX_DEPTH) -> HeaderBatch:
    """Headers of one batch, in memory of their own. See ``Decoder`` for streams."""
    return Decoder(max_tunnels)(batch)
