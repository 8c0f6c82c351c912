"""Knows the names of clients: from a file of the operator, and from what devices told in the capture.

The name of a record's client is that of the file if it has one, otherwise the newest that packets told up to
the record's ``end_time``. It therefore depends only on the packets and not on when the record is written.
"""

from __future__ import annotations

import csv
import ipaddress
import re
import threading
from bisect import bisect_right
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from apptell.errors import UsageError
from apptell.files import readable
from apptell.names.client_names import ClientNameReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from apptell.names.client_names import ClientName
    from apptell.packets import HeaderBatch
    from apptell.records.record_filter import Network

MAX_CLIENTS: Final = 1 << 16
"""Addresses whose told names are remembered; the one that was told first is forgotten first."""
_MAX_TOLD: Final = 16
"""Names remembered of one address."""
_LARGEST_BYTES: Final = 16 << 20
_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


class ClientNames:
    """The names of clients by address.

    Args:
        listed: networks or MAC addresses and their names; the longest prefix counts, and a MAC address
            before a network.
        reads_packets: whether DHCP and mDNS count, too.
    """

    def __init__(
        self, listed: Sequence[tuple[Network | str, str]] = (), *, reads_packets: bool = True
    ) -> None:
        self.reads_packets = reads_packets
        networks = [(key, name) for key, name in listed if not isinstance(key, str)]
        self._listed = sorted(networks, key=lambda pair: -pair[0].prefixlen)
        self._macs = {key: name for key, name in listed if isinstance(key, str)}
        self._known: dict[str, str | None] = {}
        self._read = ClientNameReader()
        self._told: OrderedDict[str, tuple[list[int], list[str]]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def is_empty(self) -> bool:
        """Whether no name is known of any client."""
        return not (self._listed or self._told or self._macs)

    def watch(self, headers: HeaderBatch) -> None:
        """Remembers what packets tell; may be called by several threads."""
        self.remember(self.read(headers))

    def read(self, headers: HeaderBatch) -> list[ClientName]:
        """What packets tell of clients."""
        return self._read(headers) if self.reads_packets or self._macs else []

    def remember(self, told: Iterable[ClientName]) -> None:
        """Takes what ``read`` gave; may be called by several threads."""
        for address, name_told, time_ns, mac in told:
            name = self._macs.get(mac or "", name_told if self.reads_packets else None)
            if name is None:
                continue
            with self._lock:
                times, names = self._told.setdefault(address, ([], []))
                if names and names[-1] == name:
                    continue
                at = bisect_right(times, time_ns)
                times.insert(at, time_ns)
                names.insert(at, name)
                del times[:-_MAX_TOLD], names[:-_MAX_TOLD]
                if len(self._told) > MAX_CLIENTS:
                    self._told.popitem(last=False)

    def names(
        self,
        addresses: Sequence[str],
        until_ns: Sequence[int],
        macs: Sequence[str | None] | None = None,
    ) -> list[str | None] | None:
        """The names of n clients; None where none is known, and for all if no client is.

        Args:
            addresses: of each.
            until_ns: time up to which packets count, ns since 1970 UTC, of each.
            macs: the clients' MAC addresses, as far as they are known; None for none.
        """
        if self.is_empty:
            return None
        found = [self._name(*pair) for pair in zip(addresses, until_ns, strict=True)]
        if macs is not None and self._macs:
            by_mac = (self._macs.get(mac or "") for mac in macs)
            found = [name or known for name, known in zip(by_mac, found, strict=True)]
        return found

    def _name(self, address: str, until_ns: int) -> str | None:
        if address not in self._known:
            if len(self._known) >= MAX_CLIENTS:
                self._known.clear()
            self._known[address] = self._listed_name(address)
        name = self._known[address]
        if name is None and address in self._told:
            with self._lock:
                times, names = self._told.get(address, ([], []))
                at = bisect_right(times, until_ns)
                return names[at - 1] if at else None
        return name

    def _listed_name(self, address: str) -> str | None:
        if not self._listed:
            return None
        parsed = ipaddress.ip_address(address)
        for network, name in self._listed:
            if parsed.version == network.version and parsed in network:
                return name
        return None


def read_clients(path: Path) -> list[tuple[Network | str, str]]:
    """The rows of a file: a network, an address or a MAC address, a comma, a name.

    Empty lines and lines that begin with ``#`` are skipped.

    Raises:
        UsageError: the file cannot be read, or a line is not of this form.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{readable(path)}: {error.strerror}") from error
    if len(data) > _LARGEST_BYTES:
        raise UsageError(f"{readable(path)}: larger than {_LARGEST_BYTES >> 20} MiB")
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"{readable(path)}: not UTF-8 at byte {error.start}") from error
    found: list[tuple[Network | str, str]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        cells = [cell.strip() for cell in next(csv.reader([line]))]
        key = _client(cells[0]) if len(cells) == 2 and cells[1] else None
        if key is None:
            raise UsageError(
                f"{readable(path)}: line {number} is not NETWORK,NAME or MAC,NAME: {line.strip()!r}"
            )
        found.append((key, cells[1]))
    return found


def _client(text: str) -> Network | str | None:
    """A network, or a MAC address in lower case; None for neither."""
    mac = text.lower().replace("-", ":")
    if _MAC.fullmatch(mac):
        return mac
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
