"""``apptell archive``: identifies the flows of an archive of captures, on one machine or on a cluster."""

from typing import Annotated, Literal

import typer

from apptell.cli.decider_options import load_deciders
from apptell.cli.filter_options import (
    EvidenceIs,
    MinConfidence,
    NotNamed,
    OfApp,
    OfCategory,
    OfClient,
    OfServer,
    OnlyNamed,
    OutcomeIs,
    selected_records,
)
from apptell.cli.screen import note
from apptell.cli.shared_options import (
    ActiveTimeout,
    CatalogueFiles,
    ContextText,
    EvidenceText,
    EvidenceTransport,
    IdleTimeout,
    MaxFlows,
    Mode,
    ModelFolder,
    Threshold,
    UnknownRate,
    flow_options,
    unknown_rate,
)


def archive(
    typed: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="STREAM...",
            help="Captures of one sensor: a capture, a folder, or a URI; FOLDER/* for each entry of it.",
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FOLDER", help="Folder or URI of the records.")
    ],
    cluster: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Ray cluster: local (the cores of this machine), auto (the machine's cluster) or HOST:PORT.",
        ),
    ] = "local",
    records: Annotated[
        Literal["verdicts", "flows"],
        typer.Option(metavar="KIND", help="verdicts, as of identify, or flows without verdicts."),
    ] = "verdicts",
    model: ModelFolder = None,
    evidence: EvidenceText = None,
    catalogue: CatalogueFiles = None,
    threshold: Threshold = None,
    unknown: UnknownRate = None,
    app: OfApp = None,
    category: OfCategory = None,
    client: OfClient = None,
    server: OfServer = None,
    evidence_is: EvidenceIs = None,
    outcome_is: OutcomeIs = None,
    min_confidence: MinConfidence = None,
    only_named: OnlyNamed = False,
    not_named: NotNamed = False,
    mode: Mode = "clean",
    transport: EvidenceTransport = None,
    max_flows: MaxFlows = None,
    idle_timeout: IdleTimeout = 90.0,
    active_timeout: ActiveTimeout = None,
    context: ContextText = None,
) -> None:
    """Identifies the flows of an archive of captures and writes Parquet by sensor and day.

    Examples:
        apptell archive captures/* -o records/
        apptell archive 's3://captures/*' -o s3://records/ --cluster auto
    """
    from apptell.cluster import (
        ArchiveFolder,
        StreamJob,
        catalogue_files,
        find_streams,
        model_files,
        run_archive,
    )
    from apptell.errors import CaptureError, UsageError
    from apptell.flows.options import transport_numbers
    from apptell.records.record_filter import parse_filter
    from apptell.verdicts import check_threshold

    check_threshold(threshold)
    rate = unknown_rate(unknown)
    groups = used = None
    if records == "flows":
        groups = ("core", "names")
        transports = transport_numbers(transport or "tcp,udp")
        wanted = parse_filter(clients=client or (), servers=server or ())
        of_verdicts = (app, category, evidence_is, outcome_is, only_named, not_named)
        if any(of_verdicts) or min_confidence is not None:
            raise UsageError(
                "--records flows has no verdicts: of the filters, --client and --server are possible"
            )
    else:
        deciders = load_deciders(evidence, model, catalogue, context, transport, rate)
        used, transports = deciders.model, tuple(deciders.transports)
        wanted = selected_records(typed.params, deciders)
    job = StreamJob(
        flow_options(
            mode,
            transport=transports,
            model=used,
            max_flows=max_flows,
            idle_timeout_s=idle_timeout,
            active_timeout_s=active_timeout,
        ),
        groups,
        evidence=evidence,
        model=None if model is None else model_files(model),
        catalogue=catalogue_files(catalogue or ()),
        threshold=threshold,
        unknown=rate,
        context=context,
        wanted=wanted,
    )
    folder = ArchiveFolder(output)
    report = run_archive(job, find_streams(sources), folder, cluster, note)
    broken = [record for record in report.records if record.damage is not None]
    for record in broken:
        note(str(record.damage))
    n_records = sum(record.records for record in report.records)
    n_streams = sum(record.records > 0 for record in report.records)
    n_without = len(report.records) - n_streams
    note(
        f"{folder.name} has {n_records:,} records of {n_streams:,} stream{'' if n_streams == 1 else 's'}; "
        f"{n_without:,} more gave none. {report.n_skipped:,} of the streams were complete before."
    )
    if report.failures or broken:
        raise CaptureError(
            f"{len(report.failures):,} streams failed and {len(broken):,} are damaged; the next run repeats "
            "those that failed"
        )
