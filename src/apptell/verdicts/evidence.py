"""Identifies flows by their names, DNS answers, addresses and address ranges.

Evidence is examined in this order, and the first that applies decides the flow:

1. *name*: the flow's own server name (TLS, QUIC, DTLS), else its HTTP host. The public name of Encrypted Client
   Hello (RFC 9849) is no own name: it names who hides the real one.
2. *dns*: a name that the client had asked for the server's address when the flow began. The name that was asked
   counts, and not the aliases (CNAME) that the answer led through. Where names of two apps or services were
   answered with this address, none of them decides.
3. *address*: the app of earlier flows to the same server address and port, of this client, else of any client;
   else the app whose name any client had asked for the server's address: a host with two addresses asks with
   one and connects with the other. Earlier flows are those whose own name or DNS name was known when this flow
   began. Where they belong to two apps or services, none decides.
4. *range*: an address range that one app owns, unless the flow's name is listed as somebody else's.

A name of a shared service (a platform, a delivery network, a library's server, advertising) never names an app.
The same facts give the same answer in whatever order flows come: see ``verdicts.memory``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pyarrow as pa

from apptell.errors import UsageError
from apptell.flows.schema import DECISION_SEGMENTS, ORDER, FlowBatch
from apptell.verdicts.identity import NOBODY, SHARED, UNLISTED, Found, Identity, IdentityTable
from apptell.verdicts.memory import MAX_KEYS, Memory
from apptell.verdicts.schema import EVIDENCE_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from apptell.catalogue import Catalogue

BY_NAME: Final = EVIDENCE_KINDS[:4]
"""The kinds of evidence that need no model."""
ECH_PUBLIC_NAMES: Final = frozenset(
    {
        "cloudflare-ech.com",  # Cloudflare's customers
        "crypto.cloudflare.com",  # Cloudflare's test
        "cover.defo.ie",  # the DEfO project's test
        "public.tls-ech.dev",  # a public test
    }
)
"""Outer server names of Encrypted Client Hello that are known to hide other names."""
NETWORK: Final = "network"
"""The kind of a service that keeps the network itself running; identified only by its port."""
NETWORK_PORTS: Final = {
    53: "dns",
    67: "dhcp",
    68: "dhcp",
    123: "ntp",
    137: "netbios",
    138: "netbios",
    546: "dhcpv6",
    547: "dhcpv6",
    853: "dns",
    1900: "ssdp",
    5353: "mdns",
    5355: "llmnr",
}
"""Server ports of the network's own services (IANA's registry of service names and ports)."""
LATE_NS: Final = 120_000_000_000
"""How long after its last packet a flow of unknown order is known to have ended: the timeout and some more."""
_NETWORK_SERVICES: Final = sorted(set(NETWORK_PORTS.values()))
_PORT_SERVICE: Final = np.zeros(1 << 16, dtype=np.int8)
"""One more than the place of each port's service among them; 0 for none."""
for _port, _service in NETWORK_PORTS.items():
    _PORT_SERVICE[_port] = 1 + _NETWORK_SERVICES.index(_service)
_SECOND: Final = 1_000_000_000
_DAY_S: Final = 86_400
_DNS_PORT: Final = 53
_MAX_NAMES: Final = 1 << 16
_NAME, _DNS, _ADDRESS, _RANGE = range(4)


