"""Reads what the link layer and the outermost tunnel say of packets: MAC addresses, VLANs, tunnel.

``LinkReader`` numbers the different links of a capture: packets of the same two devices, VLANs, tunnel and
interface have the same number. Nothing is read unless flows are asked for these columns.

Sources: IEEE 802.3 and 802.1Q (Ethernet, VLAN tags), the LINKTYPE_ registry of tcpdump.org (cooked captures),
RFC 7348 (VXLAN), 8926 (Geneve), 2890 (GRE), 3GPP TS 29.281 (GTP-U).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from apptell.capture import PacketBatch
    from apptell.packets.headers import HeaderBatch

LINK: Final = np.dtype(
    [
        ("source_mac", np.int64),  # 48 bits and one that is set where it is known
        ("target_mac", np.int64),
        ("tunnel_id", np.int64),  # -1 none
        ("vlan", np.int32),  # outermost VLAN id, -1 none
        ("inner_vlan", np.int32),  # the next one, -1 none
        ("tunnel", np.int32),  # place in TUNNELS
        ("interface", np.int32),
    ],
    align=True,
)
"""A link as the direction of its packets shows it."""
TUNNELS: Final = ("", "vxlan", "geneve", "gtp", "gre", "ip", "other")
"""Names of the outermost tunnel; the first stands for none."""
_NONE, _VXLAN, _GENEVE, _GTP, _GRE, _IP, _OTHER = range(len(TUNNELS))
KNOWN_MAC: Final = 1 << 48
MAX_LINKS: Final = 1 << 20
"""Links that are numbered; packets of further ones have the number -1."""
_WHOLE_LINK: Final = np.dtype((np.void, LINK.itemsize))
_ETHERNET, _COOKED, _COOKED_2 = 1, 113, 276
_TAGS: Final = (0x8100, 0x88A8, 0x9100)
_IPV4, _IPV6 = 0x0800, 0x86DD

_Integers = NDArray[np.int64]


class _Frames:
    """The first bytes of m frames; those that were not captured are 0."""

    def __init__(self, buffer: NDArray[np.uint8], offset: _Integers, end: _Integers) -> None:
        self._buffer, self._offset, self._end = buffer, offset, end

    def number(self, at: _Integers | int, n_bytes: int) -> _Integers:
        """Big-endian numbers of so many bytes at a place of each frame; 0 where these are not all there."""
        first = self._offset + at
        is_there = (first >= 0) & (first + n_bytes <= self._end)
        first = np.where(is_there, first, 0)
        value = np.zeros(len(first), dtype=np.int64)
        for place in range(n_bytes if is_there.any() else 0):
            value = (value << 8) | self._buffer[np.minimum(first + place, len(self._buffer) - 1)]
        return np.where(is_there, value, 0)


def read_links(
    packets: PacketBatch, frame_of: _Integers, tunnels: NDArray[np.uint8]
) -> NDArray[Any]:
    """The link of each of m packets, shape (m,), dtype LINK.

    Args:
        packets: the frames.
        frame_of: the frame of each packet, shape (m,).
        tunnels: how many tunnels were opened on the way to each packet, shape (m,).
    """
    links: NDArray[Any] = np.zeros(len(frame_of), dtype=LINK)
    links["vlan"] = links["inner_vlan"] = links["tunnel_id"] = -1
    links["interface"] = packets.interface[frame_of]
    if not len(frame_of):
        return links
    offset, kinds = packets.offset[frame_of], packets.link_type[frame_of]
    end = np.minimum(offset + packets.captured[frame_of], len(packets.buffer))
    frames = _Frames(packets.buffer, offset, end)
    is_ethernet, is_cooked, is_cooked_2 = (
        kinds == kind for kind in (_ETHERNET, _COOKED, _COOKED_2)
    )
    links["target_mac"] = np.where(is_ethernet, _mac(frames, 0), 0)
    source = np.where(is_ethernet, _mac(frames, 6), 0)
    if is_cooked.any():
        source = np.where(is_cooked & (frames.number(4, 2) == 6), _mac(frames, 6), source)
    if is_cooked_2.any():
        source = np.where(is_cooked_2 & (frames.number(11, 1) == 6), _mac(frames, 12), source)
    links["source_mac"] = source
    place = np.select([is_ethernet, is_cooked, is_cooked_2], [12, 14, 0], 0)
    at = np.select([is_ethernet, is_cooked, is_cooked_2], [14, 16, 20], 0)
    kind = np.where(at > 0, frames.number(place, 2), 0)
    for name in ("vlan", "inner_vlan"):
        is_tagged = np.isin(kind, _TAGS)
        if not is_tagged.any():
            break
        links[name] = np.where(is_tagged, frames.number(at, 2) & 0x0FFF, -1)
        kind = np.where(is_tagged, frames.number(at + 2, 2), kind)
        at = np.where(is_tagged, at + 4, at)
    rows = np.flatnonzero(tunnels)
    if len(rows):
        inside = _Frames(packets.buffer, offset[rows], end[rows])
        links["tunnel"][rows], links["tunnel_id"][rows] = _tunnels(inside, at[rows], kind[rows])
    return links


def _mac(frames: _Frames, at: int) -> _Integers:
    return frames.number(at, 6) | KNOWN_MAC


def _tunnels(frames: _Frames, at: _Integers, kind: _Integers) -> tuple[_Integers, _Integers]:
    """Kind and number of the tunnels that IP packets open; the number is -1 where a tunnel has none."""
    is_v4, is_v6 = kind == _IPV4, kind == _IPV6
    protocol = np.select([is_v4, is_v6], [frames.number(at + 9, 1), frames.number(at + 6, 1)], -1)
    at = at + np.select([is_v4, is_v6], [(frames.number(at, 1) & 15) * 4, 40], 0)
    source, target = frames.number(at, 2), frames.number(at + 2, 2)
    is_udp, is_gre = protocol == 17, protocol == 47
    is_vxlan, is_geneve = is_udp & np.isin(target, (4789, 8472, 4790)), is_udp & (target == 6081)
    is_gtp = is_udp & ((target == 2152) | (source == 2152))
    flags = frames.number(at, 2)
    has_key = is_gre & (flags & 0x2000 > 0)
    key_at = at + np.where(flags & 0x8000 > 0, 8, 4)
    names = [is_vxlan, is_geneve, is_gtp, is_gre, np.isin(protocol, (4, 41))]
    number = np.select(
        [is_vxlan | is_geneve, is_gtp, has_key],
        [frames.number(at + 12, 3), frames.number(at + 12, 4), frames.number(key_at, 4)],
        -1,
    )
    return np.select(names, [_VXLAN, _GENEVE, _GTP, _GRE, _IP], _OTHER), number


class LinkReader:
    """Numbers the links of a capture."""

    def __init__(self) -> None:
        self.links: NDArray[Any] = np.zeros(64, dtype=LINK)
        """The links by their numbers; the first ``len(self)`` are used."""
        self._numbers: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def __call__(self, packets: PacketBatch, headers: HeaderBatch) -> NDArray[np.int32]:
        """The number of each packet's link, shape (m,); -1 beyond MAX_LINKS.

        Args:
            packets: n frames.
            headers: the m packets in them.
        """
        rows = headers.rows
        frame_of = np.cumsum(rows["is_further"] == 0) - 1
        found = read_links(packets, frame_of, rows["tunnels"])
        kinds, places = np.unique(found.view(_WHOLE_LINK), return_inverse=True)
        numbers = np.array([self._number(kind.tobytes()) for kind in kinds], dtype=np.int32)
        return numbers[places.ravel()] if len(numbers) else np.zeros(0, dtype=np.int32)

    def _number(self, link: bytes) -> int:
        number = self._numbers.get(link)
        if number is None:
            number = len(self._numbers)
            if number == MAX_LINKS:
                return -1
            if number == len(self.links):
                self.links = np.concatenate([self.links, np.zeros_like(self.links)])
            self.links[number] = np.frombuffer(link, dtype=LINK)[0]
            self._numbers[link] = number
        return number
