"""``apptell dataset``: captures and their ground truth in, a labelled dataset out, and what to do with it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apptell.cli.options import DatasetFolder, Form, Json, Mode, Seed
from apptell.cli.screen import note, on_terminal, progress, report
from apptell.cli.verb import Verb, group

if TYPE_CHECKING:
    from rich.console import Console

    from apptell.dataset import Dataset
    from apptell.flows.schema import FlowBatch

EXAMPLES = """
  apptell dataset build captures/ -o dataset/
  apptell dataset info dataset/
"""
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="DATASET", help="The dataset's folder.")
]
Shared = Annotated[
    str,
    typer.Option(
        metavar="KIND", help="Flows to servers that many apps share: keep, other or drop."
    ),
]


def build(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="SOURCE...", help="Folders or captures, with their logs."),
    ],
    output: Output,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="KIND", help="Where labels come from; recognised and said unless given."
        ),
    ] = None,
    mode: Mode = "clean",
    columns: Annotated[
        str,
        typer.Option(
            "--map", metavar="COLUMNS", help="Columns of a label table: time=ts,app=package,..."
        ),
    ] = "",
    tolerance: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="How far a log line may be from its flow.", min=0.0),
    ] = 3.0,
    zone: Annotated[
        str | None,
        typer.Option(metavar="ZONE", help="Time zone of a log that names none, as Europe/Berlin."),
    ] = None,
    rename: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Lines of OLD,NEW: packages or titles and their labels."),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX", help="How captures are named: (?P<app>...), (?P<version>...), ..."
        ),
    ] = None,
    groups: Annotated[
        list[str] | None,
        typer.Option("--group", metavar="NAME=VALUE", help="A group of everything in this build."),
    ] = None,
    system: Annotated[
        str,
        typer.Option(
            metavar="KIND", help="What system traffic is labelled: system, other or drop."
        ),
    ] = "system",
    shared: Shared = "keep",
    anonymize: Annotated[
        Path | None,
        typer.Option(metavar="KEYFILE", help="Replace addresses, prefixes kept; 32 bytes of key."),
    ] = None,
    mask_names: Annotated[
        bool, typer.Option("--mask-names", help="Overwrite server names and hosts in payload.")
    ] = False,
    udp: Annotated[bool, typer.Option("--udp", help="Flows of UDP too.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Begin anew though a dataset is there.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Makes a dataset from captures and whatever names their apps, or adds to the one that is there.

    Examples:
        apptell dataset build captures/ -o dataset/
        apptell dataset build captures/ --labels folders -o dataset/
    """
    from collections import Counter

    from apptell.dataset import build as build_dataset
    from apptell.flows import FlowOptions
    from apptell.flows.schema import GROUPS
    from apptell.labels import LabelOptions, flow_reader
    from apptell.labels import sources as label_sources
    from apptell.labels.table import parse_columns

    options = LabelOptions(
        kind=labels,
        tolerance_s=tolerance,
        columns=parse_columns(columns) if columns else {},
        zone=_zone(zone),
        rename=_renames(rename),
        pattern=_pattern(pattern),
        groups=_pairs(groups or []),
    )
    flow_options = FlowOptions(
        mode=mode,  # type: ignore[arg-type]
        groups=tuple(GROUPS),
        protocols=(6, 17) if udp else (6,),
    )
    change, deeds = _changes(system, anonymize, mask_names=mask_names)
    kinds: Counter[str] = Counter()
    with progress("reading") as show:

        def tell(source: Any) -> None:
            if source.kind not in kinds:
                note(f"{source.name}: labels by {source.kind}")
            kinds[source.kind] += 1
            show(-1, source.name)

        done = build_dataset(
            label_sources(sources, flow_reader(flow_options), options),
            output,
            replace=replace,
            change=change,
            deeds=deeds,
            progress=tell,
        )
    data = done.dataset
    for damage in done.damaged:
        note(f"apptell: {damage}")
    if shared != "keep" and done.n_added:
        from apptell.dataset.services import move_shared

        data = move_shared(data, data.path, shared)
    found = {
        "dataset": str(output),
        "flows": len(data),
        "added": done.n_added,
        "sources": len(done.added),
        "skipped": len(done.skipped),
        "damaged": len(done.damaged),
        "labels": dict(kinds),
        "dropped": data.info["dropped"],
        "apps": data.info["apps"],
    }
    report(found, lambda console: _print_build(console, found), as_json=as_json)
    if done.damaged:
        raise typer.Exit(1)


def info(dataset: DatasetFolder, as_json: Json = False) -> None:
    """Prints a dataset's flows per app and group, where labels came from, what was dropped and why.

    Examples:
        apptell dataset info dataset/
        apptell dataset info dataset/ --json
    """
    from apptell.dataset import Dataset

    data = Dataset.open(dataset)
    report(data.info, lambda console: _print_info(console, data), as_json=as_json)