@dataclass(frozen=True, slots=True)
class EvidenceOptions:
    """What verdicts may rest on, and how long it is remembered.

    Raises:
        UsageError: an unknown kind of evidence, or a time that is not above 0.
    """

    kinds: frozenset[str] = frozenset(BY_NAME)
    """Of EVIDENCE_KINDS."""
    keep_s: float = 21_600.0
    """How long a DNS answer counts for flows that begin later, and an address as an app's after a flow to it
    was last named. A DNS answer counts longer where its TTL, of at most a day, is longer. Apps connect to an
    address again long after a short TTL has passed."""
    max_keys: int = MAX_KEYS
    """Pairs of client and address, and addresses, that are remembered at once."""

    def __post_init__(self) -> None:
        unknown = sorted(self.kinds - set(EVIDENCE_KINDS))
        if unknown:
            raise UsageError(f"no evidence {unknown[0]!r}: {', '.join(EVIDENCE_KINDS)}")
        if not self.kinds:
            raise UsageError(f"no evidence at all: {', '.join(EVIDENCE_KINDS)}")
        if not 0 < self.keep_s < float("inf"):
            raise UsageError(f"{self.keep_s} s of memory are not above 0")

    @classmethod
    def parse(cls, text: str) -> EvidenceOptions:
        """From kinds joined by commas, or ``all``.

        Raises:
            UsageError: an unknown kind of evidence.
        """
        words = {word.strip().lower() for word in text.split(",")} - {""}
        return cls(frozenset(EVIDENCE_KINDS) if words == {"all"} else frozenset(words))

    @property
    def asks_names(self) -> bool:
        """Whether any evidence but a model counts."""
        return bool(self.kinds.intersection(BY_NAME))


class Remembered(NamedTuple):
    """What was known of a server when a flow began, newest first."""

    asked: list[str]
    """Names that the client had asked for the server's address."""
    asked_by_any: list[str]
    """Names that any client had asked for it."""
    reached: list[Identity]
    """Whose servers the client had reached at that address and port; ``SHARED`` for several."""
    reached_by_any: list[Identity]
    """The same for any client."""


