"""The options that several verbs share, so that each means one thing everywhere (docs/reference/cli.md)."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apptell.flows import FlowOptions
    from apptell.models import Model

Captures = Annotated[
    list[str],
    typer.Argument(
        metavar="CAPTURE", help="Captures, folders of captures, or - for standard input."
    ),
]
DatasetFolder = Annotated[Path, typer.Argument(metavar="DATASET", help="A dataset's folder.")]
ModelFolder = Annotated[
    Path | None,
    typer.Option(
        "--model", "-m", metavar="FOLDER", help="A trained model, asked where no name names an app."
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        help="Decline a model's verdicts whose confidence is below P; default: the model's own, "
        "else 0.85.",
    ),
]
Form = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORM",
        help="table, jsonl, csv, parquet, eve, zeek, zeek-json or ecs. Default: the ending of the "
        "output file, else a table on a terminal, else JSON lines.",
    ),
]
RawCsv = Annotated[
    bool,
    typer.Option(
        "--raw-csv", help="In CSV, leave text as it is, even if a spreadsheet would run it."
    ),
]
OutputFile = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the records there.")
]
Mode = Annotated[
    str,
    typer.Option(
        "--flows",
        metavar="MODE",
        help="clean: retransmissions and probes are not payload; paper: 5-tuple and 90 s alone.",
    ),
]
Follow = Annotated[
    bool, typer.Option("--follow", help="Go on reading while the capture is being written.")
]
Transport = Annotated[
    str, typer.Option(metavar="NAMES", help="Transport protocols, separated by commas: tcp, udp.")
]
Jobs = Annotated[
    int, typer.Option(metavar="N", help="Processes that share the work, on files alone.", min=1)
]
MaxFlows = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=64,
        help="Flows in memory at once; beyond that the oldest end early, counted.",
    ),
]
ContextText = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="SECONDS",
        help="Re-weight a client's recent flows by what it runs, as in 30s.",
    ),
]
CatalogueFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--catalogue",
        metavar="FILE",
        help="Rows to add to the catalogue of apps or to put in place of its own, as in "
        "example.com,My App; repeatable.",
    ),
]
EvidenceText = Annotated[
    str | None,
    typer.Option(
        "--evidence",
        metavar="KINDS",
        help="What verdicts rest on, separated by commas: name, dns, address, range, model, context, "
        "or all; default: all but the last two, with -m all but context.",
    ),
]
EvidenceTransport = Annotated[
    str | None,
    typer.Option(
        "--transport",
        metavar="NAMES",
        help="Transport protocols, separated by commas: tcp, udp; default: both, of a model alone "
        "those that it learned.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Seed = Annotated[int, typer.Option(metavar="N", help="The one seed of every random choice.", min=0)]
SplitOption = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="SPLIT|FILE",
        help="Which flows train and which test: paper, session, source, device, network, day, "
        "version, time, time:DATE, capture-point, domain, group:COLUMN, none, or a file of splits.",
    ),
]
TestDataset = Annotated[
    Path | None,
    typer.Option(
        "--test", metavar="DATASET", help="Learn from all flows, and test on this dataset."
    ),
]
Apps = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES", help="Only flows of these apps, separated by commas. [default: all]"
    ),
]
Level = Annotated[
    str | None,
    typer.Option(
        metavar="LEVEL",
        help="app, or activity: classes are app/activity where a label has one.",
    ),
]
System = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="What the phone's own traffic is: other (background), system (a class), drop.",
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="FOLDER",
        help="Where trainings are kept by their hash; below the report unless said.",
    ),
]
Packets = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        max=32,
        help="Payload packets that models on lengths look at; their own number unless said.",
    ),
]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu or cuda.")]


def app_names(text: str | None) -> list[str] | None:
    """The names of ``--apps``; None for all."""
    return None if text is None else [name.strip() for name in text.split(",")]


def transport_numbers(text: str) -> tuple[int, ...]:
    """The IP protocol numbers of transport protocols, named and separated by commas.

    Raises:
        UsageError: no such transport protocol.
    """
    from apptell.errors import UsageError

    numbers = {"tcp": 6, "udp": 17}
    names = [name.strip().lower() for name in text.split(",")]
    for name in names:
        if name not in numbers:
            raise UsageError(f"no transport protocol {name!r}; available: {', '.join(numbers)}")
    return tuple(numbers[name] for name in names)


def flow_options(
    mode: str,
    groups: tuple[str, ...] = ("core", "segments", "names"),
    transport: "str | Sequence[int]" = "tcp",
    model: "Model | None" = None,
    max_flows: int | None = None,
) -> "FlowOptions":
    """How packets become flows, by the options that verbs share and what a model needs.

    Raises:
        UsageError: no such mode, column group or transport protocol.
    """
    from apptell.flows import FlowOptions
    from apptell.flows.schema import DECISION_SEGMENTS

    options = FlowOptions(
        mode=cast("Literal['clean', 'paper']", mode),
        groups=groups,
        transports=transport_numbers(transport) if isinstance(transport, str) else tuple(transport),
        decision_packets=DECISION_SEGMENTS if model is None else model.decision_packets,
    )
    return options if max_flows is None else replace(options, max_flows=max_flows)
