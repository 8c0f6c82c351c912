"""Reads names from flows and packets: TLS, DTLS, QUIC, HTTP, DNS and JA4."""

from __future__ import annotations

from apptell.names.flow_names import add_names
from apptell.names.read import read_flows

__all__ = ["add_names", "read_flows"]
