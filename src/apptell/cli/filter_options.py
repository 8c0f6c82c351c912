"""Options that select records, which mean the same for every verb that writes records of flows."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apptell.records.record_filter import RecordFilter
    from apptell.records.stage import RecordStage
    from apptell.verdicts.deciders import Deciders

_NETWORK = "Only flows whose {} is in this network; repeatable."
OfApp = Annotated[
    list[str] | None,
    typer.Option(
        "--app", metavar="NAMES", help="Only flows of these apps, separated by commas; repeatable."
    ),
]
OfCategory = Annotated[
    list[str] | None,
    typer.Option(
        "--category",
        metavar="NAMES",
        help="Only flows of apps of these categories, or of these kinds of services; repeatable.",
    ),
]
OfClient = Annotated[
    list[str] | None, typer.Option("--client", metavar="CIDR", help=_NETWORK.format("client"))
]
OfServer = Annotated[
    list[str] | None, typer.Option("--server", metavar="CIDR", help=_NETWORK.format("server"))
]
EvidenceIs = Annotated[
    list[str] | None,
    typer.Option(
        "--evidence-is",
        metavar="KINDS",
        help="Only verdicts that are based on these kinds of evidence, separated by commas.",
    ),
]
OutcomeIs = Annotated[
    list[str] | None,
    typer.Option(
        "--outcome-is",
        metavar="OUTCOMES",
        help="Only flows with these outcomes, separated by commas: named, unknown, below-threshold, "
        "unlisted-name, no-evidence, ...",
    ),
]
MinConfidence = Annotated[
    float | None,
    typer.Option(
        "--min-confidence",
        metavar="P",
        help="Leave out the model's answers below this confidence; verdicts by names stay.",
    ),
]
OnlyNamed = Annotated[
    bool, typer.Option("--only-named", help="Only flows of which an app is named.")
]
NotNamed = Annotated[bool, typer.Option("--not-named", help="Only flows of which no app is named.")]

AllFlows = Annotated[
    bool,
    typer.Option(
        "--all-flows",
        help="Also flows with too few payload packets for a verdict, and MAC addresses, VLANs, tunnel, TCP "
        "flags and conn_state of each flow.",
    ),
]
Local = Annotated[
    list[str] | None,
    typer.Option(
        "--local",
        metavar="CIDR",
        help="Network of your clients: where no handshake or request shows who the client is, the side in it "
        "is; repeatable.",
    ),
]
ClientFile = Annotated[
    Path | None,
    typer.Option(
        "--clients",
        metavar="FILE",
        help="File with rows such as 192.168.1.20,anna's phone: networks, addresses or MAC addresses and "
        "the names of clients.",
    ),
]
ClientNamesFrom = Annotated[
    str,
    typer.Option(
        "--client-names",
        metavar="on|off",
        help="on: clients have the names that they tell in DHCP and mDNS; off: only those of --clients.",
    ),
]
Sensor = Annotated[
    str | None,
    typer.Option("--sensor", metavar="NAME", help="Name of this sensor, written into each record."),
]


def selected_records(options: "Mapping[str, Any]", deciders: "Deciders") -> "RecordFilter":
    """Which records a verb's filters select.

    Args:
        options: a verb's options by their parameters' names, the filters of this module among them.
        deciders: what decides; its apps and categories can be asked for.

    Raises:
        UsageError: an unknown app, category, kind of evidence or outcome, no network, or conditions that no
            record meets.
    """
    from apptell.records.record_filter import parse_filter

    return parse_filter(
        apps=options["app"] or (),
        categories=options["category"] or (),
        clients=options["client"] or (),
        servers=options["server"] or (),
        evidence=options["evidence_is"] or (),
        outcomes=options["outcome_is"] or (),
        min_confidence=options["min_confidence"],
        only_named=options["only_named"],
        not_named=options["not_named"],
        known_apps=deciders.apps if options["app"] else None,
        known_categories=deciders.categories if options["category"] else None,
    )


def record_stage(options: "Mapping[str, Any]", deciders: "Deciders") -> "RecordStage":
    """What happens to records before they are written.

    Args:
        options: a verb's options by their parameters' names, those of this module among them.
        deciders: as for ``selected_records``.

    Raises:
        UsageError: a filter cannot be used, a file of clients cannot be read, or a word is neither on nor off.
    """
    from apptell.errors import UsageError
    from apptell.records.known_clients import ClientNames, read_clients
    from apptell.records.stage import RecordStage

    wanted = selected_records(options, deciders)
    if options["client_names"] not in ("on", "off"):
        raise UsageError(f"--client-names: {options['client_names']!r} is neither on nor off")
    listed = [] if options["clients"] is None else read_clients(options["clients"])
    reads = options["client_names"] == "on"
    names = ClientNames(listed, reads_packets=reads) if listed or reads else None
    return RecordStage(wanted, names, options["sensor"])
