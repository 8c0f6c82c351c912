"""Looks server names and addresses up in the catalogue, one at a time or as Arrow columns.

Names are compared in the form of ``names.domains.comparable_name``. An exact row wins over suffix rows, a
longer suffix over a shorter one, and a label written out over ``*``.
"""

from __future__ import annotations

import bisect
import difflib
import socket
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from apptell.catalogue.tables import Tables, add_file, read_shipped
from apptell.names.domains import comparable_name, registered_domain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from apptell.catalogue.rows import App, Domain, Range

MATCH_SCHEMA: Final = pa.schema(
    {
        "app": pa.string(),  # the app's id; null when the name tells no app
        "app_name": pa.string(),
        "category": pa.string(),
        "service": pa.string(),  # the catalogue's service or the app's name, else the registered domain
        "kind": pa.string(),  # one of KINDS; null when the catalogue has no row
        "domain": pa.string(),  # the row's domain; null when the catalogue has none
    }
)


@dataclass(frozen=True, slots=True)
class Match:
    """What the catalogue says about a name."""

    app: str | None = None
    """The app's id when the row is of kind ``app``."""
    app_name: str | None = None
    category: str | None = None
    service: str | None = None
    """The row's service, else the app's name; the registered domain when there is no row; None when the name
    is no host name."""
    kind: str | None = None
    """The row's kind; None when there is no row."""
    row: Domain | None = None


NO_MATCH: Final = Match()
_MAX_ADDRESSES: Final = 1 << 16


class Catalogue:
    """Apps, domains and address ranges, indexed for look-ups.

    Args:
        tables: the rows. ``Catalogue.load`` reads the shipped ones.
    """

    def __init__(self, tables: Tables) -> None:
        self.apps: dict[str, App] = tables.apps
        """By id."""
        self.domains: Sequence[Domain] = tuple(tables.domains.values())
        self.ranges: Sequence[Range] = tuple(tables.ranges.values())
        self._exact = {key[0]: row for key, row in tables.domains.items() if key[1] == "exact"}
        self._suffix = {key[0]: row for key, row in tables.domains.items() if key[1] == "suffix"}
        self._endings: defaultdict[str, list[tuple[str, Domain]]] = defaultdict(list)
        for domain, row in self._suffix.items():
            if domain.startswith("*-"):
                label, _, below = domain.partition(".")
                self._endings[below].append((label[1:], row))
        self._rows_at: dict[str | None, tuple[Range, ...]] = {}
        """Of addresses that were looked up lately."""
        self._owners = {4: _Owners(self.ranges, 4), 16: _Owners(self.ranges, 16)}

    @classmethod
    def load(cls, extra: Iterable[str | Path] = ()) -> Catalogue:
        """Loads the shipped catalogue and users' files, whose rows replace shipped ones.

        Args:
            extra: paths of such files; later files take precedence.

        Raises:
            CatalogueError: a file cannot be read, or one of its rows is not valid.
        """
        tables = read_shipped()
        for path in extra:
            add_file(tables, Path(path))
        return cls(tables)

    def lookup(self, name: str | None) -> Match:
        """Looks up a server's name.

        Args:
            name: a host name in any case, with or without a final dot, internationalised labels in either
                form, with or without a port as an HTTP host has it. An address literal, None and what is no
                host name match nothing.
        """
        host = comparable_name(_without_port(name)) if name else None
        if host is None:
            return NO_MATCH
        row = self._row(host)
        if row is None:
            return Match(service=registered_domain(host))
        if row.app is None:
            return Match(service=row.service, kind=row.kind, row=row)
        app = self.apps[row.app]
        return Match(app.id, app.name, app.category, app.name, row.kind, row)

    def lookup_all(self, names: pa.Array | pa.ChunkedArray) -> pa.RecordBatch:
        """Looks up n names: n rows of MATCH_SCHEMA. Each distinct name is looked up once.

        Args:
            names: n strings, nulls among them, dictionary-encoded or not.
        """
        encoded = _encoded(names)
        found = [self.lookup(name) for name in encoded.dictionary.to_pylist()]
        columns = (
            [match.app for match in found],
            [match.app_name for match in found],
            [match.category for match in found],
            [match.service for match in found],
            [match.kind for match in found],
            [match.row.domain if match.row else None for match in found],
        )
        return pa.RecordBatch.from_arrays(
            [pa.array(column, pa.string()).take(encoded.indices) for column in columns],
            schema=MATCH_SCHEMA,
        )

    def ranges_at(self, address: str | None) -> tuple[Range, ...]:
        """The rows whose network has an address, the narrowest first.

        Args:
            address: IPv4 or IPv6 text; an IPv4 address mapped into IPv6 counts as IPv4.
        """
        packed = _packed(address)
        return () if packed is None else self._owners[len(packed)].of(packed)

    def owner_of(
        self, address: str | None, protocol: int | None = None, port: int | None = None
    ) -> str | None:
        """The id of the app that owns an address, or a port there; None when no single app does.

        Args:
            address: IPv4 or IPv6 text; an IPv4 address mapped into IPv6 counts as IPv4.
            protocol: IP protocol number; None for an address alone.
            port: server port; None for an address alone.
        """
        rows = self._rows_at.get(address)
        if rows is None:
            if len(self._rows_at) > _MAX_ADDRESSES:
                self._rows_at.clear()
            rows = self._rows_at[address] = self.ranges_at(address)
        return _first_owner(rows, protocol, port) if rows else None

    def find_app(self, text: str) -> App | None:
        """The app with this id, name, Android package or iOS bundle id, in any case; None for none."""
        wanted = text.strip().casefold()
        if wanted in self.apps:
            return self.apps[wanted]
        for app in self.apps.values():
            if wanted in (app.name.casefold(), *map(str.casefold, (*app.android, *app.ios))):
                return app
        return None

    def suggestions(self, text: str, n: int = 3) -> list[str]:
        """At most n ids of apps that are spelled nearly like this text."""
        return difflib.get_close_matches(text.strip().lower(), self.apps, n)

    def domains_of(self, app: str) -> list[Domain]:
        """The rows that name an app, by its id."""
        return [row for row in self.domains if row.app == app]

    def ranges_of(self, app: str) -> list[Range]:
        """The address ranges of an app, by its id."""
        return [row for row in self.ranges if row.app == app]

    def _row(self, host: str) -> Domain | None:
        row = self._exact.get(host)
        if row is not None:
            return row
        rest = host
        while rest:
            row = self._suffix.get(rest)
            if row is not None:
                return row
            label, _, below = rest.partition(".")
            row = self._suffix.get(f"{label}.*.{below.partition('.')[2]}")
            if row is not None:
                return row
            for ending, row in self._endings.get(below, ()):
                if label.endswith(ending) and label != ending:
                    return row
            rest = below
        return None


