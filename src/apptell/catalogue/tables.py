"""Reads the catalogue's tables: the shipped ``apps.csv``, ``domains.csv``, ``ranges.csv`` and users' files.

A fault is one ``CatalogueError`` that names the file and the line. A user's file has one line for each domain
or address range, ``example.com,My App``, and an optional head that names further columns
(docs/reference/catalogue.md).
"""

from __future__ import annotations

import csv
import ipaddress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from apptell.catalogue.rows import (
    CATEGORIES,
    KINDS,
    MATCHES,
    MAX_APP_CHARS,
    TRANSPORTS,
    App,
    Domain,
    Range,
    domain_fault,
    id_of,
    is_app_id,
)
from apptell.errors import CatalogueError
from apptell.names.domains import comparable_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

APP_COLUMNS: Final = ("id", "name", "category", "provider", "country", "android", "ios")
DOMAIN_COLUMNS: Final = ("domain", "match", "kind", "app", "service", "published", "checked")
RANGE_COLUMNS: Final = ("range", "transport", "ports", "app", "published", "checked")
USER_COLUMNS: Final = (
    "domain",
    "app",
    "category",
    "match",
    "kind",
    "service",
    "transport",
    "ports",
)
"""Columns of a user's file. Without a head, a line has the first two or three."""
MAX_FILE_BYTES: Final = 32 << 20
MAX_LINES: Final = 1_000_000
MAX_LINE_CHARS: Final = 4096
_SHIPPED: Final = Path(__file__).parent


@dataclass(slots=True)
class Tables:
    """Rows by what identifies them; a later row replaces an earlier one with the same key."""

    apps: dict[str, App] = field(default_factory=dict)
    """By id."""
    domains: dict[tuple[str, str], Domain] = field(default_factory=dict)
    """By domain and match."""
    ranges: dict[str, Range] = field(default_factory=dict)
    """By network, transport protocol and ports (``Range.key``)."""


def read_shipped(folder: Path = _SHIPPED) -> Tables:
    """The tables of a folder.

    Words and references are checked. That every domain is one a row may have is left to ``domain_fault``, which
    needs the Public Suffix List and would take most of the time; the tests ask it for the shipped tables.

    Raises:
        CatalogueError: a file cannot be read, or a row is not valid.
    """
    tables = Tables()
    for place, row in _rows(folder / "apps.csv", APP_COLUMNS):
        app = _app(place, row)
        if tables.apps.setdefault(app.id, app) is not app:
            raise CatalogueError(f"{place}: the app {app.id!r} occurs twice")
    for place, row in _rows(folder / "domains.csv", DOMAIN_COLUMNS):
        domain = _domain(place, row)
        if domain.app is not None and domain.app not in tables.apps:
            raise CatalogueError(f"{place}: apps.csv has no app {domain.app!r}")
        if tables.domains.setdefault((domain.domain, domain.match), domain) is not domain:
            raise CatalogueError(f"{place}: {domain.domain} ({domain.match}) occurs twice")
    for place, row in _rows(folder / "ranges.csv", RANGE_COLUMNS):
        one = _range(place, row)
        if one.app not in tables.apps:
            raise CatalogueError(f"{place}: apps.csv has no app {one.app!r}")
        if tables.ranges.setdefault(one.key, one) is not one:
            raise CatalogueError(f"{place}: {one.key} occurs twice")
    return tables


def add_file(tables: Tables, path: Path) -> None:
    """Adds the rows of a user's file; a row replaces one that stands for the same domain or range.

    Raises:
        CatalogueError: the file cannot be read, or a row is not valid.
    """
    known = {app.name.casefold(): app.id for app in tables.apps.values()}
    new: dict[tuple[str, str], str] = {}
    for place, row in _user_rows(path):
        app = _user_app(place, row, tables, known)
        if "/" in row["domain"]:
            if app is None:
                raise CatalogueError(f"{place}: an address range needs an app")
            one = _range(place, {**row, "range": row["domain"], "app": app})
            key, entry = (one.key, "range"), one.app
            tables.ranges[one.key] = one
        else:
            if row["transport"] or row["ports"]:
                raise CatalogueError(f"{place}: a domain has no transport and no ports")
            domain = _user_domain(place, row, app)
            key, entry = (domain.domain, domain.match), f"{domain.kind} {app or domain.service}"
            tables.domains[key] = domain
        if new.setdefault(key, entry) != entry:
            raise CatalogueError(f"{place}: {key[0]} has another meaning in an earlier line")


