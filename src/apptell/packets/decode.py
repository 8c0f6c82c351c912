"""Decodes frames into header rows in one compiled pass.

The first pass decodes TCP and UDP over IP, raw or in Ethernet, the second one all other frames.

``layers`` opens link layers, ``tunnels`` the tunnels in IP and UDP, and ``ip`` and ``transport`` the headers
of IP, TCP and UDP. A frame that aggregates several packets (A-MSDU of IEEE 802.11) gives a row for each.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from apptell.kernels.compiled import inlined, kernel
from apptell.packets.byte_fields import be16
from apptell.packets.headers import HEADER, HeaderBatch, Status
from apptell.packets.ip import open_ip
from apptell.packets.layers import registry
from apptell.packets.layers.numbers import AMSDU, ETHERNET, IP, LINK_TYPE, LLC, UNKNOWN
from apptell.packets.layers.registry import open_layer
from apptell.packets.layers.wifi import open_subframe
from apptell.packets.transport import open_tcp, open_udp
from apptell.packets.tunnels import (
    is_ip_tunnel,
    is_udp_tunnel,
    open_ip_tunnel,
    open_udp_tunnel,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.capture.batch import PacketBatch

MAX_DEPTH: Final = 4
"""Tunnels within tunnels that are opened."""
_MAX_LAYERS: Final = 64
"""Every layer takes at least a byte off; 64 layers are no traffic."""
_NO_LAYER: Final = -1
_WHOLE_ROW: Final = np.dtype((np.void, HEADER.itemsize))
"""A row as it lies in memory: NumPy copies rows of many fields one field after the other."""
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
def decode_plain(frames, rules, rows, others):
    """Decodes TCP and UDP over IP, raw or in Ethernet, into the rows of their frames; how many are ``others``.

    Frames that need more (other link layers, tags, tunnels) are listed there for ``decode_frames``: it takes
    long to compile and few captures need it.
    """
    buffer, layer_of_link = frames.buffer, rules.layer_of_link
    offset, captured, wire = frames.offset, frames.captured, frames.wire
    size = len(buffer)
    n_others = 0
    for frame in range(len(offset)):
        at = offset[frame]
        end = min(at + np.int64(captured[frame]), size)
        wire_end = max(at + np.int64(wire[frame]), end)
        layer = _first_layer(np.int64(frames.link_type[frame]), layer_of_link)
        if layer == ETHERNET and at + 14 <= end:
            kind = be16(buffer, at + 12)
            if kind == 0x0800 or kind == 0x86DD:
                layer = IP
            elif _is_never_ip(kind, buffer, at + 14, end):
                layer = _NO_LAYER
            at += 14
        if (layer != IP and layer != _NO_LAYER) or at < 0 or captured[frame] < 0:
            others[n_others] = frame
            n_others += 1
            continue
        out = rows[frame]
        _clear(out, frames.time_ns[frame], frames.direction[frame], frames.owner[frame])
        if layer == _NO_LAYER:
            continue
        status, protocol, at, wire_end = open_ip(buffer, at, end, wire_end, out)
        end = min(end, wire_end)
        if _ends_here(status, rules.fragments_apart, at, end, wire_end, out):
            status = _FRAGMENT
        elif status == _OK:
            if protocol == _TCP:
                status = open_tcp(buffer, at, end, wire_end, out)
            elif protocol == _UDP:
                status, at, wire_end = open_udp(buffer, at, end, wire_end, out)
                if status == _OK and rules.max_depth > 0 and not out.is_fragment:
                    if is_udp_tunnel(out.source_port, out.target_port):
                        others[n_others] = frame
                        n_others += 1
            elif is_ip_tunnel(protocol) and not out.is_fragment:
                others[n_others] = frame
                n_others += 1
            else:
                status = _OTHER
        out.status = status
    return n_others


@kernel(allocates=False)
def decode_frames(frames, others, first, rules, rows, n_rows):
    """Decodes the frames ``others[first:]`` into ``rows[n_rows:]``; (next of them, rows filled).

    It returns before the end where a frame's packets find no room in ``rows``: then that frame is next.
    """
    buffer, layer_of_link = frames.buffer, rules.layer_of_link
    max_depth, fragments_apart = rules.max_depth, rules.fragments_apart
    offset, captured, wire = frames.offset, frames.captured, frames.wire
    time_ns, link_type = frames.time_ns, frames.link_type
    direction, owner = frames.direction, frames.owner
    size = len(buffer)
    for which in range(first, len(others)):
        frame = others[which]
        before = n_rows
        at = offset[frame]
        end = min(at + np.int64(captured[frame]), size)
        wire_end = max(at + np.int64(wire[frame]), end)
        kind = np.int64(link_type[frame])
        layer = _first_layer(kind, layer_of_link)
        is_bad = at < 0 or captured[frame] < 0
        while True:
            if n_rows == len(rows):
                return which, before
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
    return len(others), n_rows


@inlined
def _first_layer(link_type, layer_of_link):
    """The layer that frames of a link type begin with; ``UNKNOWN`` for those that are not known."""
    return np.int64(layer_of_link[link_type]) if link_type < len(layer_of_link) else UNKNOWN


@inlined
def _is_never_ip(ethertype, buffer, at, end):
    """Whether a frame is one of those that most networks have beside IP: ARP, LLDP, 802.1X, spanning tree."""
    if ethertype == 0x0806 or ethertype == 0x88CC or ethertype == 0x888E:
        return True
    is_length = 3 <= ethertype <= 1500
    return is_length and at + 3 <= end and buffer[at] == 0x42 and buffer[at + 1] == 0x42


@inlined
def _clear(out, time_ns, direction, owner):
    """Resets a row to only what the capture itself records about a packet."""
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
    out.is_further = 0


@inlined
def _ends_here(status, fragments_apart, at, end, wire_end, out):
    """Whether a packet is a fragment that is not read beyond its IP header; its payload is set."""
    if status == _FRAGMENT or (status == _OK and fragments_apart and out.is_fragment):
        out.payload_at = at
        out.payload = wire_end - at
        out.payload_captured = end - at
        return True
    return False


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
            if _ends_here(status, fragments_apart, at, end, wire_end, out):
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
    """Decodes batches into rows that are used again for later batches.

    Args:
        max_tunnels: tunnels within tunnels to open, 0 to 4; 0 leaves all closed.
        fragments_apart: whether first fragments also get the status ``FRAGMENT``, as a ``Reassembler`` needs.
        n_kept: a result is valid until so many further batches are decoded.
    """

    def __init__(
        self, max_tunnels: int = MAX_DEPTH, *, fragments_apart: bool = False, n_kept: int = 1
    ) -> None:
        registry.use_table()
        self.max_tunnels = max_tunnels
        self.fragments_apart = fragments_apart
        self._rows: NDArray[Any] = np.zeros(0, dtype=HEADER)
        self._others = np.zeros(0, dtype=np.int64)
        self._further: NDArray[Any] = np.zeros(0, dtype=HEADER)
        self._kept: deque[tuple[NDArray[Any], NDArray[Any]]] = deque(maxlen=n_kept - 1)

    def __call__(self, batch: PacketBatch) -> HeaderBatch:
        """Decodes a batch; the result is valid until ``n_kept`` further calls."""
        n = len(batch)
        if self._kept.maxlen:
            is_full = len(self._kept) == self._kept.maxlen
            oldest = self._kept.popleft() if is_full else (np.zeros(0, dtype=HEADER),) * 2
            self._kept.append((self._rows, self._further))
            self._rows, self._further = oldest
        if len(self._rows) < n:
            self._rows = np.zeros(n, dtype=HEADER)
        if len(self._others) < n:
            self._others = np.zeros(n, dtype=np.int64)
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
        n_others = decode_plain(frames, rules, self._rows, self._others)
        rows = self._rows[:n]
        if n_others:
            rows = self._with_others(frames, rules, rows, self._others[:n_others])
        return HeaderBatch(rows, batch.buffer)

    def _with_others(
        self, frames: Frames, rules: DecodeRules, rows: NDArray[Any], others: NDArray[np.int64]
    ) -> NDArray[Any]:
        """The rows with those of the frames that were left out, shape (m,) with m at least n."""
        if len(self._further) < len(others):
            self._further = np.zeros(len(others), dtype=HEADER)
        done, n_further = decode_frames(frames, others, 0, rules, self._further, 0)
        while done < len(others):  # more packets than frames
            self._further = np.concatenate([self._further, np.zeros_like(self._further)])
            done, n_further = decode_frames(frames, others, done, rules, self._further, n_further)
        further = self._further[:n_further]
        if len(others) == len(rows):
            return further
        if n_further == len(others):
            rows.view(_WHOLE_ROW)[others] = further.view(_WHOLE_ROW)
            return rows
        frame_of = others[np.cumsum(further["is_further"] == 0) - 1]
        plain = np.ones(len(rows), dtype=np.bool_)
        plain[others] = False
        order = np.argsort(np.concatenate([np.flatnonzero(plain), frame_of]), kind="stable")
        joined: NDArray[Any] = np.concatenate([rows[plain], further])[order]
        return joined


def decode(batch: PacketBatch, max_tunnels: int = MAX_DEPTH) -> HeaderBatch:
    """Decodes one batch into new memory. See ``Decoder`` for streams."""
    return Decoder(max_tunnels)(batch)
