"""Says which names, DNS answers, addresses and ranges a verdict rests on, and which rows of the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apptell.reasons.explanation import EvidenceStep
from apptell.verdicts.evidence import NETWORK_PORTS
from apptell.verdicts.identity import SHARED
from apptell.verdicts.name_owners import ECH_PUBLIC_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apptell.catalogue import Catalogue
    from apptell.catalogue.rows import Range
    from apptell.verdicts.evidence import Evidence, Remembered
    from apptell.verdicts.identity import Identity
    from apptell.verdicts.schema import Verdict


def evidence_steps(verdict: Verdict, evidence: Evidence, place: int) -> list[EvidenceStep]:
    """The evidence on a flow in the order in which it is examined, up to what decided.

    Args:
        verdict: on the flow.
        evidence: what gave it, with what it remembers.
        place: of the flow's first packet in the order of packets (``start_place``).
    """
    known = evidence.remembered(
        verdict.client_address, verdict.server_address, verdict.server_port, place
    )
    steps: list[EvidenceStep] = []
    makers = {"name": _name, "dns": _dns, "address": _address, "range": _range}
    for kind, make in makers.items():
        if kind in evidence.options.kinds:
            words, row = make(verdict, known, evidence.catalogue)
            steps.append(EvidenceStep(kind, verdict.evidence == kind, words, row))
            if verdict.evidence == kind:
                return steps
    if verdict.service_kind == "network" and verdict.evidence is None:
        service = NETWORK_PORTS.get(verdict.server_port, verdict.service)
        words = f"server port {verdict.server_port} is that of {service}, the network's own traffic"
        steps.append(EvidenceStep("range", decided=True, words=words))
    return steps


Said = tuple[str, "dict[str, str | None] | None"]


def _name(verdict: Verdict, _known: Remembered, catalogue: Catalogue) -> Said:
    for name, what in ((verdict.server_name, "server name"), (verdict.http_host, "HTTP host")):
        if not name:
            continue
        if name.lower() in ECH_PUBLIC_NAMES:
            return f"the server name {name} only hides another one (Encrypted Client Hello)", None
        said, row = _listed(name, catalogue)
        return f"the {what} {name} {said}", row
    return "the flow shows no server name", None


def _dns(verdict: Verdict, known: Remembered, catalogue: Catalogue) -> Said:
    names = known.asked or ([verdict.dns_name] if verdict.dns_name else [])
    if not names:
        return "the client asked for no name of this address", None
    if len(names) == 1:
        said, row = _listed(names[0], catalogue)
        return f"the client had asked for {names[0]}, which {said}", row
    return _of_asked("the client", names, catalogue)


def _of_asked(who: str, names: Sequence[str], catalogue: Catalogue) -> Said:
    """What several names that were answered with the flow's address say together."""
    asked = f"{who} had asked for {_listing(names)}"
    first: dict[str, str] = {}  # the newest name of each app or service
    for name in names:
        match = catalogue.lookup(name)
        if owner := match.app_name or match.service:
            first.setdefault(owner, name)
    if len(first) > 1:
        (owner, name), (other, another) = list(first.items())[:2]
        none = "neither" if len(first) == 2 else "none of them"
        return (
            f"{asked}; {name} belongs to {owner} and {another} to {other}, so {none} decides",
            None,
        )
    said, row = _listed(names[0], catalogue)
    return f"{asked}; {names[0]} {said}", row


def _address(verdict: Verdict, known: Remembered, catalogue: Catalogue) -> Said:
    where = f"{verdict.server_address} port {verdict.server_port}"
    for owners, who in ((known.reached, "this client"), (known.reached_by_any, "another client")):
        if not owners:
            continue
        words = f"earlier flows of {who} to {where} were "
        if len(owners) > 1 or SHARED in owners:
            return words + f"of several: {_listing([_owner(each) for each in owners])}", None
        return words + f"those of {_owner(owners[0])}", None
    if known.asked_by_any:
        return _of_asked("a client", known.asked_by_any, catalogue)
    return f"nothing is known of earlier flows to {where}", None


def _range(verdict: Verdict, _known: Remembered, catalogue: Catalogue) -> Said:
    rows = catalogue.ranges_at(verdict.server_address)
    row = next((row for row in rows if row.has(verdict.protocol, verdict.server_port)), None)
    if row is None:
        return f"no app owns the address {verdict.server_address}", None
    app = catalogue.apps[row.app]
    owner = f"{verdict.server_address} is in {row.key}, which belongs to {app.name}"
    return owner, _range_row(row)


def _listed(name: str, catalogue: Catalogue) -> Said:
    """What the catalogue says of a name."""
    match = catalogue.lookup(name)
    row = match.row
    if row is None:
        domain = match.service
        return f"is not listed{f' (registered domain {domain})' if domain else ''}", None
    extent = "and names below it belong" if row.match == "suffix" else "belongs"
    what = f"the app {match.app_name}" if match.app else f"{match.service} ({match.kind}), no app"
    found = {
        "domain": row.domain,
        "match": row.match,
        "kind": row.kind,
        "app": row.app,
        "service": row.service,
        "published": row.published,
        "checked": row.checked,
    }
    return f"is listed: {row.domain} {extent} to {what}", found


def _range_row(row: Range) -> dict[str, str | None]:
    return {
        "network": row.key,
        "app": row.app,
        "published": row.published,
        "checked": row.checked,
    }


def _owner(identity: Identity) -> str:
    if identity == SHARED:
        return "several"
    return identity.app_name or identity.app or identity.service or "somebody"


def _listing(names: Sequence[str]) -> str:
    shown = list(dict.fromkeys(names))
    more = len(shown) - 4
    return ", ".join(shown[:4]) + (f" and {more} more" if more > 0 else "")
