"""Frames in, headers out: link layers, tunnels, IPv4/IPv6, TCP and UDP, one compiled pass.

Sources: RFC 791, 8200, 9293, 768; IEEE 802.1Q, 802.2, 802.11; RFC 1661 and 2516 (PPP, PPPoE); tunnels:
RFC 2003 (IP in IP), 4213 (6in4), 2784/2890/2637 (GRE, PPTP), 7348 (VXLAN), 8926 (Geneve), 3032 (MPLS),
2661 (L2TP), 4380 (Teredo), 3GPP TS 29.281 (GTP-U), 3378 (EtherIP).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numba import njit

from apptell.packets import links
from apptell.packets.fields import be16, be32, be64, le16, le32
from apptell.packets.headers import HEADER, HeaderBatch, Status
from apptell.packets.tunnels import gre_tunnel, udp_tunnel
from apptell.packets.wifi import radiotap_pads, wifi_payload

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.capture.batch import PacketBatch

MAX_DEPTH: Final = 4
"""Tunnels within tunnels that are opened."""

_UNKNOWN, _ETHERNET, _IP, _NULL = links.UNKNOWN, links.ETHERNET, links.IP, links.NULL
_SLL, _SLL2, _PPP, _PPPOE = links.LINUX_SLL, links.LINUX_SLL2, links.PPP, links.PPPOE
_PPP_DIRECTION, _HDLC, _WIFI, _RADIOTAP = (
    links.PPP_WITH_DIRECTION,
    links.CISCO_HDLC,
    links.WIFI,
    links.RADIOTAP,
)
_PRISM, _AVS, _PPI, _PKTAP, _NFLOG = links.PRISM, links.AVS, links.PPI, links.PKTAP, links.NFLOG
_LLC, _TOKEN_RING, _FDDI, _FRAME_RELAY = links.LLC, links.TOKEN_RING, links.FDDI, links.FRAME_RELAY
_ENC, _PFLOG, _MPACKET, _ETHERTYPE = links.ENC, links.PFLOG, links.MPACKET, links.ETHERTYPE
_MPLS, _IP_OVER_FC, _IPOIB = links.MPLS, links.IP_OVER_FC, links.IP_OVER_INFINIBAND

_OK, _UNKNOWN_LINK, _NOT_IP, _NOT_DATA = (
    int(Status.OK),
    int(Status.UNKNOWN_LINK_TYPE),
    int(Status.NOT_IP),
    int(Status.NOT_DATA),
)
_ENCRYPTED, _CUT, _BAD_IP, _BAD_TRANSPORT = (
    int(Status.ENCRYPTED_LINK),
    int(Status.CUT_IN_HEADERS),
    int(Status.BAD_IP),
    int(Status.BAD_TRANSPORT),
)
_FRAGMENT, _OTHER, _TOO_DEEP = (
    int(Status.FRAGMENT),
    int(Status.OTHER_PROTOCOL),
    int(Status.TOO_DEEP),
)

_kernel = njit(cache=True, nogil=True)


@_kernel
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
    rows,
):
    """Decodes n frames into ``rows``.

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
                if later_fragment:
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
            elif layer == _MPLS:
                bottom = False
                while at + 4 <= end and not bottom:
                    bottom = buffer[at + 2] & 1 != 0
                    at += 4
                if not bottom or at >= end:
                    out.status = _CUT
                    break
                nibble = buffer[at] >> 4
                if nibble == 4 or nibble == 6:
                    layer = _IP
                else:  # a pseudowire; a zero nibble is its control word
                    if nibble == 0:
                        at += 4
                    layer = _ETHERNET
            elif layer == _PPPOE:
                if at + 6 > end:
                    out.status = _CUT
                    break
                if buffer[at + 1] != 0:  # discovery
                    out.status = _NOT_IP
                    break
                wire_end = min(wire_end, at + 6 + be16(buffer, at + 4))
                end = min(end, wire_end)
                at += 6
                layer = _PPP
            elif layer == _PPP or layer == _PPP_DIRECTION:
                if layer == _PPP_DIRECTION:
                    at += 1
                if at + 2 <= end and buffer[at] == 0xFF and buffer[at + 1] == 0x03:
                    at += 2
                elif (
                    at + 4 <= end
                    and (buffer[at] == 0x0F or buffer[at] == 0x8F)
                    and buffer[at + 1] == 0
                ):
                    layer = _HDLC
                    continue
                if at + 2 > end:
                    out.status = _CUT
                    break
                if buffer[at] & 1:  # compressed protocol field
                    ethertype = np.int64(buffer[at])
                    at += 1
                else:
                    ethertype = be16(buffer, at)
                    at += 2
                if ethertype == 0x21 or ethertype == 0x57:
                    layer = _IP
                elif ethertype == 0x281 or ethertype == 0x283:
                    layer = _MPLS
                else:
                    out.status = _NOT_IP
                    break
            elif layer == _HDLC:
                if at + 4 > end:
                    out.status = _CUT
                    break
                ethertype = be16(buffer, at + 2)
                at += 4
                layer = _ETHERTYPE
                if ethertype <= 1500:
                    out.status = _NOT_IP
                    break
            elif layer == _LLC:
                if at + 3 > end:
                    out.status = _CUT
                    break
                if buffer[at] == 0xAA and buffer[at + 1] == 0xAA and buffer[at + 2] == 0x03:
                    if at + 8 > end:
                        out.status = _CUT
                        break
                    ethertype = be16(buffer, at + 6)
                    # organisation 00-80-C2 bridges whole frames (RFC 2684); 1 and 7 are Ethernet
                    if buffer[at + 4] == 0x80 and buffer[at + 5] == 0xC2:
                        at += 10
                        layer = _ETHERNET
                    else:
                        at += 8
                        layer = _ETHERTYPE
                    if ethertype <= 1500 and layer == _ETHERTYPE:
                        out.status = _NOT_IP
                        break
                elif buffer[at] == 0x06 and buffer[at + 1] == 0x06:
                    at += 3
                    layer = _IP
                elif (
                    buffer[at] == 0xFE
                    and buffer[at + 1] == 0xFE
                    and at + 4 <= end
                    and buffer[at + 3] == 0xCC
                ):
                    at += 4
                    layer = _IP
                else:
                    out.status = _NOT_IP
                    break
            elif layer == _NULL:
                if at + 4 > end:
                    out.status = _CUT
                    break
                family = le32(buffer, at)
                if family > 0xFFFF:  # written by a machine of the other byte order
                    family = be32(buffer, at)
                at += 4
                if family == 2 or family == 10 or family == 24 or family == 28 or family == 30:
                    layer = _IP
                elif family >= 0x600:
                    ethertype = family
                    layer = _ETHERTYPE
                else:
                    out.status = _NOT_IP
                    break
            elif layer == _SLL or layer == _SLL2:
                start = 16 if layer == _SLL else 20
                if at + start > end:
                    out.status = _CUT
                    break
                hardware = be16(buffer, at + 2) if layer == _SLL else be16(buffer, at + 8)
                ethertype = be16(buffer, at + 14) if layer == _SLL else be16(buffer, at)
                at += start
                layer = _ETHERTYPE
                if hardware == 824:  # netlink: messages of the kernel, no packets
                    out.status = _NOT_IP
                    break
                if ethertype == 4:
                    layer = _LLC
                elif ethertype == 0x0C or ethertype == 1 or ethertype <= 1500:  # CAN
                    out.status = _NOT_IP
                    break
            elif layer == _RADIOTAP:
                if at + 8 > end:
                    out.status = _CUT
                    break
                header = le16(buffer, at + 2)
                if header < 8 or at + header > end:
                    out.status = _CUT
                    break
                pads = radiotap_pads(buffer, at, at + header)
                start = wifi_payload(buffer, at + header, end)
                if start < 0:
                    out.status = -start
                    break
                if pads:
                    start = at + header + (start - at - header + 3) // 4 * 4
                at = start
                layer = _LLC
            elif layer == _WIFI:
                start = wifi_payload(buffer, at, end)
                if start < 0:
                    out.status = -start
                    break
                at = start
                layer = _LLC
            elif layer == _PRISM or layer == _AVS or layer == _PPI:
                if at + 8 > end:
                    out.status = _CUT
                    break
                if layer == _PPI:
                    header = le16(buffer, at + 2)
                    inner_link = le32(buffer, at + 4)
                    layer = np.int64(0)
                    if inner_link < len(layer_of_link):
                        layer = np.int64(layer_of_link[inner_link])
                else:
                    header = be32(buffer, at + 4)
                    if layer == _PRISM and be32(buffer, at) >> 12 != 0x80211:
                        header = le32(buffer, at + 4)
                    layer = _WIFI
                if header < 8:
                    out.status = _CUT
                    break
                at += header
            elif layer == _PKTAP:
                if at + 12 > end:
                    out.status = _CUT
                    break
                header = le32(buffer, at)
                inner_link = le32(buffer, at + 8)
                layer = np.int64(0)
                if header < 12:
                    out.status = _CUT
                    break
                if inner_link < len(layer_of_link):
                    layer = np.int64(layer_of_link[inner_link])
                if layer == _PKTAP:
                    layer = np.int64(_UNKNOWN)
                at += header
            elif layer == _NFLOG:
                if at + 4 > end:
                    out.status = _CUT
                    break
                at += 4
                found = False
                while at + 4 <= end:
                    # host byte order: a length that fits is the right reading
                    length = le16(buffer, at)
                    kind = le16(buffer, at + 2)
                    if length < 4 or at + length > wire_end:
                        length = be16(buffer, at)
                        kind = be16(buffer, at + 2)
                    if length < 4:
                        break
                    if kind & 0x7FFF == 9:
                        wire_end = min(wire_end, at + length)
                        end = min(end, wire_end)
                        at += 4
                        found = True
                        break
                    at += (length + 3) // 4 * 4
                if not found:
                    out.status = _NOT_IP
                    break
                layer = _IP
            elif layer == _TOKEN_RING:
                if at + 14 > end:
                    out.status = _CUT
                    break
                start = at + 14
                if buffer[at + 8] & 0x80:  # source routing
                    if start >= end:
                        out.status = _CUT
                        break
                    start += np.int64(buffer[start]) & 31
                at = start
                layer = _LLC
            elif layer == _FDDI:
                at += 13
                layer = _LLC
            elif layer == _IPOIB:  # global routing header, then an EtherType and two reserved bytes
                if at + 44 > end:
                    out.status = _CUT
                    break
                ethertype = be16(buffer, at + 40)
                at += 44
                layer = _ETHERTYPE
            elif layer == _IP_OVER_FC:
                at += 16
                layer = _LLC
            elif layer == _FRAME_RELAY:
                while at < end and buffer[at] & 1 == 0:  # address bytes until the extension bit
                    at += 1
                at += 1
                if at + 2 > end:
                    out.status = _CUT
                    break
                if buffer[at] != 0x03:  # Cisco's form: an EtherType at once
                    ethertype = be16(buffer, at)
                    at += 2
                    layer = _ETHERTYPE
                    if ethertype <= 1500:
                        out.status = _NOT_IP
                        break
                    continue
                at += 1
                if buffer[at] == 0:  # pad
                    at += 1
                if at >= end:
                    out.status = _CUT
                    break
                if buffer[at] == 0xCC or buffer[at] == 0x8E:
                    at += 1
                    layer = _IP
                elif buffer[at] == 0x80 and at + 6 <= end:
                    ethertype = be16(buffer, at + 4)
                    at += 6
                    layer = _ETHERTYPE
                else:
                    out.status = _NOT_IP
                    break
            elif layer == _ENC:
                at += 12
                layer = _IP
            elif layer == _PFLOG:
                if at + 4 > end:
                    out.status = _CUT
                    break
                at += (np.int64(buffer[at]) + 3) // 4 * 4
                layer = _IP
            elif layer == _MPACKET:
                at += 8
                layer = _ETHERNET
            else:
                out.status = _UNKNOWN_LINK
                break
        out.tunnels = depth


class Decoder:
    """Decodes batch after batch into rows that it keeps and reuses.

    Args:
        max_tunnels: tunnels within tunnels to open, 0 to 4; 0 leaves all closed.
    """

    def __init__(self, max_tunnels: int = MAX_DEPTH) -> None:
        self.max_tunnels = max_tunnels
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
            rows,
        )
        return HeaderBatch(rows, batch.buffer)


def decode(batch: PacketBatch, max_tunnels: int = MAX_DEPTH) -> HeaderBatch:
    """Headers of one batch, in memory of their own. See ``Decoder`` for streams."""
    return Decoder(max_tunnels)(batch)