class _Owners:
    """Sorted, disjoint address ranges of one IP version; bytes in network order compare as numbers do."""

    def __init__(self, ranges: Sequence[Range], size: int) -> None:
        """Takes the ranges whose addresses have ``size`` bytes."""
        rows: defaultdict[Any, list[Range]] = defaultdict(list)
        for row in ranges:
            if len(row.network.network_address.packed) == size:
                rows[row.network].append(row)
        points: list[tuple[bytes, tuple[Range, ...]]] = []
        enclosing: list[tuple[bytes, tuple[Range, ...]]] = []
        for network in sorted(rows, key=lambda each: (each.network_address, each.prefixlen)):
            first = network.network_address.packed
            self._close(points, enclosing, first)
            # a row of some ports is narrower than one of the whole network
            own = sorted(rows[network], key=lambda row: (row.ports is None, row.transport is None))
            all_rows = (*own, *(enclosing[-1][1] if enclosing else ()))
            points.append((first, all_rows))
            enclosing.append((network.broadcast_address.packed, all_rows))
        self._close(points, enclosing, None)
        self._first = [first for first, _ in points]
        self._rows = [found for _, found in points]

    @staticmethod
    def _close(
        points: list[tuple[bytes, tuple[Range, ...]]],
        enclosing: list[tuple[bytes, tuple[Range, ...]]],
        before: bytes | None,
    ) -> None:
        """Ends the ranges that end before an address; None ends them all."""
        while enclosing and (before is None or enclosing[-1][0] < before):
            last, _ = enclosing.pop()
            after = int.from_bytes(last) + 1
            if after < 1 << 8 * len(last):
                points.append((after.to_bytes(len(last)), enclosing[-1][1] if enclosing else ()))

    def of(self, address: bytes) -> tuple[Range, ...]:
        """The rows that have an address, the narrowest first."""
        at = bisect.bisect_right(self._first, address) - 1
        return self._rows[at] if at >= 0 else ()


def _first_owner(rows: Sequence[Range], protocol: int | None, port: int | None) -> str | None:
    """The app of the first row that has a port."""
    return next((row.app for row in rows if row.has(protocol, port)), None)


def _without_port(name: str) -> str:
    host, colon, port = name.rpartition(":")
    return host if colon and port.isdigit() else name


def _packed(address: str | None) -> bytes | None:
    """An address as 4 or 16 bytes; None for what is no address."""
    if not address:
        return None
    try:
        if ":" not in address:
            return socket.inet_pton(socket.AF_INET, address)
        packed = socket.inet_pton(socket.AF_INET6, address)
    except (OSError, ValueError):
        return None
    return packed[12:] if packed[:12] == b"\0" * 10 + b"\xff\xff" else packed


def _encoded(values: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    """Strings as one dictionary-encoded array."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.ChunkedArray):  # PyArrow leaves no chunks, or several, as they are
        values = pa.concat_arrays(values.chunks) if values.chunks else pa.array([], values.type)
    return values if isinstance(values, pa.DictionaryArray) else values.dictionary_encode()
