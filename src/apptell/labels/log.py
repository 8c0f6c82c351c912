"""Collects the lines of a log of connections and apps as columns for joining."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.labels.fields import MAX_PORT, MAX_PROTOCOL, MAX_TIME_NS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TCP: Final = 6
UDP: Final = 17
OTHER_PROTOCOL: Final = 255
"""A protocol that is neither TCP nor UDP: no flow of these fits its line."""
_PROTOCOLS: Final = {"": 0, "tcp": TCP, "udp": UDP, "6": TCP, "17": UDP, "dns": UDP}
"""Names of protocols in logs, lower case; a log that says DNS means it over UDP."""


def protocol_number(word: str) -> int:
    """The IP protocol number for a log's word: 0 for none, OTHER_PROTOCOL for neither TCP nor UDP."""
    return _PROTOCOLS.get(word.strip().lower(), OTHER_PROTOCOL)


@dataclass(slots=True)
class Lines:
    """The lines read so far, one list per column; ``table`` converts them to a LogTable."""

    first_ns: list[int] = field(default_factory=list)
    last_ns: list[int] = field(default_factory=list)
    protocol: list[int] = field(default_factory=list)
    """IP protocol number; 0 when the log does not say."""
    address_a: list[str] = field(default_factory=list)
    port_a: list[int] = field(default_factory=list)
    address_b: list[str] = field(default_factory=list)
    port_b: list[int] = field(default_factory=list)
    app: list[str | None] = field(default_factory=list)
    """The label; None if the log does not name an app."""
    n_bad: int = 0
    """Lines that were skipped because they do not have the format."""
    first_bad: str = ""
    """Which line was the first of these, and why."""

    def __len__(self) -> int:
        return len(self.app)

    def pass_over(self, number: int, why: object) -> None:
        """Counts a line that is not of the format.

        Args:
            number: of the line (or record) in its file, from 1.
            why: an error, or text.
        """
        self.n_bad += 1
        self.first_bad = self.first_bad or f"line {number}: {why}"

    def add(
        self,
        first_ns: int,
        last_ns: int,
        protocol: int,
        a: tuple[str, int],
        b: tuple[str, int],
        app: str | None,
    ) -> None:
        """One line: a connection between a and b, in use from first to last.

        Args:
            first_ns: ns since 1970 UTC.
            last_ns: the same; taken as ``first_ns`` where it is earlier.
            protocol: IP protocol number; 0 where the log does not say.
            a: address and port of one end.
            b: those of the other.
            app: the label; None where the log knows no app.

        Raises:
            ValueError: a time, the protocol or a port is out of its column's range; nothing was added.
        """
        last_ns = max(first_ns, last_ns)
        if not (0 <= first_ns <= last_ns <= MAX_TIME_NS and 0 <= protocol <= MAX_PROTOCOL):
            raise ValueError("a time or protocol number out of range")
        if not (0 <= a[1] <= MAX_PORT and 0 <= b[1] <= MAX_PORT):
            raise ValueError("a port out of range")
        self.first_ns.append(first_ns)
        self.last_ns.append(last_ns)
        self.protocol.append(protocol)
        self.address_a.append(a[0])
        self.port_a.append(a[1])
        self.address_b.append(b[0])
        self.port_b.append(b[1])
        self.app.append(app)

    def extend(
        self,
        first_ns: NDArray[np.int64],
        last_ns: NDArray[np.int64],
        protocol: NDArray[np.int64],
        a: tuple[list[str], NDArray[np.int64]],
        b: tuple[list[str], NDArray[np.int64]],
        apps: list[str | None],
    ) -> None:
        """Many lines, as ``add`` takes one.

        Raises:
            ValueError: a time, the protocol or a port is out of its column's range; nothing was added.
        """
        last_ns = np.maximum(first_ns, last_ns)
        if not (_within(first_ns, MAX_TIME_NS) and _within(protocol, MAX_PROTOCOL)):
            raise ValueError("a time or protocol number out of range")
        if not (_within(a[1], MAX_PORT) and _within(b[1], MAX_PORT)):
            raise ValueError("a port out of range")
        self.first_ns += first_ns.tolist()
        self.last_ns += last_ns.tolist()
        self.protocol += protocol.tolist()
        self.address_a += a[0]
        self.port_a += a[1].tolist()
        self.address_b += b[0]
        self.port_b += b[1].tolist()
        self.app += apps

    def table(self, *, is_start: bool = False) -> LogTable:
        """The lines as columns.

        Args:
            is_start: a line is written once, when its connection begins.
        """
        addresses, (a, b) = _factor([self.address_a, self.address_b])
        apps = sorted({app for app in self.app if app is not None})
        number = {app: i for i, app in enumerate(apps)}
        return LogTable(
            np.array(self.first_ns, dtype=np.int64),
            np.array(self.last_ns, dtype=np.int64),
            np.array(self.protocol, dtype=np.uint8),
            a * 65536 + np.array(self.port_a, dtype=np.int64),
            b * 65536 + np.array(self.port_b, dtype=np.int64),
            np.array([-1 if app is None else number[app] for app in self.app], dtype=np.int32),
            addresses,
            apps,
            is_start,
            self.n_bad,
            self.first_bad,
        )


@dataclass(frozen=True, slots=True)
class LogTable:
    """A log in columns, in any order of lines."""

    first_ns: NDArray[np.int64]
    last_ns: NDArray[np.int64]
    protocol: NDArray[np.uint8]
    end_a: NDArray[np.int64]
    """Number of the address in ``addresses`` * 65536 + port."""
    end_b: NDArray[np.int64]
    app: NDArray[np.int32]
    """Index into ``apps``; -1 when unknown."""
    addresses: dict[str, int]
    """Canonical text of an address to its number."""
    apps: list[str]
    is_start: bool = False
    """A line is written once, when its connection begins; else lines span the time of use."""
    n_bad: int = 0
    """Lines that were passed over."""
    first_bad: str = ""
    """Which line was the first of these, and why."""

    def __len__(self) -> int:
        return len(self.app)


def _within(values: NDArray[np.int64], most: int) -> bool:
    return not len(values) or bool(values.min() >= 0 and values.max() <= most)


def canonical(address: str) -> str:
    """RFC 5952 text of an address; IPv4 within IPv6 (``::ffff:1.2.3.4``) as IPv4; else as it is."""
    text = address.strip().strip("[]").split("%", 1)[0]
    try:
        socket.inet_pton(socket.AF_INET, text)
    except (OSError, ValueError):
        pass
    else:
        return text  # an IPv4 address has one form, and this is far quicker than what follows
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return str(parsed)


def _factor(columns: Sequence[list[str]]) -> tuple[dict[str, int], list[NDArray[Any]]]:
    """Numbers for the addresses of several columns, and the columns in these numbers."""
    raw = {address for column in columns for address in column}
    numbers: dict[str, int] = {}
    of_raw = {text: numbers.setdefault(canonical(text), len(numbers)) for text in sorted(raw)}
    return numbers, [np.array([of_raw[x] for x in column], dtype=np.int64) for column in columns]
