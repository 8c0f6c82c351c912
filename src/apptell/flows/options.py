"""Defines ``FlowOptions``: how packets become flows."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network  # noqa: TC003 - get_type_hints reads the annotations
from typing import TYPE_CHECKING, Final, Literal

from apptell.errors import UsageError
from apptell.flows.schema import COLUMNS, DECISION_SEGMENTS, MAX_SEGMENTS, MAX_SEQUENCE
from apptell.packets.headers import TCP, UDP

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_TABLE_FLOWS: Final = 1 << 26
"""Flows of the largest table."""
_MAX_TIMEOUT_S: Final = 1e9
_MAX_VIEW_PACKETS: Final = 1 << 20


def transport_numbers(transports: str | int | Sequence[int | str]) -> tuple[int, ...]:
    """The IP protocol numbers of transport protocols.

    Args:
        transports: names separated by commas, ``tcp,udp``; or names and numbers, ``("tcp", 17)``.

    Raises:
        UsageError: neither TCP nor UDP, or none at all.
    """
    if isinstance(transports, str):
        transports = transports.split(",")
    elif isinstance(transports, int):
        transports = [transports]
    numbers = {"tcp": TCP, "udp": UDP, TCP: TCP, UDP: UDP}
    asked = [each.strip().lower() if isinstance(each, str) else each for each in transports]
    for each in asked:
        if each not in numbers:
            raise UsageError(f"no transport protocol {each!r}; available: tcp ({TCP}), udp ({UDP})")
    if not asked:
        raise UsageError(f"no transport protocol at all; available: tcp ({TCP}), udp ({UDP})")
    return tuple(numbers[each] for each in asked)


@dataclass(frozen=True, slots=True)
class FlowOptions:
    """How packets become flows.

    Raises:
        UsageError: a value is out of range.

    Example:
        >>> options = apptell.FlowOptions(transports=(6, 17), idle_timeout_s=30)
        >>> len(apptell.read_flows("phone.pcap", options).to_flows())
        2
    """

    mode: Literal["clean", "paper"] = "clean"
    """``paper``: only 5-tuple and timeout; retransmissions count as payload. ``clean``: also follows TCP's
    sequence numbers and flags.
    """
    transports: tuple[int, ...] = (TCP,)
    """IP protocol numbers of the flows: 6 (TCP), 17 (UDP). Names (tcp, udp) are turned into numbers."""
    idle_timeout_s: float = 90.0
    """Silence that ends a flow (paper, Section 3.1)."""
    active_timeout_s: float | None = None
    """Age at which a flow is cut, so that a long connection gives periodic records; None for never."""
    late_view_packets: int | None = None
    """Payload packets after which a connection is cut for a late view of it, the next ones after twice, four
    times, ... as many more, at most MAX_LATE_VIEWS; None for never. For datasets (``labels.late_views``)."""
    segments: int = MAX_SEGMENTS
    """Payload segments whose bytes are kept, 1 to 12."""
    decision_packets: int = DECISION_SEGMENTS
    """Payload packets after which a verdict is due and ``decided_*`` is frozen, 2 to 32: as many as the
    model looks at (``Model.decision_packets``)."""
    max_flows: int = 1 << 18
    """Flows and remembered connections at once; the oldest go first, counted."""
    segment_memory: int = 192 << 20
    """Bytes for kept payload; when they are full the oldest flows go first, counted."""
    groups: tuple[str, ...] = ("core", "segments", "names", "labels")
    """Column groups to fill, of ``schema.COLUMNS``."""
    local: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks of clients: the side in them is the client, unless a handshake or the first bytes
    show who is."""
    tunnels: int = 4
    """Tunnels within tunnels to open; 0 leaves all closed."""

    lists_decided: bool = False
    """Whether flows are also returned while they are open, as soon as a verdict is due (live use)."""
    lists_early: bool = False
    """Whether they are also returned at each payload packet before that, for an early verdict."""
    lists_order: bool = False
    """Whether flows come with the columns ``schema.ORDER``, for evidence that rests on earlier packets."""
    reports_once: bool = False
    """Whether a flow that was handed out open with a whole TLS hello ends without segments and names."""

    def __post_init__(self) -> None:
        if self.mode not in ("clean", "paper"):
            raise UsageError(f"flow mode {self.mode!r} is neither 'clean' nor 'paper'")
        object.__setattr__(self, "transports", transport_numbers(self.transports))
        if not 0 < self.idle_timeout_s < _MAX_TIMEOUT_S:
            raise UsageError(
                f"idle timeout of {self.idle_timeout_s} s is not above 0 s and below 1e9 s"
            )
        if self.active_timeout_s is not None and not 0 < self.active_timeout_s < _MAX_TIMEOUT_S:
            raise UsageError(
                f"active timeout of {self.active_timeout_s} s is not above 0 s and below 1e9 s"
            )
        if (
            self.late_view_packets is not None
            and not 2 <= self.late_view_packets <= _MAX_VIEW_PACKETS
        ):
            raise UsageError(
                f"a late view after {self.late_view_packets} payload packets is not 2 to {_MAX_VIEW_PACKETS}"
            )
        if not 1 <= self.segments <= MAX_SEGMENTS:
            raise UsageError(f"{self.segments} segments are not 1 to {MAX_SEGMENTS}")
        if not 2 <= self.decision_packets <= MAX_SEQUENCE:
            raise UsageError(
                f"a decision after {self.decision_packets} payload packets is not 2 to {MAX_SEQUENCE}"
            )
        if not 64 <= self.max_flows <= MAX_TABLE_FLOWS:
            raise UsageError(
                f"a table of {self.max_flows} flows is not one of 64 to {MAX_TABLE_FLOWS}"
            )
        if self.segment_memory < 1 << 16:
            raise UsageError(
                f"{self.segment_memory} bytes for segments are too few: at least 65536"
            )
        if not 0 <= self.tunnels <= 8:
            raise UsageError(f"tunnel depth {self.tunnels} is not 0 to 8")
        unknown = set(self.groups) - set(COLUMNS)
        if unknown:
            raise UsageError(
                f"unknown column group {sorted(unknown)[0]!r}; available: {', '.join(COLUMNS)}"
            )
