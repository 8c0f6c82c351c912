"""Decodes packets into header columns: link types, tunnels, IPv4, IPv6, TCP and UDP; reassembles fragments."""

from __future__ import annotations

from apptell.packets.decode import Decoder, decode
from apptell.packets.headers import HEADER, TCP, UDP, HeaderBatch, Status
from apptell.packets.reassembly import Reassembler
from apptell.packets.tally import Tally

__all__ = [
    "HEADER",
    "TCP",
    "UDP",
    "Decoder",
    "HeaderBatch",
    "Reassembler",
    "Status",
    "Tally",
    "decode",
]
