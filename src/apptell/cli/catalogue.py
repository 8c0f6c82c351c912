"""``apptell catalogue``: looks up apps and names, finds missing names and imports public lists."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apptell.cli.outputs import refuse_capture
from apptell.cli.screen import note, on_terminal, report
from apptell.cli.shared_options import (
    Captures,
    CatalogueFiles,
    Form,
    Jobs,
    Json,
    MaxFlows,
    OutputFile,
    Transport,
    flow_options,
)
from apptell.cli.verb import Verb, group

if TYPE_CHECKING:
    from rich.console import Console

    from apptell.catalogue import App, Catalogue, Range
    from apptell.catalogue.coverage import Coverage

EXAMPLES = """
  apptell catalogue show whatsapp
  apptell catalogue check phone.pcap
"""


def show(
    what: Annotated[
        str,
        typer.Argument(
            metavar="APP|DOMAIN",
            help="An app's id, name or package, or a server's name or address.",
        ),
    ],
    catalogue: CatalogueFiles = None,
    as_json: Json = False,
) -> None:
    """Shows an app with its domains and address ranges, or the owner of a server's name or address.

    Examples:
        apptell catalogue show whatsapp
        apptell catalogue show media.cdn.whatsapp.net
    """
    from apptell.catalogue import Catalogue
    from apptell.errors import UsageError
    from apptell.names.domains import is_address

    known = Catalogue.load(catalogue or ())
    app = known.find_app(what)
    if app is None and is_address(what):
        found: dict[str, Any] = {"address": what, "app": known.owner_of(what.strip("[]"))}
        found["ranges"] = [_range(row) for row in known.ranges_at(what.strip("[]"))]
    elif app is None:
        match = known.lookup(what)
        if match.service is None:
            near = known.suggestions(what)
            hint = f"; similar: {', '.join(near)}" if near else ""
            raise UsageError(
                f"{what!r} is neither an app of the catalogue nor a server's name{hint}"
            )
        found = {"name": what, "app": match.app, "app_name": match.app_name}
        found |= {"category": match.category, "service": match.service, "kind": match.kind}
        found |= _row(match.row) if match.row else {"domain": None}
    else:
        found = _app(known, app)
    report(found, lambda console: _print(found, console), as_json=as_json)


def check(
    captures: Captures,
    catalogue: CatalogueFiles = None,
    top: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="List only the N domains with the most flows. [default: all]"
        ),
    ] = None,
    form: Form = None,
    output: OutputFile = None,
    transport: Transport = "tcp,udp",
    jobs: Jobs = 1,
    max_flows: MaxFlows = None,
) -> None:
    """Lists domains in captures that the catalogue lacks, those with the most flows first.

    Each domain has its number of flows, bytes, clients and names, and its most frequent name.

    Examples:
        apptell catalogue check phone.pcap
        apptell catalogue check captures/ --top 50 -o missing.csv
    """
    from apptell.catalogue import Catalogue
    from apptell.catalogue.coverage import COVERAGE_SCHEMA, Coverage
    from apptell.names import read_flows
    from apptell.records.text_table import Column, human_bytes
    from apptell.records.writers import choose_form, open_writer

    columns = [
        Column("domain", 36, lambda row: str(row["domain"])),
        Column("flows", 8, lambda row: f"{row['flows']:,}", right=True),
        Column("bytes", 9, lambda row: human_bytes(row["bytes"]), right=True),
        Column("clients", 7, lambda row: f"{row['clients']:,}", right=True),
        Column("names", 6, lambda row: f"{row['names']:,}", right=True),
        Column("most frequent name", 0, lambda row: str(row["example"])),
    ]
    chosen = choose_form(form, output, terminal=on_terminal())
    refuse_capture("--output", output, captures)
    tally = Coverage(Catalogue.load(catalogue or ()))
    options = flow_options("clean", ("core", "names"), transport, max_flows=max_flows)
    with (
        read_flows(captures, options, jobs=jobs) as reader,
        open_writer(output, chosen, COVERAGE_SCHEMA, columns) as writer,
    ):
        try:
            for batch in reader:
                tally.add(batch)
        finally:  # a damaged capture still counts up to its damage
            writer.write(tally.missing().slice(0, top))
            note(_summary(tally))


def import_(
    form: Annotated[
        str,
        typer.Argument(metavar="FORM", help="domain-list-community, hosts, adguard or plain."),
    ],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The list: a file or a folder.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The file for --catalogue.")
    ],
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Kind of the domains: app, platform, cdn, sdk or ads. "
            "[default: app for adguard and plain, ads for hosts, platform for domain-list-community]",
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Import only these lists or services, separated by commas. [default: all]",
        ),
    ] = None,
    catalogue: CatalogueFiles = None,
    known: Annotated[
        bool, typer.Option("--known", help="Also import domains that the catalogue already has.")
    ] = False,
) -> None:
    """Converts a public list of domains into a file for --catalogue.

    Examples:
        apptell catalogue import adguard services.json -o services.csv
        apptell catalogue import domain-list-community data/ --only monzo,revolut --kind app -o banks.csv
    """
    from apptell.catalogue import KINDS, Catalogue
    from apptell.catalogue.public_lists import IMPORT_SCHEMA, import_list
    from apptell.errors import UsageError
    from apptell.records.forms import RawCsv
    from apptell.records.writers import open_writer

    if kind is not None and kind not in KINDS:
        raise UsageError(f"no kind {kind!r}; available: {', '.join(KINDS)}")
    names = [name.strip() for name in (only or "").split(",") if name.strip()]
    own = None if known else Catalogue.load(catalogue or ())
    found = import_list(form, path, kind=kind, only=names, known=own)
    with open_writer(output, RawCsv(), IMPORT_SCHEMA) as writer:
        writer.write(found.to_arrow())
    note(f"{output}: {len(found.rows):,} rows")
    for reason, n in sorted(found.skipped.items()):
        note(f"  {n:,} {reason}")


def _summary(tally: "Coverage") -> str:
    """How many flows the catalogue knows the name of, in one line."""
    flows = tally.flows
    shared = sum(flows[kind] for kind in ("platform", "cdn", "sdk", "ads"))
    return (
        f"{flows.total():,} flows: {flows['app']:,} with a name of {len(tally.apps):,} apps, "
        f"{shared:,} of shared services, {flows['missing']:,} with a name that the catalogue lacks, "
        f"{flows['unnamed']:,} without a name"
    )


def _app(catalogue: "Catalogue", app: "App") -> dict[str, Any]:
    """An app's entry in the catalogue, as JSON values."""
    return {
        "app": app.id,
        "app_name": app.name,
        "category": app.category,
        "provider": app.provider,
        "country": app.country,
        "android": list(app.android),
        "ios": list(app.ios),
        "domains": [_row(row) for row in catalogue.domains_of(app.id)],
        "ranges": [_range(row) for row in catalogue.ranges_of(app.id)],
    }


def _range(row: "Range") -> dict[str, Any]:
    return {
        "range": str(row.network),
        "transport": row.transport,
        "ports": row.ports_text,
        "app": row.app,
        "published": row.published,
        "checked": row.checked,
    }


def _row(row: Any) -> dict[str, Any]:
    return {
        "domain": row.domain,
        "match": row.match,
        "published": row.published,
        "checked": row.checked,
    }


def _print(found: dict[str, Any], console: "Console") -> None:
    """Prints a report as lines of a name and a value; the items of a list are on lines of their own."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in found.items():
        if isinstance(value, list):
            for number, each in enumerate(value):
                text = (
                    each if isinstance(each, str) else "  ".join(str(v) for v in each.values() if v)
                )
                table.add_row(name if number == 0 else "", text.replace("[", r"\["))
        elif value is not None:
            table.add_row(name, str(value).replace("[", r"\["))
    console.print(table)


app = typer.Typer(
    cls=group(EXAMPLES),
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look up and extend the catalogue of apps and their servers.",
)
for _name, _verb in (("show", show), ("check", check), ("import", import_)):
    app.command(_name, cls=Verb)(_verb)
