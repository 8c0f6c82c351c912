"""Options that select records, which mean the same for every verb that writes records of flows."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Collection

    from apptell.records.record_filter import RecordFilter

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


def record_filter(
    app: list[str] | None = None,
    category: list[str] | None = None,
    client: list[str] | None = None,
    server: list[str] | None = None,
    evidence_is: list[str] | None = None,
    min_confidence: float | None = None,
    *,
    only_named: bool = False,
    not_named: bool = False,
    known_apps: "Collection[str] | None" = None,
) -> "RecordFilter":
    """The filter that the options describe.

    Raises:
        UsageError: an unknown app or kind of evidence, no network, or conditions that no record meets.
    """
    from apptell.records.record_filter import parse_filter

    return parse_filter(
        apps=app or (),
        categories=category or (),
        clients=client or (),
        servers=server or (),
        evidence=evidence_is or (),
        min_confidence=min_confidence,
        only_named=only_named,
        not_named=not_named,
        known_apps=known_apps,
    )
