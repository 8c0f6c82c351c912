"""Link types: LINKTYPE_ values in, the decoder's first layer out.

Values as registered at https://www.tcpdump.org/linktypes.html, with the synonyms that capture files of
other systems carry.
"""

from __future__ import annotations

from typing import Final

import numpy as np

# Layers of the decoder; the first is chosen by link type, the rest follow from what is found.
UNKNOWN: Final = 0
ETHERNET: Final = 1
IP: Final = 2
NULL: Final = 3
LINUX_SLL: Final = 4
LINUX_SLL2: Final = 5
PPP: Final = 6
PPPOE: Final = 7
PPP_WITH_DIRECTION: Final = 8
CISCO_HDLC: Final = 9
WIFI: Final = 10
RADIOTAP: Final = 11
PRISM: Final = 12
AVS: Final = 13
PPI: Final = 14
PKTAP: Final = 15
NFLOG: Final = 16
LLC: Final = 17
TOKEN_RING: Final = 18
FDDI: Final = 19
FRAME_RELAY: Final = 20
ENC: Final = 21
PFLOG: Final = 22
MPACKET: Final = 23
ETHERTYPE: Final = 24
MPLS: Final = 25
IP_OVER_FC: Final = 26
IP_OVER_INFINIBAND: Final = 27

FIRST_LAYER: Final[dict[int, int]] = {
    0: NULL,
    1: ETHERNET,
    6: TOKEN_RING,
    9: PPP,
    10: FDDI,
    11: LLC,  # RFC 1483 over ATM: LLC/SNAP
    12: IP,  # DLT_RAW of most systems, written by mistake
    14: IP,  # DLT_RAW of OpenBSD
    50: PPP,
    51: PPPOE,
    100: LLC,
    101: IP,
    104: CISCO_HDLC,
    105: WIFI,
    106: LLC,  # Linux classical IP over ATM
    107: FRAME_RELAY,
    108: NULL,  # OpenBSD loopback: the family in network order
    109: ENC,
    113: LINUX_SLL,
    117: PFLOG,
    119: PRISM,
    122: IP_OVER_FC,
    127: RADIOTAP,
    149: PKTAP,  # DLT_USER2, Apple's PKTAP before it had a number
    163: AVS,
    166: PPP_WITH_DIRECTION,  # Linux pppd: 0 in, 1 out
    192: PPI,
    204: PPP_WITH_DIRECTION,
    219: MPLS,
    228: IP,
    229: IP,
    239: NFLOG,
    242: IP_OVER_INFINIBAND,
    258: PKTAP,
    274: MPACKET,
    276: LINUX_SLL2,
}

LAYER_OF_LINK: Final = np.zeros(512, dtype=np.uint8)
"""FIRST_LAYER as an array for the kernel; link types beyond it are unknown."""
for _link_type, _layer in FIRST_LAYER.items():
    LAYER_OF_LINK[_link_type] = _layer
