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
from apptell.flows.hashing import new_key
from apptell.flows.plain_columns import is_there, to_list
from apptell.flows.schema import DECISION_SEGMENTS, ORDER, FlowBatch
from apptell.verdicts.identity import NOBODY, CatalogueApps, Found, Identity, IdentityTable
from apptell.verdicts.known_names import Texts, hash_two
from apptell.verdicts.memory import MAX_KEYS, Memory
from apptell.verdicts.memory_kernel import NOTHING, SEVERAL, Ends, settle
from apptell.verdicts.name_owners import SHARED_OWNER, NameOwners
from apptell.verdicts.schema import EVIDENCE_KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from apptell.catalogue import Catalogue

BY_NAME: Final = EVIDENCE_KINDS[:4]
"""The kinds of evidence that need no model."""
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
_NAMES_A_KEY: Final = 8
"""Names that are known for each key, and some more, before those that nothing rests on are forgotten."""
_SOME_NAMES: Final = 1024
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
            raise UsageError(f"no evidence {unknown[0]!r}; available: {', '.join(EVIDENCE_KINDS)}")
        if not self.kinds:
            raise UsageError(f"no evidence at all; available: {', '.join(EVIDENCE_KINDS)}")
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
        self._secret = new_key()
        self._owners = NameOwners(catalogue, self._secret)
        self._asked = Memory(keep_ns, n)
        """Numbers of names by client and address, and by address."""
        self._reached = Memory(keep_ns, n)
        """Numbers of identities by client, address and port, and by address and port."""
        self.known_apps: Mapping[str, Identity] = CatalogueApps(catalogue)
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
        self._forget_unused()
        numbers = self._owners.names.numbers(answers.column("name"), len(answers))
        place = np.asarray(answers.column("place"))
        keep_s, ttl_s = self.options.keep_s, np.asarray(answers.column("ttl_s"))
        longer_s = np.maximum(np.minimum(ttl_s, _DAY_S) - min(keep_s, _DAY_S), 0)
        ends = self._ends(answers, ("client", "address"), np.zeros(len(place), np.uint16))
        self._asked.add(ends, numbers, place, place + (longer_s * _SECOND).astype(np.int64))

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
        batch = pa.record_batch({"client_address": [client], "server_address": [server]})
        columns = ("client_address", "server_address")
        ends = self._ends(batch, columns, np.array([port], np.uint16))
        names, owners = self._owners.names, self._owners.identities
        asked, asked_by_any = (
            [names.name(number) for number in numbers]
            for numbers in self._asked.newest_first(ends.of_hosts(), place, names.name)
        )
        reached, reached_by_any = (
            [owners[number] for number in numbers]
            for numbers in self._reached.newest_first(ends, place, lambda at: str(owners[at]))
        )
        return Remembered(asked, asked_by_any, reached, reached_by_any)

    def resolve(self, flows: FlowBatch) -> Found:
        """What is known of flows; what they teach is remembered first."""
        return self.finish(self.begin(flows))

    def begin(self, flows: FlowBatch, *, is_remembered: bool = True) -> Found:
        """Identifies flows by their own names and by DNS.

        Args:
            flows: n flows with the groups *core* and *names*.
            is_remembered: whether it counts for later flows to the same addresses.
        """
        self._forget_unused()
        found, known = _nothing_yet(flows)
        ends = self._flow_ends(found.flows)
        if "name" in self.options.kinds:
            self._ask_names(found)
        if "dns" in self.options.kinds:
            self._ask_dns(found, ends)
        if is_remembered and "address" in self.options.kinds:
            self._remember(found, known, ends)
        found.code, found.identities = self._apart(found.code)
        found.ends = ends
        return found

    def finish(self, found: Found) -> Found:
        """Adds what addresses show about undecided flows; changes ``found``."""
        table = IdentityTable(found.identities)
        if "address" in self.options.kinds and found.is_open.any():
            self._ask_addresses(found, table)
        services = _PORT_SERVICE[found.flows.numpy("server_port")]
        services[found.code >= 0] = 0
        if "range" in self.options.kinds:
            self._ask_ranges(found, table, services == 0)
        for service in sorted(set(services.tolist()) - {0}):
            identity = Identity(service=_NETWORK_SERVICES[service - 1], service_kind=NETWORK)
            found.code[(services == service) & (found.code < 0)] = table.place(identity)
        return found

    def _ask_names(self, found: Found) -> None:
        for column in ("server_name", "http_host"):
            names = found.flows.plain(column)
            if is_there(names, len(found)).any():
                code = self._owners.of_own(names, len(found))
                is_new = (found.code < 0) & (code >= 0)
                found.code[is_new] = code[is_new]
                found.kind[is_new] = _NAME

    def _ask_dns(self, found: Found, ends: Ends) -> None:
        owners, is_asked = self._owners, ends.port != _DNS_PORT
        is_open = found.code < 0
        only = np.full(len(found), NOTHING, np.int32)
        latest = self._asked.settle(
            False, ends.of_hosts(), found.start, is_asked, is_open, owners, only
        )
        kept = found.flows.plain("dns_name")
        if is_there(kept, len(found)).any():  # flows of a dataset know the name that was asked
            numbers = owners.names.numbers(kept, len(found))
            is_kept = (latest < 0) & (numbers >= 0)
            latest[is_kept] = numbers[is_kept]
            rows = np.flatnonzero(is_kept & is_asked & is_open)
            settle(rows, owners.of(numbers[rows]), only)
        self._take_over(found, only, _DNS)
        if (latest >= 0).any():
            found.flows = found.flows.with_plain({"dns_name": owners.names.column(latest)})

    @staticmethod
    def _take_over(found: Found, only: NDArray[np.int32], kind: int) -> None:
        """Gives flows the one identity that is known of their addresses; several decide nothing."""
        found.is_shared |= only == SEVERAL
        has_one = only >= 0
        found.code[has_one] = only[has_one]
        found.kind[has_one] = kind

    def _remember(self, found: Found, known: NDArray[np.int64], ends: Ends) -> None:
        """Which addresses the named flows with payload reached, from when their names count for others."""
        codes = np.where(found.is_shared, np.int32(SHARED_OWNER), found.code)
        codes[(found.flows.payload_packets == 0) | (ends.port == _DNS_PORT)] = NOBODY
        self._reached.add(ends, codes, known, known)

    def _ask_addresses(self, found: Found, table: IdentityTable) -> None:
        ends = self._flow_ends(found.flows) if found.ends is None else found.ends
        is_asked = found.is_open & (ends.port != _DNS_PORT)
        only = self._reached.only(ends, found.start, is_asked)
        only[only == SHARED_OWNER] = SEVERAL
        is_asked &= only == NOTHING
        self._asked.settle(
            True, ends.of_hosts(), found.start, is_asked, is_asked, self._owners, only
        )
        if (only == NOTHING).all():
            return
        code, identities = self._apart(only)
        places = np.array([*map(table.place, identities), NOBODY], np.int32)
        self._take_over(found, np.where(only < 0, only, places[code]), _ADDRESS)

    def _apart(self, numbers: NDArray[np.int32]) -> tuple[NDArray[np.int32], list[Identity]]:
        """Numbers of identities as places in a list of those that occur, and the list; NOBODY below 0."""
        used = np.unique(numbers[numbers >= 0])
        places = np.searchsorted(used, numbers).astype(np.int32)
        places[numbers < 0] = NOBODY
        return places, [self._owners.identities[number] for number in used.tolist()]

    def _flow_ends(self, flows: FlowBatch) -> Ends:
        return self._ends(flows, ("client_address", "server_address"), flows.numpy("server_port"))

    def _ends(
        self,
        batch: pa.RecordBatch | FlowBatch,
        columns: tuple[str, str],
        port: NDArray[np.uint16],
    ) -> Ends:
        """The ends of n flows or answers."""
        n = len(batch)
        column = batch.plain if isinstance(batch, FlowBatch) else batch.column
        texts = [Texts.of(column(name), n) for name in columns]
        ends = Ends(np.empty((n, 2), np.uint64), np.empty((n, 2), np.uint64), port)
        hash_two(*texts[0], *texts[1], self._secret, ends.client, ends.server)
        return ends

    def _forget_unused(self) -> None:
        """Forgets the names and identities that nothing rests on, once there are very many."""
        most = _NAMES_A_KEY * self.options.max_keys + _SOME_NAMES
        if max(len(self._owners.names), len(self._owners.identities)) <= most:
            return
        names, identities = self._owners.keep(self._asked.values(), self._reached.values())
        self._asked.renumber(names)
        self._reached.renumber(identities)

    def _ask_ranges(self, found: Found, table: IdentityTable, is_asked: NDArray[np.bool_]) -> None:
        rows = np.flatnonzero(is_asked & ~found.is_listed)
        if not len(rows):
            return
        names = ("server_address", "protocol", "server_port")
        flows, n = found.flows, len(found)
        addresses, protocols, ports = (to_list(flows.plain(name), n) for name in names)
        for row in rows.tolist():
            owner = self.catalogue.owner_of(addresses[row], protocols[row], ports[row])
            if owner is not None:
                found.code[row] = table.place(self.known_apps[owner])
                found.kind[row] = _RANGE


def _nothing_yet(flows: FlowBatch) -> tuple[Found, NDArray[np.int64]]:
    """Flows of which nothing is known, and from which place on their names count for later ones."""
    if all(map(flows.has, ORDER)):
        start, known = (np.array(flows.numpy(name)) for name in ORDER)
        flows = flows.without(ORDER)
    else:
        start = np.array(flows.numpy("start_ns"))
        is_due = flows.payload_packets >= DECISION_SEGMENTS
        known = np.where(is_due, flows.numpy("decided_ns"), flows.numpy("end_ns") + LATE_NS)
    if not flows.has("dns_name"):
        flows = flows.with_plain({"dns_name": None})
    return Found.nothing(flows, start), known
