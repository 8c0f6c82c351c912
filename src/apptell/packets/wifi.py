"""802.11 data frames in, where their LLC header begins out. Source: IEEE 802.11-2020, 9.2 and 9.3.2."""

from __future__ import annotations

import numpy as np

from apptell.kernels.compiled import inlined
from apptell.packets.headers import Status

_NOT_DATA, _ENCRYPTED, _CUT = (
    int(Status.NOT_DATA),
    int(Status.ENCRYPTED_LINK),
    int(Status.CUT_IN_HEADERS),
)


@inlined
def wifi_payload(buffer, at, end):
    """Start of the LLC header of an 802.11 data frame, or minus the Status that stops it."""
    if at + 24 > end:
        return -_CUT
    control = np.int64(buffer[at])
    flags = np.int64(buffer[at + 1])
    if (control >> 2) & 3 != 2:  # only type 2 is data
        return -_NOT_DATA
    subtype = control >> 4
    if subtype & 4:  # null data: no body
        return -_NOT_DATA
    if flags & 0x40:
        return -_ENCRYPTED
    start = at + 24
    if flags & 3 == 3:  # to and from the distribution system: a fourth address
        start += 6
    if subtype & 8:  # quality of service
        if start + 2 > end:
            return -_CUT
        aggregated = buffer[start] & 0x80
        start += 2
        if flags & 0x80:  # order bit: HT control
            start += 4
        if aggregated:  # first subframe of an A-MSDU: addresses and length
            start += 14
    return start


@inlined
def radiotap_pads(buffer, at, end):
    """Whether the flags field of a radiotap header (at least 8 bytes) says the 802.11 header is padded."""
    words = 4
    while at + words + 4 <= end and buffer[at + words + 3] & 0x80:  # bit 31: another word follows
        words += 4
    field = words + 4
    present = buffer[at + 4]
    if present & 1:  # time stamp, aligned to 8 bytes
        field = (field + 7) // 8 * 8 + 8
    return bool(present & 2 and at + field < end and buffer[at + field] & 0x20)