def validate(dataset: DatasetFolder, as_json: Json = False) -> None:
    """Reads every shard and checks schema, hashes and counts; exit code 1 when something is broken.

    Examples:
        apptell dataset validate dataset/
        apptell dataset validate dataset/ --json
    """
    from apptell.dataset import Dataset
    from apptell.dataset.change import validate as check

    data = Dataset.open(dataset)
    wrong = check(data)
    found = {"dataset": str(dataset), "flows": len(data), "whole": not wrong, "wrong": wrong}
    report(
        found,
        lambda console: console.print("\n".join(wrong) or f"{dataset}: whole, {len(data):,} flows"),
        as_json=as_json,
    )
    if wrong:
        raise typer.Exit(1)


def merge(
    datasets: Annotated[
        list[Path], typer.Argument(metavar="DATASET...", help="Two or more datasets.")
    ],
    output: Output,
) -> None:
    """Makes one dataset of several; flows that two of them have are taken once.

    Examples:
        apptell dataset merge home/ office/ -o both/
        apptell dataset merge a/ b/ c/ -o all/
    """
    from apptell.dataset import Dataset
    from apptell.dataset.change import merge as merge_datasets

    data = merge_datasets([Dataset.open(path) for path in datasets], output)
    note(f"{output}: {len(data):,} flows of {len(data.apps)} apps")


def sample(
    dataset: DatasetFolder,
    output: Output,
    per_app: Annotated[
        int, typer.Option("--per-app", "-n", metavar="N", help="Flows of each app, at most.", min=1)
    ] = 1000,
    seed: Seed = 0,
) -> None:
    """Makes a smaller dataset: some flows of each app, drawn at random.

    Examples:
        apptell dataset sample dataset/ -n 1000 --seed 1 -o small/
        apptell dataset sample dataset/ -n 10 -o tiny/
    """
    from apptell.dataset import Dataset
    from apptell.dataset.change import sample as sample_dataset

    data = sample_dataset(Dataset.open(dataset), output, per_app, seed)
    note(f"{output}: {len(data):,} flows of {len(data.apps)} apps")


def export(
    dataset: DatasetFolder,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where it goes.")
    ],
    form: Annotated[
        str,
        typer.Option("--to", metavar="FORM", help="csv, arrays (NumPy files) or images (PNG)."),
    ] = "csv",
) -> None:
    """Writes a dataset as CSV, as arrays that PyTorch reads, or as the paper's flow images.

    Examples:
        apptell dataset export dataset/ --to images -o images/
        apptell dataset export dataset/ --to arrays -o arrays/
    """
    from apptell.cli.dataset_export import export_dataset
    from apptell.dataset import Dataset

    n = export_dataset(Dataset.open(dataset), output, form)
    note(f"{output}: {n:,} flows as {form}")


def services(
    dataset: DatasetFolder,
    shared: Shared = "keep",
    least: Annotated[
        int,
        typer.Option("--least", metavar="N", help="Apps that make a server a shared one.", min=2),
    ] = 3,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DATASET", help="The changed dataset; itself if absent."
        ),
    ] = None,
    form: Form = None,
) -> None:
    """Lists the servers each app talks to, the shared ones, and names that contradict a label.

    Moves flows to shared servers where asked.

    Examples:
        apptell dataset services dataset/
        apptell dataset services dataset/ --shared other -o clean/
    """
    from apptell.dataset import Dataset
    from apptell.dataset.services import move_shared, service_table
    from apptell.reports.table import Column, TableWriter
    from apptell.reports.writers import choose_form, open_writer

    columns = [
        Column("app", 22, lambda row: str(row["app"])),
        Column("flows", 7, lambda row: f"{row['flows']:,}", right=True),
        Column("apps", 5, lambda row: str(row["apps"]), right=True),
        Column("shared", 6, lambda row: "shared" if row["is_shared"] else ""),
        Column("contradicts", 18, lambda row: row["contradicts"] or ""),
        Column("server", 0, lambda row: str(row["server"])),
    ]
    data = Dataset.open(dataset)
    table = service_table(data, least)
    chosen = choose_form(form, None, terminal=on_terminal())
    with open_writer(
        None, chosen, table.schema, lambda stream: TableWriter(stream, columns)
    ) as writer:
        for batch in table.to_batches():
            writer.write(batch)
    if shared != "keep":
        moved = move_shared(data, output or dataset, shared, least)
        note(f"{output or dataset}: {len(moved):,} of {len(data):,} flows ({shared})")


