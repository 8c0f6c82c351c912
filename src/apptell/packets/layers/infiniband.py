"""Opens IP over InfiniBand. Source: RFC 4391."""

from __future__ import annotations

from apptell.packets.byte_fields import be16
from apptell.packets.headers import Status
from apptell.packets.layers.numbers import ETHERTYPE
from apptell.packets.layers.registry import link_layer

_CUT = int(Status.CUT_IN_HEADERS)


@link_layer(link_types=(242,))
def open_ip_over_infiniband(buffer, at, end, wire_end, ethertype):
    """A global routing header, an EtherType and two reserved bytes."""
    if at + 44 > end:
        return -_CUT, at, wire_end, ethertype
    return ETHERTYPE, at + 44, wire_end, be16(buffer, at + 40)
