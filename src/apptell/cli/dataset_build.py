"""``apptell dataset build``: builds a labelled dataset from captures and their labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apptell.cli.labelling import (
    Groups,
    Output,
    Rename,
    Replace,
    Shared,
    pairs,
    pattern_of,
    renames,
    zone_of,
)
from apptell.cli.screen import choose_progress, note, progress, report
from apptell.cli.shared_options import (
    ActiveTimeout,
    CatalogueFiles,
    IdleTimeout,
    Json,
    Mode,
    ProgressForm,
    Transport,
    flow_options,
)

if TYPE_CHECKING:
    from rich.console import Console

    from apptell.cluster import RaySourceReader

_Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Read captures on Ray: local (the cores of this machine), auto (the machine's cluster) or "
        "HOST:PORT. [default: processes of this machine]",
    ),
]


def build(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="SOURCE...", help="Captures or folders, with their label files."),
    ],
    output: Output,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Kind of labels; names: by server names, DNS answers and addresses. "
            "[default: detected and printed]",
        ),
    ] = None,
    catalogue: CatalogueFiles = None,
    views: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="late: also keep labelled connections from later packets; or none. "
            "[default: late with --labels names, otherwise none]",
        ),
    ] = None,
    mode: Mode = "clean",
    columns: Annotated[
        str,
        typer.Option(
            "--map",
            metavar="COLUMNS",
            help="Column names of a label table: time=ts,app=package,...",
        ),
    ] = "",
    tolerance: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="Maximum time between a log line and its flow.", min=0.0
        ),
    ] = 3.0,
    zone: Annotated[
        str | None,
        typer.Option(
            metavar="ZONE",
            help="Time zone of a log that has none, as in Europe/Berlin. [default: that of the kind of log]",
        ),
    ] = None,
    rename: Rename = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX", help="Pattern of capture names: (?P<app>...), (?P<version>...), ..."
        ),
    ] = None,
    groups: Groups = None,
    system: Annotated[
        str,
        typer.Option(
            metavar="KIND", help="Label of system traffic: system or other; drop leaves it out."
        ),
    ] = "system",
    shared: Shared = "keep",
    anonymize: Annotated[
        Path | None,
        typer.Option(
            metavar="KEYFILE",
            help="Replace addresses and keep prefixes; a private file (mode 600) with a 32-byte key.",
        ),
    ] = None,
    mask_names: Annotated[
        bool,
        typer.Option(
            "--mask-names", help="Remove names of servers; keep only the framing of payload."
        ),
    ] = False,
    keep_plain: Annotated[
        bool,
        typer.Option(
            "--keep-plain",
            help="Keep payload that is not understood, names or addresses in it too.",
        ),
    ] = False,
    transport: Transport = "tcp",
    idle_timeout: IdleTimeout = 90.0,
    active_timeout: ActiveTimeout = None,
    replace: Replace = False,
    jobs: Annotated[
        int,
        typer.Option(
            metavar="N", help="Number of processes; each one reads whole captures.", min=1
        ),
    ] = 1,
    cluster: _Cluster = None,
    progress_form: ProgressForm = "auto",
    as_json: Json = False,
) -> None:
    """Builds a dataset from captures and their labels, or adds them to an existing dataset.

    Exit code 1 means that a capture was damaged; the flows before the damage are kept.

    Examples:
        apptell dataset build captures/ -o dataset/
        apptell dataset build captures/ --labels folders -o dataset/
    """
    from collections import Counter

    from apptell.dataset import BuildReport, Dataset
    from apptell.flows.schema import GROUPS
    from apptell.labels import LabelOptions
    from apptell.labels.formats.tabular import parse_columns

    choose_progress(progress_form)

    options = LabelOptions(
        kind=labels,
        tolerance_s=tolerance,
        columns=parse_columns(columns) if columns else {},
        zone=zone_of(zone),
        rename=renames(rename),
        pattern=pattern_of(pattern),
        groups=pairs(groups or []),
        catalogue=tuple(catalogue or ()),
    )
    flows = flow_options(
        mode,
        tuple(GROUPS),
        transport,
        idle_timeout_s=idle_timeout,
        active_timeout_s=active_timeout,
    )
    kinds: Counter[str] = Counter()
    beside: dict[Path, None] = {}  # label logs that nobody named, in this order
    with progress("reading") as show:

        def tell(source: Any) -> None:
            picked = [log for log in getattr(source, "logs", ()) if log not in sources]
            beside.update(dict.fromkeys(picked))
            if source.kind not in kinds:
                found_there = f" in {picked[0].name}, which lies beside it" if picked else ""
                note(f"{source.name}: labels by {source.kind}{found_there}")
            kinds[source.kind] += 1
            show(-1, source.name)

        data = Dataset.build(
            sources,
            output,
            labels=options,
            views=views,
            flows=flows,
            system=system,
            shared=shared,
            mask_names=mask_names,
            keep_plain=keep_plain,
            key_file=anonymize,
            replace=replace,
            jobs=jobs,
            reader=_reader_on(cluster, jobs),
            progress=tell,
            notify=lambda notice: note(f"apptell: {notice}"),
        )
    if len(beside) > 1:
        note(f"{len(beside):,} label logs that lie beside captures were used.")
    done = data.last_build or BuildReport(data)
    label_sources: Counter[str] = Counter()
    for entry in data.info["sources"]:
        label_sources.update(entry.get("label_sources", {}))
    found = {
        "dataset": str(output),
        "flows": len(data),
        "added": done.n_added,
        "late_views": data.info["late_views"],
        "sources": len(done.added),
        "skipped": len(done.skipped),
        "damaged": len(done.damaged),
        "labels": dict(kinds),
        "label_sources": dict(label_sources),
        "dropped": data.info["dropped"],
        "apps": data.info["apps"],
    }
    report(found, lambda console: _print(console, found), as_json=as_json)
    if done.damaged:
        raise typer.Exit(1)


def _reader_on(address: str | None, jobs: int) -> "RaySourceReader | None":
    """What reads captures on the Ray cluster at an address; None for processes of this machine."""
    if address is None:
        return None
    from apptell.cluster import RaySourceReader
    from apptell.errors import UsageError

    if jobs > 1:
        raise UsageError("--cluster: Ray shares the captures; leave out --jobs")
    return RaySourceReader(address)


def _print(console: "Console", found: dict[str, Any]) -> None:
    console.print(
        f"{found['dataset']}: {found['flows']:,} flows, {found['added']:,} of them new "
        f"from {found['sources']} captures ({found['skipped']} captures were already in it)"
    )
    if found["late_views"]:
        console.print(f"  {found['late_views']:,} of them are late views of the others")
    for source, n in found["label_sources"].items():
        console.print(f"  labelled by {source}: {n:,}")
    for reason, n in found["dropped"].items():
        console.print(f"  dropped {n:,}: {reason}")
