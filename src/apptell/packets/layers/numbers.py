"""Numbers of the layers that other layers open.

A layer that only a capture file's link type leads to needs no number here; ``link_layer`` gives it one.
"""

from __future__ import annotations

from typing import Final

UNKNOWN: Final = 0
ETHERNET: Final = 1
ETHERTYPE: Final = 2
IP: Final = 3
LLC: Final = 4
LINK_TYPE: Final = 5
"""The layer of a LINKTYPE_ value, which is passed in place of the EtherType."""
AMSDU: Final = 6
"""The subframes of an aggregate of IEEE 802.11, each with a packet of its own."""
MPLS: Final = 7
PPP: Final = 8
PPPOE: Final = 9
CISCO_HDLC: Final = 10
WIFI: Final = 11
WIFI_SWAPPED: Final = 12
"""802.11 with the two bytes of the frame control swapped, as some controllers send it over CAPWAP."""
NSH: Final = 13
FIRST_FREE: Final = 32
"""Numbers from here on are given to layers that no other layer names."""
