"""Converts public lists of domains to rows of a user's catalogue file, and counts what was left out.

Forms, each as its project documents it:

- ``domain-list-community``: the folder ``data`` or one file of it, a list per file
  (https://github.com/v2fly/domain-list-community, "Structure of data");
- ``hosts``: lines of an address and names (hosts(5)), or of one name each;
- ``adguard``: services with filtering rules, as the JSON or YAML of AdGuard's blocked services
  (https://github.com/AdguardTeam/HostlistsRegistry);
- ``plain``: lines ``domain,app``.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from apptell.catalogue.rows import MAX_APP_CHARS, domain_fault
from apptell.catalogue.tables import USER_COLUMNS, printable, read_bounded
from apptell.errors import CatalogueError, MissingError, UsageError
from apptell.names.domains import comparable_name, is_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from apptell.catalogue.lookup import Catalogue

IMPORT_SCHEMA: Final = pa.schema([(name, pa.string()) for name in USER_COLUMNS])
_MAX_FILES: Final = 20_000
_MAX_YAML_CHARS: Final = 1 << 20
"""Its parser reads some 100 kB a second."""
_DEEP: Final = re.compile(r"(?:[\[{]\s*){64}")
_ATTRIBUTE: Final = re.compile(r"\s[@&]\S+")
_RULE: Final = re.compile(r"\|\|([^/^$*|]+)\^?(?:\$important)?")


@dataclass(frozen=True, slots=True)
class Entry:
    """A domain as a list states it."""

    domain: str
    match: str
    owner: str
    """The list or service that the domain is part of; empty where the form names none."""
    is_ad: bool = False
    """The list marks it as advertising."""


@dataclass(slots=True)
class Imported:
    """What an import found."""

    rows: list[dict[str, str | None]] = field(default_factory=list)
    """Rows of IMPORT_SCHEMA, sorted by owner and domain."""
    skipped: Counter[str] = field(default_factory=Counter)
    """What was left out, by reason."""

    def to_arrow(self) -> pa.RecordBatch:
        """The rows as a batch of IMPORT_SCHEMA."""
        return pa.RecordBatch.from_pylist(self.rows, IMPORT_SCHEMA)


def import_list(
    form: str,
    path: Path,
    *,
    kind: str | None = None,
    only: Sequence[str] = (),
    known: Catalogue | None = None,
) -> Imported:
    """The rows that a list adds to the catalogue.

    A domain that two owners claim names no app: it becomes a shared service of both.

    Args:
        form: one of FORMS.
        path: a file, or the folder of the forms that are one.
        kind: what the list's domains are, one of ``rows.KINDS``; the form's own when None. Domains that the
            list marks as advertising are ``ads`` in either case.
        only: names of lists or services to take; all when empty.
        known: a catalogue; domains that it has a row for are left out.

    Raises:
        UsageError: there is no such form, or the list has no such name as in ``only``.
        CatalogueError: the list cannot be read, or is not of this form.
        MissingError: it is YAML, and PyYAML is not installed.
    """
    if form not in FORMS:
        raise UsageError(f"unknown form of list {form!r}; available: {', '.join(FORMS)}")
    read, own_kind = FORMS[form]
    found = Imported()
    owners: defaultdict[tuple[str, str], dict[str, bool]] = defaultdict(dict)
    missing = set(only)
    for entry in read(path, tuple(only), found.skipped):
        missing.discard(entry.owner)
        if only and entry.owner not in only:
            continue
        domain = comparable_name(entry.domain)
        if domain is None or domain_fault(domain):
            found.skipped["not a domain that a row may have"] += 1
        elif known is not None and known.lookup(domain).kind is not None:
            found.skipped["in the catalogue already"] += 1
        else:
            owners[domain, entry.match][entry.owner] = entry.is_ad
    if missing:
        raise UsageError(f"{path}: no list or service {sorted(missing)[0]!r}")
    for (domain, match), claims in owners.items():
        found.rows.append(_row(domain, match, claims, kind or own_kind))
        if len(claims) > 1:
            found.skipped["claimed by several: a shared service"] += 1
    found.rows.sort(key=lambda row: (row["app"] or row["service"] or "", row["domain"] or ""))
    return found


def _row(domain: str, match: str, claims: dict[str, bool], kind: str) -> dict[str, str | None]:
    """A row for a domain and those who claim it."""
    if any(claims.values()):
        kind = "ads"
    elif len(claims) > 1 and kind == "app":
        kind = "platform"
    names = [name for name in sorted(claims) if name]
    title = printable(", ".join(names[:3]))[:MAX_APP_CHARS] or domain
    return {
        "domain": domain,
        "app": title if kind == "app" else None,
        "category": None,
        "match": match,
        "kind": kind,
        "service": None if kind == "app" else title,
    }


def _read_domain_lists(path: Path, only: Sequence[str], skipped: Counter[str]) -> Iterator[Entry]:
    """Every list of a folder by itself; of those in ``only``, and of a single file, what they include too."""
    folder = path if path.is_dir() else path.parent
    if not path.is_dir():
        starts = [path.name]
    elif only:
        starts = [name for name in only if (folder / name).is_file()]
    else:
        starts = sorted(file.name for file in _files(folder, lambda file: "." not in file.name))
    follow = bool(only) or not path.is_dir()
    for start in starts:
        waiting, seen = [start], {start}
        while waiting:
            name = waiting.pop()
            for line in read_bounded(folder / name).split("\n"):
                text = line.partition("#")[0].strip()
                if not text:
                    continue
                attributes = [found.strip() for found in _ATTRIBUTE.findall(text)]
                kind, colon, value = _ATTRIBUTE.sub("", text).strip().partition(":")
                if not colon:
                    kind, value = "domain", kind
                if kind in ("domain", "full"):
                    match = "exact" if kind == "full" else "suffix"
                    yield Entry(value, match, start, "@ads" in attributes)
                elif kind == "include" and not follow:
                    skipped["included list, which is read by itself"] += 1
                elif kind == "include" and not (
                    _is_list_name(value) and (folder / value).is_file()
                ):
                    skipped["included list that is missing"] += 1
                elif kind == "include":
                    if value not in seen and len(seen) < _MAX_FILES:
                        seen.add(value)
                        waiting.append(value)
                else:
                    skipped[
                        kind if kind in ("keyword", "regexp") else "line of an unknown kind"
                    ] += 1


def _read_hosts(path: Path, _only: Sequence[str], skipped: Counter[str]) -> Iterator[Entry]:
    """Names after an address, and single names on a line."""
    for line in read_bounded(path).split("\n"):
        names = line.partition("#")[0].split()
        if len(names) > 1 and is_address(names[0].partition("%")[0]):
            names = names[1:]
        elif len(names) > 1:
            skipped["line without an address"] += 1
            continue
        for name in names:
            if (
                name.startswith("localhost")
                or name in ("broadcasthost", "local")
                or is_address(name)
            ):
                skipped["name of this machine"] += 1
            else:
                yield Entry(name, "exact", "")


def _read_plain(path: Path, _only: Sequence[str], skipped: Counter[str]) -> Iterator[Entry]:
    """``domain,app`` lines; a head is passed over."""
    for line in read_bounded(path).split("\n"):
        domain, comma, owner = (part.strip() for part in line.partition("#")[0].partition(","))
        if not domain or domain.lower() == "domain":
            continue
        if not comma or not owner:
            skipped["line without an app"] += 1
        else:
            yield Entry(domain.removeprefix("*."), "suffix", " ".join(printable(owner).split()))


def _read_adguard(path: Path, _only: Sequence[str], skipped: Counter[str]) -> Iterator[Entry]:
    """Rules ``||domain^`` of each service."""
    files = [path] if not path.is_dir() else _files(path, lambda file: file.suffix in _PARSERS)
    for file in files:
        for service in _services(_parsed(file), file):
            name, rules = service.get("name") or service.get("id"), service.get("rules")
            if not isinstance(name, str) or not isinstance(rules, list):
                raise CatalogueError(f"{file}: a service needs a name and a list of rules")
            for rule in rules:
                found = _RULE.fullmatch(rule.strip()) if isinstance(rule, str) else None
                if found is None:
                    skipped["rule of another form than ||domain^"] += 1
                else:
                    yield Entry(found[1], "suffix", " ".join(printable(name).split()))


def _services(content: Any, file: Path) -> list[dict[str, Any]]:
    """The services of a parsed file: one, a list, or under ``blocked_services``."""
    if isinstance(content, dict):
        content = content.get("blocked_services", content)
    services = [content] if isinstance(content, dict) else content
    if not isinstance(services, list) or not all(isinstance(each, dict) for each in services):
        raise CatalogueError(f"{file}: not a service, nor a list of services")
    return services


def _parsed(file: Path) -> Any:
    """The content of a JSON or YAML file."""
    parse = _PARSERS.get(file.suffix.lower(), _parse_json)
    try:
        return parse(read_bounded(file))
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else "nested too deeply"
        raise CatalogueError(f"{file}: {reason}") from error


def _parse_json(text: str) -> Any:
    return json.loads(text)


def _parse_yaml(text: str) -> Any:
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise MissingError("reading YAML needs PyYAML: pip install 'apptell[yaml]'") from error
    if len(text) > _MAX_YAML_CHARS:
        raise ValueError(f"more than {_MAX_YAML_CHARS >> 20} MiB of YAML")
    if _DEEP.search(text):  # for which the parser takes a second before it gives up
        raise ValueError("nested too deeply")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _files(folder: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    """The files of a folder that are wanted, by name.

    Raises:
        CatalogueError: it has none, or far too many.
    """
    try:
        files = sorted(file for file in folder.iterdir() if file.is_file() and wanted(file))
    except OSError as error:
        raise CatalogueError(f"{folder}: {error.strerror}") from error
    if not 0 < len(files) <= _MAX_FILES:
        raise CatalogueError(f"{folder}: {len(files):,} lists; 1 to {_MAX_FILES:,} can be read")
    return files


def _is_list_name(name: str) -> bool:
    """Whether a text can be a list's name: an included list must not lead out of the folder."""
    return re.fullmatch(r"[A-Za-z0-9!_-][A-Za-z0-9!_.-]{0,99}", name) is not None


_PARSERS: Final = {
    ".json": _parse_json,
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
}
FORMS: Final = {
    "domain-list-community": (_read_domain_lists, "platform"),
    "hosts": (_read_hosts, "ads"),
    "adguard": (_read_adguard, "app"),
    "plain": (_read_plain, "app"),
}
"""How each form is read, and the default kind of its domains: lists of the first form are companies and sites
as often as apps; hosts files list advertising and tracking.
"""
