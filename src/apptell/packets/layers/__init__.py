"""Link layers in, the layer within each out: one function a layer, one table that all of them are in.

A new layer is a module here whose functions ``link_layer`` declares, and its name below.
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
