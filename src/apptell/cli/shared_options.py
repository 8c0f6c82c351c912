"""Options that several verbs share, so that each has one meaning (docs/reference/cli.md)."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apptell.cluster.ray_trainer import RayTrainer
    from apptell.flows import FlowOptions
    from apptell.models import Model
    from apptell.records.text_table import Column

Captures = Annotated[
    list[str],
    typer.Argument(
        metavar="CAPTURE", help="Captures, folders of captures, or - for standard input."
    ),
]
CapturesOrDataset = Annotated[
    list[str],
    typer.Argument(
        metavar="CAPTURE",
        help="Captures, folders of captures, or - for standard input; or the folder of one dataset.",
    ),
]
DatasetFolder = Annotated[Path, typer.Argument(metavar="DATASET", help="Folder of the dataset.")]
ModelFolder = Annotated[
    Path | None,
    typer.Option(
        "--model",
        "-m",
        metavar="FOLDER",
        help="Trained model, asked about flows that no name identifies. [default: none]",
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        help="Decline the model's verdicts whose confidence is below P. [default: the model's own "
        "threshold, or 0.85]",
    ),
]
UnknownRate = Annotated[
    str | None,
    typer.Option(
        "--unknown",
        metavar="RATE",
        help="Mark flows that look like none of the model's apps as unknown; the stated share of flows of its "
        "apps, as in 5%. The model must be trained with --unknown. [default: no flow]",
    ),
]
Form = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORM",
        help="table, jsonl, csv, parquet, eve, zeek, zeek-json or ecs. [default: the suffix of the "
        "output file, otherwise table on a terminal and jsonl elsewhere]",
    ),
]
RawCsv = Annotated[
    bool,
    typer.Option(
        "--raw-csv", help="Write text to CSV unchanged, even if a spreadsheet would run it."
    ),
]
OutputFile = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write the records to this file. [default: stdout]"
    ),
]
TableZone = Annotated[
    str | None,
    typer.Option(
        "--zone",
        metavar="ZONE",
        help="Time zone of the times in a table, such as Europe/Berlin, or local. [default: UTC]",
    ),
]
Mode = Annotated[
    str,
    typer.Option(
        "--flows",
        metavar="MODE",
        help="clean: retransmissions and probes do not count as payload packets; "
        "paper: only 5-tuple and timeout.",
    ),
]
Follow = Annotated[
    bool, typer.Option("--follow", help="Keep reading while the capture is being written.")
]
Transport = Annotated[
    str, typer.Option(metavar="NAMES", help="Transport protocols, separated by commas: tcp, udp.")
]
Jobs = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        max=512,
        help="Processors that share the work; more than 3 are not used. Only for files and folders.",
    ),
]
MaxFlows = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=64,
        max=1 << 26,  # flows.options.MAX_TABLE_FLOWS
        help="Maximum number of flows in memory; beyond it, the oldest end early. [default: 262144]",
    ),
]
IdleTimeout = Annotated[
    float,
    typer.Option(
        "--idle-timeout", metavar="SECONDS", help="Time without packets after which a flow ends."
    ),
]
ActiveTimeout = Annotated[
    float | None,
    typer.Option(
        "--active-timeout",
        metavar="SECONDS",
        help="Cut flows that last longer, so that long connections give periodic records. [default: never]",
    ),
]
ContextText = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="SECONDS",
        help="Re-weight verdicts by the client's other flows in this window, as in 30s.",
    ),
]
CatalogueFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--catalogue",
        metavar="FILE",
        help="File with rows such as example.com,My App that are added to the catalogue of apps or "
        "replace its rows; repeatable.",
    ),
]
EvidenceText = Annotated[
    str | None,
    typer.Option(
        "--evidence",
        metavar="KINDS",
        help="Kinds of evidence, separated by commas: name, dns, address, range, model, context, or all. "
        "[default: name,dns,address,range, with -m also model]",
    ),
]
MeasuredEvidence = Annotated[
    str | None,
    typer.Option(
        "--evidence",
        metavar="KINDS",
        help="Also measure kinds of evidence, separated by commas and asked in this order: name, dns, range, "
        "model. [default: the model alone, without the catalogue]",
    ),
]
EvidenceTransport = Annotated[
    str | None,
    typer.Option(
        "--transport",
        metavar="NAMES",
        help="Transport protocols, separated by commas: tcp, udp. [default: tcp,udp, or with --evidence "
        "model the protocols of the model]",
    ),
]
VERDICT_GROUPS = ("core", "segments", "names")
"""Column groups of flows that verdicts need."""
ProgressForm = Annotated[
    str,
    typer.Option(
        "--progress",
        metavar="FORM",
        help="Progress and notes on standard error: auto (a bar, or a line a minute) or json (a JSON object a "
        "line).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Seed of every random choice.", min=0)]
SPLIT_WORDS = (
    "Flows for training and for testing: paper, session, source, device, client, network, day, version, time, "
    "time:DATE, capture-point, domain, group:COLUMN, none, or a file with a split."
)
SplitOption = Annotated[
    str | None,
    typer.Option("--split", metavar="SPLIT|FILE", help=SPLIT_WORDS),
]
TestDataset = Annotated[
    Path | None,
    typer.Option("--test", metavar="DATASET", help="Train on all flows, and test on this dataset."),
]
Apps = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES", help="Use only flows of these apps, separated by commas. [default: all]"
    ),
]
Level = Annotated[
    str | None,
    typer.Option(
        metavar="LEVEL",
        help="app, or activity: classes are app/activity where a label has an activity. [default: app]",
    ),
]
System = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="How the phone's own traffic is treated: other (background), system (a class), drop. "
        "[default: other]",
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="FOLDER",
        help="Folder where finished trainings are kept. [default: cache/ in the report's folder]",
    ),
]
TrainingCluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="Train on Ray: local (the cores of this machine), auto (the machine's cluster) or HOST:PORT. "
        "[default: one training after the other]",
    ),
]
Packets = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        max=32,
        help="Number of payload packets that models on lengths look at. [default: the model's own]",
    ),
]
Device = Annotated[
    str, typer.Option(metavar="NAME", help="Where training runs: auto, cpu or cuda.")
]


def app_names(text: str | None) -> list[str] | None:
    """The names of ``--apps``; None for all."""
    return None if text is None else [name.strip() for name in text.split(",")]


def unknown_rate(text: str | None) -> float | None:
    """The share of ``--unknown``; None without it.

    Raises:
        UsageError: it is not a share.
    """
    from apptell.models.unknown_detector import parse_rate

    return None if text is None else parse_rate(text)


def columns_in_zone(columns: "tuple[Column, ...]", zone: str | None) -> "tuple[Column, ...]":
    """A table's columns with times in the zone of ``--zone``.

    Raises:
        UsageError: there is no such time zone.
    """
    from datetime import datetime
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    from apptell.errors import UsageError
    from apptell.records.text_table import in_zone

    if zone is None:
        return columns
    if zone == "local":
        local = datetime.now().astimezone().tzinfo
        return columns if local is None else in_zone(columns, local, zone)
    try:
        return in_zone(columns, ZoneInfo(zone), zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"--zone: there is no time zone {zone!r}") from None


def flow_options(
    mode: str,
    groups: tuple[str, ...] = VERDICT_GROUPS,
    transport: "str | Sequence[int]" = "tcp",
    model: "Model | None" = None,
    max_flows: int | None = None,
    idle_timeout_s: float = 90.0,
    active_timeout_s: float | None = None,
    local: "Sequence[str] | None" = None,
) -> "FlowOptions":
    """How packets become flows, from the options that verbs share and the needs of a model.

    Raises:
        UsageError: no such mode, column group or transport protocol.
    """
    from apptell.flows import FlowOptions
    from apptell.flows.options import transport_numbers
    from apptell.flows.schema import DECISION_SEGMENTS
    from apptell.records.record_filter import parse_networks

    options = FlowOptions(
        mode=cast("Literal['clean', 'paper']", mode),
        groups=groups,
        transports=transport_numbers(transport),
        decision_packets=DECISION_SEGMENTS if model is None else model.decision_packets,
        idle_timeout_s=idle_timeout_s,
        active_timeout_s=active_timeout_s,
        local=parse_networks("--local", local or ()),
    )
    return options if max_flows is None else replace(options, max_flows=max_flows)


def trainer_on(address: str | None) -> "RayTrainer | None":
    """What trains on the Ray cluster at an address; None for one training after the other."""
    if address is None:
        return None
    from apptell.cli.screen import note
    from apptell.cluster.ray_trainer import RayTrainer

    return RayTrainer(address, note)
