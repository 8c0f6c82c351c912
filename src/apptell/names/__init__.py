"""Flows with kept segments in; server name, ALPN, JA4 and HTTP host out: TLS, DTLS, QUIC, HTTP, DNS."""

from __future__ import annotations

from apptell.names.flow_names import add_names
from apptell.names.read import read_flows

__all__ = ["add_names", "read_flows"]