class Evidence:
    """Remembers names of addresses, and identifies flows by them. It reads no packets and uses no model.

    What is known of a flow depends on the packets before its first one alone, in the order of the capture, and
    not on when it is asked. Flows may come in any order, once what was known when they began has been put in:
    DNS answers by ``learn``, and the names of flows that are still open by ``observe`` or ``begin``. Flows
    without the columns ``flows.schema.ORDER`` are ordered by their times.

    Args:
        catalogue: which app or service a name or an address belongs to.
        options: what counts, and how long.
    """

    def __init__(self, catalogue: Catalogue, options: EvidenceOptions | None = None) -> None:
        self.options = options or EvidenceOptions()
        self.catalogue = catalogue
        """What names and addresses are looked up in."""
        n, keep_ns = self.options.max_keys, int(self.options.keep_s * _SECOND)
        self._asked: Memory[str] = Memory(keep_ns, n)
        """Names by client and address."""
        self._asked_by_any: Memory[str] = Memory(keep_ns, n)
        """Names by address."""
        self._reached: Memory[Identity] = Memory(keep_ns, n)
        """Whose servers are, by client, address and port."""
        self._reached_by_any: Memory[Identity] = Memory(keep_ns, n)
        """The same by address and port."""
        self._names: dict[str, Identity | None] = {}
        self.known_apps = {
            app.id: Identity(app.id, app.name, app.category) for app in catalogue.apps.values()
        }
        """The apps of the catalogue by their ids."""
        self.known_until: int | None = None
        """Flows that begin later than this place wait for open flows that may have reached their server before;
        None where nothing has to wait, because open flows are put in as soon as their verdicts are due."""

    def learn(self, answers: pa.RecordBatch) -> None:
        """Remembers DNS answers.

        Args:
            answers: the columns client, address, name, ttl_s and place of ``names.dns.ANSWERS``.
        """
        if "dns" not in self.options.kinds:
            return
        columns = ("client", "address", "name", "ttl_s", "place")
        asked, by_any, keep_s = self._asked.add, self._asked_by_any.add, self.options.keep_s
        for client, address, name, ttl_s, place in zip(
            *(answers.column(column).to_pylist() for column in columns), strict=True
        ):
            until = place
            if ttl_s > keep_s:
                until += int((min(ttl_s, _DAY_S) - min(keep_s, _DAY_S)) * _SECOND)
            asked((client, address), name, place, until)
            by_any(address, name, place, until)

    def observe(self, flows: FlowBatch | None, until: int) -> None:
        """Remembers which addresses open flows reach under which names.

        Args:
            flows: open flows with the groups *core* and *names* whose verdict is due; None for none.
            until: all such flows that were decided by then have been put in, a place.
        """
        if flows is not None and "address" in self.options.kinds:
            self.begin(flows)
        self.known_until = until

    def remembered(self, client: str, server: str, port: int, place: int) -> Remembered:
        """What is remembered of a server's address as it was at a place in the order of packets.

        Args:
            client: the client's address.
            server: the server's address.
            port: the server's port.
            place: of the flow's first packet.
        """
        return Remembered(
            self._asked.at((client, server), place),
            self._asked_by_any.at(server, place),
            self._reached.at((client, server, port), place),
            self._reached_by_any.at((server, port), place),
        )

    def resolve(self, flows: FlowBatch) -> Found:
        """What is known of flows; what they teach is remembered first."""
        return self.finish(self.begin(flows))

    def begin(self, flows: FlowBatch, *, is_remembered: bool = True) -> Found:
        """Identifies flows by their own names and by DNS.

        Args:
            flows: n flows with the groups *core* and *names*.
            is_remembered: whether it counts for later flows to the same addresses.
        """
        found, known = _nothing_yet(flows)
        table = IdentityTable(found.identities)
        if "name" in self.options.kinds:
            self._ask_names(found, table)
        ends = _FlowEnds(flows, np.flatnonzero(flows.numpy("server_port") != _DNS_PORT))
        if "dns" in self.options.kinds:
            self._ask_dns(found, table, ends)
        if is_remembered and "address" in self.options.kinds:
            self._remember(found, known, ends)
        return found

    def finish(self, found: Found) -> Found:
        """Adds what addresses show about undecided flows; changes ``found``."""
        table = IdentityTable(found.identities)
        if "address" in self.options.kinds:
            self._ask_addresses(found, table)
        services = _PORT_SERVICE[found.flows.numpy("server_port")]
        services[found.code >= 0] = 0
        if "range" in self.options.kinds:
            self._ask_ranges(found, table, services == 0)
        for service in np.unique(services[services > 0]).tolist():
            identity = Identity(service=_NETWORK_SERVICES[service - 1], service_kind=NETWORK)
            found.code[(services == service) & (found.code < 0)] = table.place(identity)
        return found

    def _identity(self, name: str) -> Identity | None:
        """Whose a name is; None where it is no host name."""
        try:
            return self._names[name]
        except KeyError:
            pass
        match = self.catalogue.lookup(name)
        if match.app is not None:
            identity = Identity(match.app, match.app_name, match.category)
        elif match.service is not None:
            identity = Identity(service=match.service, service_kind=match.kind or UNLISTED)
        else:
            identity = None
        if len(self._names) >= _MAX_NAMES:
            self._names.clear()
        self._names[name] = identity
        return identity

    def _ask_names(self, found: Found, table: IdentityTable) -> None:
        for column in ("server_name", "http_host"):
            names = found.flows.column(column)
            if names.null_count == len(names):
                continue
            encoded = names.dictionary_encode()
            codes = [
                NOBODY if name.lower() in ECH_PUBLIC_NAMES else table.place(self._identity(name))
                for name in map(_host, encoded.dictionary.to_pylist())
            ]
            places = encoded.indices.fill_null(len(codes)).to_numpy(zero_copy_only=False)
            code = np.array([*codes, NOBODY], dtype=np.int32)[places]
            is_new = (found.code < 0) & (code >= 0)
            found.code[is_new] = code[is_new]
            found.kind[is_new] = _NAME

    def _ask_dns(self, found: Found, table: IdentityTable, ends: _FlowEnds) -> None:
        # flows of a dataset know the name that was asked
        names = found.flows.column("dns_name").to_pylist()
        at = self._asked.at
        is_open = (found.code[ends.rows] < 0).tolist()
        starts = found.start[ends.rows].tolist()
        for row, client, server, start, opened in zip(
            ends.rows.tolist(), ends.client, ends.server, starts, is_open, strict=True
        ):
            said = at((client, server), start)
            if said:
                names[row] = said[0]
            elif names[row]:
                said = [names[row]]
            if said and opened:
                self._settle(found, row, table, map(self._identity, said), _DNS)
        found.flows = found.flows.with_columns(dns_name=pa.array(names, pa.string()))

    @staticmethod
    def _settle(
        found: Found,
        row: int,
        table: IdentityTable,
        identities: Iterable[Identity | None],
        kind: int,
    ) -> None:
        """Gives a flow the one app or service that an address has; several decide nothing."""
        several = set(identities) - {None}
        if len(several) > 1 or several == {SHARED}:
            found.is_shared[row] = True
        elif several:
            found.code[row] = table.place(several.pop())
            found.kind[row] = kind

    def _remember(self, found: Found, known: NDArray[np.int64], ends: _FlowEnds) -> None:
        """Which addresses the named flows with payload reached, from when their names count for others."""
        codes = np.where(found.is_shared, len(found.identities), found.code)
        codes[found.flows.payload_packets == 0] = NOBODY
        identities = [*found.identities, SHARED]
        seen: dict[tuple[str, str, int, int], list[int]] = {}
        places = known[ends.rows].tolist()
        for code, place, *key in zip(
            codes[ends.rows].tolist(), places, ends.client, ends.server, ends.port, strict=True
        ):
            if code >= 0:
                seen.setdefault((*key, code), []).append(place)
        for (client, server, port, code), times in seen.items():
            first, last = min(times), max(times)
            is_one = last - first <= self._reached.keep_ns
            for begin, end in [(first, last)] if is_one else zip(times, times, strict=True):
                self._reached.add((client, server, port), identities[code], begin, end)
                self._reached_by_any.add((server, port), identities[code], begin, end)

    def _ask_addresses(self, found: Found, table: IdentityTable) -> None:
        is_asked = found.is_open & (found.flows.numpy("server_port") != _DNS_PORT)
        ends = _FlowEnds(found.flows, np.flatnonzero(is_asked))
        starts = found.start[ends.rows].tolist()
        for row, client, server, port, start in zip(
            ends.rows.tolist(), ends.client, ends.server, ends.port, starts, strict=True
        ):
            said: Iterable[Identity | None] = self._reached.at((client, server, port), start)
            if not said:
                said = self._reached_by_any.at((server, port), start)
            if not said:
                asked = self._asked_by_any.at(server, start)
                said = [self._identity(name) for name in asked]
            if said:
                self._settle(found, row, table, said, _ADDRESS)

    def _ask_ranges(self, found: Found, table: IdentityTable, is_asked: NDArray[np.bool_]) -> None:
        rows = np.flatnonzero(is_asked & ~found.is_listed)
        if not len(rows):
            return
        names = ("server_address", "protocol", "server_port")
        chosen = [found.flows.column(name).take(pa.array(rows)) for name in names]
        owners = self.catalogue.owners_of(*chosen)
        if owners.null_count < len(owners):
            for row, owner in zip(rows.tolist(), owners.to_pylist(), strict=True):
                if owner is not None:
                    found.code[row] = table.place(self.known_apps[owner])
                    found.kind[row] = _RANGE


