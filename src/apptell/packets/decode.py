"""Frames in, headers out: link layers, tunnels, IPv4/IPv6, TCP and UDP, one compiled pass.

Sources: RFC 791, 8200, 9293, 768; IEEE 802.1Q; RFC 2003 (IP in IP), 4213 (6in4), 3378 (EtherIP). Other
link layers are ``link_layers``', tunnels over UDP (CAPWAP among them) and GRE ``tunnels``'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.kernels.compiled import kernel
from apptell.packets import links
from apptell.packets.fields import be16, be32, be64
from apptell.packets.headers import HEADER, HeaderBatch, Status
from apptell.packets.link_layers import open_layer
from apptell.packets.tunnels import gre_tunnel, udp_tunnel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.capture.batch import PacketBatch

MAX_DEPTH: Final = 4
"""Tunnels within tunnels that are opened."""

_UNKNOWN, _ETHERNET, _ETHERTYPE, _IP = links.UNKNOWN, links.ETHERNET, links.ETHERTYPE, links.IP
_LLC, _PPP, _PPPOE, _MPLS = links.LLC, links.PPP, links.PPPOE, links.MPLS

_OK, _NOT_IP, _CUT = int(Status.OK), int(Status.NOT_IP), int(Status.CUT_IN_HEADERS)
_ENCRYPTED, _BAD_IP = int(Status.ENCRYPTED_LINK), int(Status.BAD_IP)
_BAD_TRANSPORT, _FRAGMENT = int(Status.BAD_TRANSPORT), int(Status.FRAGMENT)
_OTHER, _TOO_DEEP = int(Status.OTHER_PROTOCOL), int(Status.TOO_DEEP)


@kernel
def decode_frames(
    buffer,
    offset,
    captured,
    wire,
    time_ns,
    link_type,
    direction,
    owner,
    layer_of_link,
    max_depth,
    fragments_apart,
    rows,
):
    """Decodes n frames into ``rows``; of fragments set apart, no transport header is read.

    ``end`` is where the captured bytes end, ``wire_end`` where the frame ended on the wire; both shrink
    with every length field on the way in, so that padding and trailers never count as payload.
    """
    size = len(buffer)
    for row in range(len(offset)):
        out = rows[row]
        at = offset[row]
        end = min(at + np.int64(captured[row]), size)
        wire_end = max(at + np.int64(wire[row]), end)
        out.time_ns = time_ns[row]
        out.direction = direction[row]
        out.owner = owner[row]
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
        if at < 0 or captured[row] < 0:
            out.status = _CUT
            continue
        layer = np.int64(0)
        if link_type[row] < len(layer_of_link):
            layer = np.int64(layer_of_link[link_type[row]])
        ethertype = np.int64(0)
        depth = 0
        for _step in range(64):  # every layer takes at least a byte off; 64 layers are no traffic
            if layer == _ETHERNET:
                if at + 14 > end:
                    out.status = _CUT
                    break
                ethertype = be16(buffer, at + 12)
                at += 14
                layer = _ETHERTYPE
            elif layer == _ETHERTYPE:
                if ethertype == 0x0800 or ethertype == 0x86DD:
                    layer = _IP
                elif (
                    ethertype == 0x8100
                    or ethertype == 0x88A8
                    or ethertype == 0x9100
                    or ethertype == 0x9200
                ):
                    if at + 4 > end:
                        out.status = _CUT
                        break
                    ethertype = be16(buffer, at + 2)
                    at += 4
                elif ethertype <= 1500:  # IEEE 802.3: a length
                    wire_end = min(wire_end, at + ethertype) if ethertype else wire_end
                    end = min(end, wire_end)
                    layer = _LLC
                elif ethertype == 0x8847 or ethertype == 0x8848:
                    layer = _MPLS
                elif ethertype == 0x8864:
                    layer = _PPPOE
                elif ethertype == 0x880B:
                    layer = _PPP
                elif ethertype == 0x6558:
                    layer = _ETHERNET
                elif (
                    ethertype == 0x88E7
                ):  # provider backbone bridging: service tag, then the inner frame
                    at += 4
                    layer = _ETHERNET
                elif ethertype == 0x8903:  # Cisco FabricPath: its tag, then the inner frame
                    at += 2
                    layer = _ETHERNET
                elif ethertype == 0x8926:  # VN-Tag
                    if at + 6 > end:
                        out.status = _CUT
                        break
                    ethertype = be16(buffer, at + 4)
                    at += 6
                elif ethertype == 0x88E5:
                    out.status = _ENCRYPTED
                    break
                else:
                    out.status = _NOT_IP
                    break
            elif layer == _IP:
                if at + 20 > end:
                    out.status = _CUT
                    break
                version = np.int64(buffer[at]) >> 4
                ip_at = at
                if version == 4:
                    header = (np.int64(buffer[at]) & 15) * 4
                    total = be16(buffer, at + 2)
                    if header < 20 or (total != 0 and total < header):
                        out.status = _BAD_IP
                        break
                    if total != 0:  # 0: the network card was to cut the segment (offload)
                        wire_end = min(wire_end, at + total)
                    fragment = be16(buffer, at + 6)
                    out.is_fragment = 1 if fragment & 0x3FFF else 0
                    protocol = np.int64(buffer[at + 9])
                    out.ttl = buffer[at + 8]
                    out.source_high = 0
                    out.source_low = np.uint64(be32(buffer, at + 12))
                    out.target_high = 0
                    out.target_low = np.uint64(be32(buffer, at + 16))
                    at += header
                    later_fragment = fragment & 0x1FFF != 0
                elif version == 6:
                    if at + 40 > end:
                        out.status = _CUT
                        break
                    total = be16(buffer, at + 4)
                    if total != 0:  # 0: a jumbogram or offload
                        wire_end = min(wire_end, at + 40 + total)
                    protocol = np.int64(buffer[at + 6])
                    out.ttl = buffer[at + 7]
                    out.source_high = be64(buffer, at + 8)
                    out.source_low = be64(buffer, at + 16)
                    out.target_high = be64(buffer, at + 24)
                    out.target_low = be64(buffer, at + 32)
                    out.is_fragment = 0
                    at += 40
                    later_fragment = False
                else:
                    out.status = _BAD_IP
                    break
                end = min(end, wire_end)
                out.ip_version = version
                out.ip_at = ip_at
                out.ip_bytes = wire_end - ip_at
                cut = False
                # Extension headers (IPv6) and the authentication header (both versions).
                while not later_fragment:
                    if protocol == 51:
                        if at + 2 > end:
                            cut = True
                            break
                        protocol, at = np.int64(buffer[at]), at + (np.int64(buffer[at + 1]) + 2) * 4
                    elif version == 6 and protocol == 44:
                        if at + 8 > end:
                            cut = True
                            break
                        fragment = be16(buffer, at + 2)
                        out.is_fragment = 1 if fragment & 0xFFF9 else 0
                        later_fragment = fragment & 0xFFF8 != 0
                        protocol = np.int64(buffer[at])
                        at += 8
                    elif version == 6 and (
                        protocol == 0
                        or protocol == 43
                        or protocol == 60
                        or protocol == 135
                        or protocol == 139
                        or protocol == 140
                    ):
                        if at + 2 > end:
                            cut = True
                            break
                        protocol, at = np.int64(buffer[at]), at + (np.int64(buffer[at + 1]) + 1) * 8
                    else:
                        break
                out.protocol = protocol
                if cut:
                    out.status = _CUT
                    break
                if later_fragment or (fragments_apart and out.is_fragment):
                    out.payload_at = at
                    out.payload = wire_end - at
                    out.payload_captured = end - at
                    out.status = _FRAGMENT
                    break
                if protocol == 6:
                    if wire_end - at < 20:
                        out.status = _BAD_TRANSPORT
                        break
                    if at + 20 > end:
                        out.status = _CUT
                        break
                    header = (np.int64(buffer[at + 12]) >> 4) * 4
                    if header < 20 or at + header > wire_end:
                        out.status = _BAD_TRANSPORT
                        break
                    out.source_port = be16(buffer, at)
                    out.target_port = be16(buffer, at + 2)
                    out.sequence = be32(buffer, at + 4)
                    out.acknowledgement = be32(buffer, at + 8)
                    out.flags = buffer[at + 13]
                    out.checksum = be16(buffer, at + 16)
                    at += header
                    out.payload_at = at
                    out.payload = wire_end - at
                    out.payload_captured = max(end - at, 0)
                    out.status = _OK
                    break
                if protocol == 17:
                    if wire_end - at < 8:
                        out.status = _BAD_TRANSPORT
                        break
                    if at + 8 > end:
                        out.status = _CUT
                        break
                    source_port = be16(buffer, at)
                    target_port = be16(buffer, at + 2)
                    length = be16(buffer, at + 4)
                    if length != 0 and length < 8:
                        out.status = _BAD_TRANSPORT
                        break
                    out.source_port = source_port
                    out.target_port = target_port
                    out.checksum = be16(buffer, at + 6)
                    if length != 0:
                        wire_end = min(wire_end, at + length)
                        end = min(end, wire_end)
                    at += 8
                    out.payload_at = at
                    out.payload = wire_end - at
                    out.payload_captured = max(end - at, 0)
                    out.status = _OK
                    if depth >= max_depth or out.is_fragment:
                        break
                    layer, at, ethertype = udp_tunnel(
                        buffer, at, end, wire_end, source_port, target_port
                    )
                    if layer == _UNKNOWN:
                        break
                    depth += 1
                    out.tunnels = depth
                    out.status = _NOT_IP
                    continue
                # Tunnels directly over IP; what is inside a fragment cannot be read.
                out.status = _OTHER
                if out.is_fragment:
                    break
                if protocol == 4 or protocol == 41:
                    layer = _IP
                elif protocol == 47:
                    layer, at, ethertype = gre_tunnel(buffer, at, end)
                    if layer == _UNKNOWN:
                        break
                elif protocol == 97:
                    at += 2
                    layer = _ETHERNET
                elif protocol == 137:
                    layer = _MPLS
                else:
                    break
                if depth >= max_depth:
                    out.status = _TOO_DEEP
                    break
                depth += 1
                out.tunnels = depth
                out.status = _NOT_IP
            else:
                layer, at, end, wire_end, ethertype = open_layer(
                    layer, ethertype, buffer, at, end, wire_end, layer_of_link
                )
                if layer < 0:
                    out.status = -layer
                    break
        out.tunnels = depth


class Decoder:
    """Decodes batch after batch into rows that it keeps and reuses.

    Args:
        max_tunnels: tunnels within tunnels to open, 0 to 4; 0 leaves all closed.
        fragments_apart: whether first fragments too get the status ``FRAGMENT``, for a ``Reassembler``.
    """

    def __init__(self, max_tunnels: int = MAX_DEPTH, *, fragments_apart: bool = False) -> None:
        self.max_tunnels = max_tunnels
        self.fragments_apart = fragments_apart
        self._rows: NDArray[Any] = np.zeros(0, dtype=HEADER)

    def __call__(self, batch: PacketBatch) -> HeaderBatch:
        """Headers of a batch; valid until the next call."""
        n = len(batch)
        if len(self._rows) < n:
            self._rows = np.zeros(n, dtype=HEADER)
        rows = self._rows[:n]
        decode_frames(
            batch.buffer,
            batch.offset,
            batch.captured,
            batch.wire,
            batch.time_ns,
            batch.link_type,
            batch.direction,
            batch.owner,
            links.LAYER_OF_LINK,
            self.max_tunnels,
            self.fragments_apart,
            rows,
        )
        return HeaderBatch(rows, batch.buffer)


def decode(batch: PacketBatch, max_tunnels: int = MAX_DEPTH) -> HeaderBatch:
    """Headers of one batch, in memory of their own. See ``Decoder`` for streams."""
    return Decoder(max_tunnels)(batch)
