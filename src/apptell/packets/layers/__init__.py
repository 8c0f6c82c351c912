"""Link layers: one function for each layer, in one table.

A new layer is a module here that declares its functions with ``link_layer``, and its name below.
"""

from apptell.packets.layers import (
    cooked,
    ethernet,
    frame_relay,
    infiniband,
    llc,
    loopback,
    mpls,
    nsh,
    ppp,
    wifi,
    wrapped,
)

__all__ = [
    "cooked",
    "ethernet",
    "frame_relay",
    "infiniband",
    "llc",
    "loopback",
    "mpls",
    "nsh",
    "ppp",
    "wifi",
    "wrapped",
]