def _nothing_yet(flows: FlowBatch) -> tuple[Found, NDArray[np.int64]]:
    """Flows of which nothing is known, and from which place on their names count for later ones."""
    there = set(flows.columns)
    if there.issuperset(ORDER):
        start, known = (np.array(flows.numpy(name)) for name in ORDER)
        flows = flows.without(ORDER)
    else:
        start = np.array(flows.numpy("start_ns"))
        is_due = flows.payload_packets >= DECISION_SEGMENTS
        known = np.where(is_due, flows.numpy("decided_ns"), flows.numpy("end_ns") + LATE_NS)
    if "dns_name" not in there:
        flows = flows.with_columns(dns_name=pa.nulls(len(flows), pa.string()))
    return Found.nothing(flows, start), known


def _host(name: str) -> str:
    """A name without a port (``host:port`` of HTTP, ``[v6]:port`` included)."""
    head, colon, port = name.rpartition(":")
    return head if colon and port.isdigit() and (":" not in head or head.endswith("]")) else name


class _FlowEnds:
    """The ends of some flows."""

    __slots__ = ("client", "port", "rows", "server")

    def __init__(self, flows: FlowBatch, rows: NDArray[np.int64]) -> None:
        places = pa.array(rows)
        self.rows = rows
        self.client: list[str] = flows.column("client_address").take(places).to_pylist()
        self.server: list[str] = flows.column("server_address").take(places).to_pylist()
        self.port: list[int] = flows.numpy("server_port")[rows].tolist()
