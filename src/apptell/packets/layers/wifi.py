"""Opens 802.11 data frames, with or without a capture header.

Sources: IEEE 802.11-2020, 9.2, 9.3.2 and 10.11 (A-MSDU); radiotap.org; the AVS and Prism headers as Wireshark
reads them.
"""

from __future__ import annotations

import numpy as np

from apptell.kernels.compiled import inlined
from apptell.packets.byte_fields import be16, be32, le16, le32
from apptell.packets.headers import Status
from apptell.packets.layers.numbers import AMSDU, LLC, WIFI, WIFI_SWAPPED
from apptell.packets.layers.registry import link_layer

_NOT_DATA, _CUT = int(Status.NOT_DATA), int(Status.CUT_IN_HEADERS)
_ENCRYPTED = int(Status.ENCRYPTED_LINK)
_SUBFRAME = 14
"""Two addresses and a length before each packet of an aggregate."""


@inlined
def _open_data(buffer, at, end, control, flags, pads):
    """What an 802.11 frame carries: (LLC, AMSDU or minus a Status, where that begins)."""
    if (control >> 2) & 3 != 2:  # only type 2 is data
        return -_NOT_DATA, at
    subtype = control >> 4
    if subtype & 4:  # null data: no body
        return -_NOT_DATA, at
    if flags & 0x40:
        return -_ENCRYPTED, at
    start = at + 24
    if flags & 3 == 3:  # to and from the distribution system: a fourth address
        start += 6
    aggregated = False
    if subtype & 8:  # quality of service
        if start + 2 > end:
            return -_CUT, at
        aggregated = buffer[start] & 0x80 != 0
        start += 2
        if flags & 0x80:  # order bit: HT control
            start += 4
    if pads:  # the body begins at a multiple of 4 bytes
        start = at + (start - at + 3) // 4 * 4
    # A first address that is a SNAP header gives the aggregate away as none (10.11).
    if aggregated and not (start + 8 <= end and be32(buffer, start) == 0xAAAA0300):
        return AMSDU, start
    return LLC, start


@link_layer(WIFI, link_types=(105,))
def open_wifi(buffer, at, end, wire_end, ethertype):
    """A frame of 802.11."""
    if at + 24 > end:
        return -_CUT, at, wire_end, ethertype
    control, flags = np.int64(buffer[at]), np.int64(buffer[at + 1])
    layer, at = _open_data(buffer, at, end, control, flags, False)
    return layer, at, wire_end, ethertype


@link_layer(WIFI_SWAPPED)
def open_swapped_wifi(buffer, at, end, wire_end, ethertype):
    """The same with the two bytes of the frame control swapped."""
    if at + 24 > end:
        return -_CUT, at, wire_end, ethertype
    control, flags = np.int64(buffer[at + 1]), np.int64(buffer[at])
    layer, at = _open_data(buffer, at, end, control, flags, False)
    return layer, at, wire_end, ethertype


@inlined
def open_subframe(buffer, at, end):
    """One subframe of an aggregate: (where its LLC header begins, where it ends, where the next one begins).

    The first is 0 if there is no complete subframe header, the last 0 if no other subframe follows.
    """
    if at + _SUBFRAME > end:
        return 0, 0, 0
    start = at + _SUBFRAME
    stop = start + be16(buffer, at + 12)
    following = at + (stop - at + 3) // 4 * 4  # each but the last is padded
    if stop == start or following + _SUBFRAME + 8 > end:
        following = 0
    return start, stop, following


@inlined
def _radiotap_pads(buffer, at, end):
    """Whether the flags field of a radiotap header (at least 8 bytes) marks the 802.11 header as padded."""
    words = 4
    while at + words + 4 <= end and buffer[at + words + 3] & 0x80:  # bit 31: another word follows
        words += 4
    field = words + 4
    present = buffer[at + 4]
    if present & 1:  # time stamp, aligned to 8 bytes
        field = (field + 7) // 8 * 8 + 8
    return bool(present & 2 and at + field < end and buffer[at + field] & 0x20)


@link_layer(link_types=(127,))
def open_radiotap(buffer, at, end, wire_end, ethertype):
    """A header with fields of the radio, then 802.11."""
    if at + 8 > end:
        return -_CUT, at, wire_end, ethertype
    frame = at + le16(buffer, at + 2)
    if frame < at + 8 or frame + 24 > end:
        return -_CUT, at, wire_end, ethertype
    pads = _radiotap_pads(buffer, at, frame)
    control, flags = np.int64(buffer[frame]), np.int64(buffer[frame + 1])
    layer, at = _open_data(buffer, frame, end, control, flags, pads)
    return layer, at, wire_end, ethertype


@link_layer(link_types=(119,))
def open_prism(buffer, at, end, wire_end, ethertype):
    """Prism's header, or AVS' under the same number; its length in the card's byte order."""
    if at + 8 > end:
        return -_CUT, at, wire_end, ethertype
    is_avs = be32(buffer, at) >> 12 == 0x80211
    header = be32(buffer, at + 4) if is_avs else le32(buffer, at + 4)
    if header < 8:
        return -_CUT, at, wire_end, ethertype
    return WIFI, at + header, wire_end, ethertype


@link_layer(link_types=(163,))
def open_avs(buffer, at, end, wire_end, ethertype):
    """The AVS header, which has a length field."""
    if at + 8 > end:
        return -_CUT, at, wire_end, ethertype
    header = be32(buffer, at + 4)
    if header < 8:
        return -_CUT, at, wire_end, ethertype
    return WIFI, at + header, wire_end, ethertype