def record(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A live source.")],
    output: Output,
    groups: Annotated[
        list[str] | None,
        typer.Option("--group", metavar="NAME=VALUE", help="A group of everything recorded."),
    ] = None,
    udp: Annotated[bool, typer.Option("--udp", help="Flows of UDP too.")] = False,
    seconds: Annotated[
        float | None, typer.Option(metavar="S", help="Stop after so long.", min=0.001)
    ] = None,
    as_json: Json = False,
) -> None:
    """Records a phone that names the owner of each packet, until Ctrl-C, and adds it to a dataset.

    Examples:
        apptell dataset record pcapdroid+udp://:1234 -o dataset/
        apptell dataset record pcapdroid+udp://:1234 -o dataset/ --group network=home
    """
    from apptell.cli.dataset_record import record as record_live

    done = record_live(source, output, _pairs(groups or []), udp=udp, seconds=seconds)
    for damage in done.damaged:
        note(f"apptell: {damage}")
    found = {
        "dataset": str(output),
        "flows": len(done.dataset),
        "added": done.n_added,
        "dropped": done.dataset.info["dropped"],
    }
    report(
        found,
        lambda console: console.print(
            f"{output}: {found['flows']:,} flows, {found['added']:,} of them new"
        ),
        as_json=as_json,
    )
    if done.damaged:
        raise typer.Exit(1)


def _changes(
    system: str, key_file: Path | None, *, mask_names: bool
) -> tuple[Callable[["FlowBatch"], "FlowBatch"] | None, list[str]]:
    """What is done to every batch before it is written, and the lines that say so."""
    from apptell.dataset.anonymize import Anonymizer, mask_server_names
    from apptell.dataset.services import system_as
    from apptell.errors import UsageError

    if system not in ("system", "other", "drop"):
        raise UsageError(f"--system {system}: there are system, other and drop")
    steps: list[Callable[[FlowBatch], FlowBatch]] = []
    deeds = []
    if system != "system":
        steps.append(lambda flows: system_as(flows, system))
        deeds.append(f"system traffic: {system}")
    if mask_names:
        steps.append(mask_server_names)
        deeds.append("server names, HTTP hosts and DNS names removed, and zeroed in payload")
    if key_file is not None:
        steps.append(Anonymizer.from_file(key_file))
        deeds.append("addresses replaced, prefixes kept (Crypto-PAn); link-layer addresses dropped")
    if not steps:
        return None, []

    def change(flows: "FlowBatch") -> "FlowBatch":
        for step in steps:
            flows = step(flows)
        return flows

    return change, deeds


def _zone(name: str | None) -> Any:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    from apptell.errors import UsageError

    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise UsageError(f"--zone {name}: no such time zone") from error


def _pattern(text: str | None) -> re.Pattern[str] | None:
    from apptell.errors import UsageError

    try:
        compiled = None if text is None else re.compile(text)
    except re.error as error:
        raise UsageError(f"--pattern: {error}") from error
    if compiled is not None and "app" not in compiled.groupindex:
        raise UsageError("--pattern: has no (?P<app>...)")
    return compiled


def _renames(path: Path | None) -> dict[str, str]:
    from apptell.errors import LabelError
    from apptell.labels.table import label_text

    if path is None:
        return {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{path}: cannot be read: {error}") from error
    table = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        old, comma, new = line.rpartition(",")
        label = label_text(new)
        if not comma or label is None:
            raise LabelError(f"{path}: line {number} is not OLD,NEW")
        table[old.strip().lower()] = label
    return table


def _pairs(texts: list[str]) -> dict[str, str]:
    from apptell.errors import UsageError

    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise UsageError(f"--group {text}: is not NAME=VALUE")
        pairs[name] = value
    return pairs


def _print_build(console: "Console", found: dict[str, Any]) -> None:
    console.print(
        f"{found['dataset']}: {found['flows']:,} flows, {found['added']:,} of them new "
        f"from {found['sources']} sources ({found['skipped']} were there already)"
    )
    for reason, n in found["dropped"].items():
        console.print(f"  dropped {n:,}: {reason}")


def _print_info(console: "Console", data: "Dataset") -> None:
    from rich.table import Table

    console.print(f"{data.path}: {len(data):,} flows of {len(data.apps)} apps, {data.hash[:12]}")
    for title, counts in (("label", data.info["apps"]), ("labels from", data.info["label_from"])):
        table = Table(title, "flows", box=None)
        for name, n in counts.items():
            table.add_row(name, f"{n:,}")
        console.print(table)
    for name, counts in data.info["groups"].items():
        console.print(f"group {name}: {len(counts)} values")
    for reason, n in data.info["dropped"].items():
        console.print(f"dropped {n:,}: {reason}")
    for deed in data.info["done"]:
        console.print(f"done: {deed}")


app = typer.Typer(
    cls=group(EXAMPLES),
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Labelled flows on disk: build a dataset, look into it.",
)
for _verb in (build, info, validate, merge, sample, export, services, record):
    app.command(_verb.__name__, cls=Verb)(_verb)
