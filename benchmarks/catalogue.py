"""The catalogue of apps beside two public lists of domains and a list of published address ranges.

    python benchmarks/catalogue.py LISTS [--missing] [--json FILE]

LISTS is a folder with ``domain-list-community.csv`` and ``services.csv`` (columns ``service``, ``match``,
``domain``; the first may mark a domain as advertising in ``ads``) and ``ranges.csv`` (``owner``, ``range``). The
lists are no part of the project and no source of the catalogue: they find what it lacks and where the two
contradict each other.

A list stands for an app when its name is the app's id, name or provider, with letters and digits alone compared.
Each of its domains agrees (the catalogue names that app), is shared (the catalogue has it as a platform, delivery
network, SDK or advertising), is missing, or contradicts (the catalogue names another app). A domain of any other
list contradicts when the catalogue names an app and the list stands for none of that app's names. A domain that a
list marks as advertising contradicts when the catalogue names an app. ``DECIDED`` holds the contradictions that
were looked at, with the reason; the others are printed.
"""

from __future__ import annotations

import argparse
import csv
import ipaddress
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apptell.catalogue import App, Catalogue

FILES = ("domain-list-community.csv", "services.csv")


def plain(name: str) -> str:
    """A name's letters and digits, lower case."""
    return "".join(char for char in name.lower() if char.isalnum())


def names_of(app: App) -> set[str]:
    """The plain names that a list about an app may have: its own and its provider's."""
    return {plain(app.id), plain(app.name), plain(app.provider or "")}


def compare_domains(catalogue: Catalogue, path: Path) -> dict[str, Any]:
    """Counts of a public list's domains by outcome, what is missing by list, and contradictions."""
    by_name: dict[str, str] = {}
    for app in catalogue.apps.values():
        by_name.setdefault(plain(app.id), app.id)
        by_name.setdefault(plain(app.name), app.id)
    counts: Counter[str] = Counter()
    lists: defaultdict[str, Counter[str]] = defaultdict(Counter)
    missing: defaultdict[str, list[str]] = defaultdict(list)
    contradictions = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            listed, domain = row["service"], row["domain"]
            match = catalogue.lookup(domain)
            known = by_name.get(plain(listed))
            if match.app is None:
                outcome = "missing" if match.kind is None else "shared"
            elif row.get("ads") in ("1", "true", "True", "yes"):
                outcome = "contradicts"
            elif match.app == known or plain(listed) in names_of(catalogue.apps[match.app]):
                outcome = "agrees"
            else:
                outcome = "contradicts"
            counts[outcome] += 1
            if known is not None:
                lists[known][outcome] += 1
                if outcome == "missing":
                    missing[known].append(domain)
            if outcome == "contradicts":
                contradictions.append((listed, domain, match.app, row.get("ads", "")))
    return {
        "domains": dict(counts),
        "lists_that_are_apps": len(lists),
        "domains_of_those": dict(sum(lists.values(), Counter())),
        "missing": dict(missing),
        "contradictions": contradictions,
    }


def compare_ranges(catalogue: Catalogue, path: Path) -> dict[str, Any]:
    """Our ranges that a published range of the same owner holds, and those that another owner's meets."""
    with path.open(encoding="utf-8", newline="") as file:
        published = [
            (row["owner"], ipaddress.ip_network(row["range"])) for row in csv.DictReader(file)
        ]
    confirmed, foreign = [], []
    for ours in catalogue.ranges:
        for owner, network in published:
            if network.version == ours.network.version and network.overlaps(ours.network):  # type: ignore[arg-type]
                same = plain(owner) in names_of(catalogue.apps[ours.app])
                (confirmed if same else foreign).append((str(ours.network), ours.app, owner))
    return {
        "ours": len(catalogue.ranges),
        "confirmed": len({network for network, _, _ in confirmed}),
        "foreign": foreign,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("lists", type=Path)
    parser.add_argument("--missing", action="store_true", help="print what the catalogue lacks, by app")
    parser.add_argument("--json", type=Path, help="write everything there")
    given = parser.parse_args()
    from apptell.catalogue import Catalogue

    catalogue = Catalogue.load()
    found: dict[str, Any] = {
        name: compare_domains(catalogue, given.lists / name) for name in FILES
    }
    found["ranges.csv"] = compare_ranges(catalogue, given.lists / "ranges.csv")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    for name in FILES:
        one = found[name]
        print(f"{name}: {one['domains']}; {one['lists_that_are_apps']} lists are apps of ours:")
        print(f"  {one['domains_of_those']}")
        if given.missing:
            for app, domains in sorted(one["missing"].items(), key=lambda item: -len(item[1])):
                print(f"  missing of {app}: {' '.join(domains)}")
        for listed, domain, app, ads in one["contradictions"]:
            print(f"  {domain}: the list {listed} has it{' as advertising' * bool(ads)}, we have {app}")
    print(f"ranges.csv: {found['ranges.csv']}")


if __name__ == "__main__":
    main()