def read_bounded(path: Path) -> str:
    """A text file's content.

    Raises:
        CatalogueError: it cannot be read, is larger than MAX_FILE_BYTES, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise CatalogueError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # a NUL in the path
        raise CatalogueError(f"{str(path)!r}: {error}") from error
    if len(content) > MAX_FILE_BYTES:
        raise CatalogueError(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CatalogueError(f"{path}: line {line}: not UTF-8 text") from error


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The place and the fields of each line that is neither empty nor a comment (``#``)."""
    content = read_bounded(path)
    lines = content.split("\n")
    if len(lines) > MAX_LINES:
        raise CatalogueError(f"{path}: more than {MAX_LINES:,} lines")
    is_plain = (
        not any(mark in content for mark in ('"', " ,", ", ")) and "".join(lines).isprintable()
    )
    before = f"{path}: line "
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text[0] == "#":
            continue
        place = f"{before}{number}"
        if len(text) > MAX_LINE_CHARS:
            raise CatalogueError(f"{place}: longer than {MAX_LINE_CHARS:,} characters")
        fields = text.split(",")  # several times faster than a reader for each line
        if is_plain:
            yield place, fields
            continue
        if '"' in text:
            try:
                fields = next(csv.reader([text], strict=True, skipinitialspace=True))
            except csv.Error as error:
                raise CatalogueError(f"{place}: not CSV: {error}") from error
        if not text.isprintable() or '"' in text or " ," in text or ", " in text:
            fields = [printable(value).strip() for value in fields]
        yield place, fields


def printable(text: str) -> str:
    """A text without what a terminal could take for a command."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The place and the values of each line of a table that has exactly these columns."""
    lines = _lines(path)
    place, head = next(lines, (f"{path}: line 1", []))
    if tuple(head) != tuple(columns):
        raise CatalogueError(f"{place}: the header is not {','.join(columns)}")
    n = len(columns)
    for place, fields in lines:
        if len(fields) != n:
            raise CatalogueError(f"{place}: {len(fields)} fields, not {n}")
        yield place, dict(zip(columns, fields, strict=True))


def _user_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The place and the values of each line of a user's file, with every one of USER_COLUMNS."""
    columns: Sequence[str] = USER_COLUMNS[:3]
    lines = _lines(path)
    first = next(lines, None)
    if first is None:
        return
    place, fields = first
    head = [name.lower() for name in fields]
    if head[0] == "domain" or ("domain" in head and "app" in head):
        for name in head:
            if name not in USER_COLUMNS or head.count(name) > 1:
                raise CatalogueError(f"{place}: columns are {', '.join(USER_COLUMNS)}, each once")
        columns = head
    else:
        yield from _valued([first], columns)
    yield from _valued(lines, columns)


