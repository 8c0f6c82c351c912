"""Counters of a capture: packets, bytes, link types, files and damage."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class CaptureStats:
    """Counters of a capture; they are correct at any time during reading, and final at the end."""

    names: list[str] = field(default_factory=list)
    """Files and streams begun so far, in reading order."""
    formats: dict[str, int] = field(default_factory=dict)
    """Files by format, such as ``pcap`` or ``pcapng, gzip``."""
    packets: int = 0
    """Packets handed out."""
    captured_bytes: int = 0
    """Bytes of frames that the files hold."""
    wire_bytes: int = 0
    """Bytes those frames had on the wire."""
    cut_packets: int = 0
    """Packets of which the files hold only the beginning (snap length)."""
    skipped_blocks: dict[str, int] = field(default_factory=dict)
    """pcapng blocks passed over, by name; ``datagram`` for datagrams that were no records."""
    link_types: dict[str, int] = field(default_factory=dict)
    """Packets by the name of their link type."""
    first_ns: int | None = None
    """Earliest packet, ns since 1970 UTC; None before the first."""
    last_ns: int | None = None
    """Latest packet, ns since 1970 UTC."""
    interfaces: int = 0
    """Interfaces described, over all files."""
    files_read: int = 0
    """Captures begun."""
    files_skipped: int = 0
    """Files that are no captures: in folders they are passed over, and where they are named they are damage."""
    damage: str | None = None
    """Where the capture is damaged, and how many more files are; None if there is no damage."""

    @property
    def format(self) -> str:
        """The format, or the formats joined by ``; `` when files differ."""
        return "; ".join(self.formats)