def _valued(
    lines: Iterable[tuple[str, list[str]]], columns: Sequence[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Lines of a user's file as mappings; columns that a line does not have are empty."""
    for place, fields in lines:
        if not 2 <= len(fields) <= len(columns):
            counts = "2" if len(columns) == 2 else f"2 to {len(columns)}"
            raise CatalogueError(f"{place}: {len(fields)} fields, not {counts}")
        values = dict.fromkeys((*columns, *USER_COLUMNS), "")
        yield place, values | dict(zip(columns, fields, strict=False))


def _app(place: str, row: dict[str, str]) -> App:
    if not is_app_id(row["id"]):
        raise CatalogueError(f"{place}: {row['id']!r} is not an app's id")
    if row["category"] not in CATEGORIES:
        raise CatalogueError(f"{place}: unknown category {row['category']!r}")
    if not row["name"] or not row["provider"]:
        raise CatalogueError(f"{place}: an app needs a name and a provider")
    return App(
        row["id"],
        row["name"],
        row["category"],
        row["provider"],
        row["country"] or None,
        tuple(row["android"].split()),
        tuple(row["ios"].split()),
    )


def _domain(place: str, row: dict[str, str]) -> Domain:
    match, kind = row["match"], row["kind"]
    if match not in MATCHES:
        raise CatalogueError(f"{place}: unknown match {match!r}; available: {', '.join(MATCHES)}")
    if match == "exact" and "*" in row["domain"]:
        raise CatalogueError(f"{place}: a domain with * matches as a suffix")
    if kind not in KINDS:
        raise CatalogueError(f"{place}: unknown kind {kind!r}; available: {', '.join(KINDS)}")
    app, service = row["app"] or None, row["service"] or None
    if (kind == "app") != (app is not None) or (app is None) == (service is None):
        raise CatalogueError(
            f"{place}: an app only with the kind 'app', a service only with the others"
        )
    return Domain(
        row["domain"],
        match,
        kind,
        app,
        service,
        row.get("published") or None,
        row.get("checked") or None,
    )


def _range(place: str, row: dict[str, str]) -> Range:
    try:
        network = ipaddress.ip_network(row["range"])
    except ValueError as error:
        raise CatalogueError(f"{place}: {str(error)[:120]}") from error
    if network.prefixlen < 8:
        raise CatalogueError(f"{place}: {network} is too wide to belong to one app")
    transport = row["transport"].lower() or None
    if transport is not None and transport not in TRANSPORTS:
        raise CatalogueError(
            f"{place}: no transport {transport!r}; available: {', '.join(TRANSPORTS)}"
        )
    return Range(
        network,
        row["app"],
        row.get("published") or None,
        row.get("checked") or None,
        transport,
        _ports(place, row["ports"]),
    )


def _ports(place: str, text: str) -> tuple[int, int] | None:
    """The first and the last of some ports, from ``443`` or ``3478-3481``."""
    if not text:
        return None
    first, _, last = text.partition("-")
    if not (first.isdecimal() and (last or first).isdecimal() and len(text) <= 11):
        raise CatalogueError(f"{place}: {text!r} is not a port or a range of ports")
    ports = (int(first), int(last or first))
    if not 1 <= ports[0] <= ports[1] < 1 << 16:
        raise CatalogueError(f"{place}: {text!r} is not a port or a range of ports")
    return ports


def _user_app(place: str, row: dict[str, str], tables: Tables, known: dict[str, str]) -> str | None:
    """The id of a line's app, which becomes one of the tables' when it is new; None when it names none."""
    name = row["app"]
    if not name:
        return None
    if len(name) > MAX_APP_CHARS:
        raise CatalogueError(f"{place}: the app's name is longer than {MAX_APP_CHARS} characters")
    named = known.get(name.casefold()) or id_of(name)
    if named is None:
        raise CatalogueError(f"{place}: {name!r} is not the name of an app")
    category = " ".join(row["category"].lower().split())[:MAX_APP_CHARS] or None
    app = tables.apps.get(named) or App(named, " ".join(name.split()))
    tables.apps[named] = app if category is None else replace(app, category=category)
    known.setdefault(name.casefold(), named)
    return named


def _user_domain(place: str, row: dict[str, str], app: str | None) -> Domain:
    """A line as a domain: of kind ``app`` when it names an app, else of the kind that it states."""
    domain = row["domain"].removeprefix("*.").removeprefix(".")
    kind = row["kind"].lower() or ("app" if app else "platform")
    service = None if kind == "app" else row["service"] or row["app"] or domain
    domain = domain.lower() if "*" in domain else comparable_name(domain) or domain
    if fault := domain_fault(domain):
        raise CatalogueError(f"{place}: {fault}")
    return _domain(
        place,
        {
            "domain": domain,
            "match": row["match"].lower() or "suffix",
            "kind": kind,
            "app": app or "" if kind == "app" else "",
            "service": service or "",
        },
    )
