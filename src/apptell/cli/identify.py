"""``apptell identify``: identifies the app behind each flow of a capture."""

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apptell.cli.decider_options import load_deciders
from apptell.cli.filter_options import (
    AllFlows,
    ClientFile,
    ClientNamesFrom,
    EvidenceIs,
    Local,
    MinConfidence,
    NotNamed,
    OfApp,
    OfCategory,
    OfClient,
    OfServer,
    OnlyNamed,
    OutcomeIs,
    Sensor,
    record_stage,
)
from apptell.cli.flow_counts import Counts
from apptell.cli.identify_options import find_stored, probability_apps
from apptell.cli.notes import note_evicted, note_other_lengths, refuse_no_flows
from apptell.cli.outputs import Out, refuse_capture, write_all
from apptell.cli.screen import note, on_terminal, until_interrupted
from apptell.cli.shared_options import (
    VERDICT_GROUPS,
    ActiveTimeout,
    CapturesOrDataset,
    CatalogueFiles,
    ContextText,
    EvidenceText,
    EvidenceTransport,
    Follow,
    Form,
    IdleTimeout,
    Jobs,
    MaxFlows,
    Mode,
    ModelFolder,
    OutputFile,
    RawCsv,
    TableZone,
    Threshold,
    UnknownRate,
    columns_in_zone,
    flow_options,
    unknown_rate,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow as pa

    from apptell.dataset import Dataset
    from apptell.flows import FlowBatch, FlowOptions
    from apptell.reasons import Reasons
    from apptell.records.stage import RecordStage
    from apptell.verdicts import Deciders, VerdictBatch
    from apptell.verdicts.context import WholeContext


def identify(
    typed: typer.Context,
    captures: CapturesOrDataset,
    model: ModelFolder = None,
    evidence: EvidenceText = None,
    catalogue: CatalogueFiles = None,
    threshold: Threshold = None,
    unknown: UnknownRate = None,
    form: Form = None,
    output: OutputFile = None,
    raw_csv: RawCsv = False,
    zone: TableZone = None,
    out: Out = None,
    summary: Annotated[
        bool,
        typer.Option(
            "--summary",
            help="Write flows, packets and bytes by app, category, service and client instead.",
        ),
    ] = False,
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities",
            help="Add the model's probability of each of its apps to records in jsonl, csv or parquet.",
        ),
    ] = False,
    all_flows: AllFlows = False,
    extract: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write the packets of the selected flows to this pcapng, with the verdicts as comments.",
        ),
    ] = None,
    app: OfApp = None,
    category: OfCategory = None,
    client: OfClient = None,
    server: OfServer = None,
    evidence_is: EvidenceIs = None,
    outcome_is: OutcomeIs = None,
    min_confidence: MinConfidence = None,
    only_named: OnlyNamed = False,
    not_named: NotNamed = False,
    local: Local = None,
    clients: ClientFile = None,
    client_names: ClientNamesFrom = "on",
    sensor: Sensor = None,
    mode: Mode = "clean",
    follow: Follow = False,
    transport: EvidenceTransport = None,
    jobs: Jobs = 1,
    max_flows: MaxFlows = None,
    idle_timeout: IdleTimeout = 90.0,
    active_timeout: ActiveTimeout = None,
    context: ContextText = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Add the reason of each verdict in words; explain shows more."
        ),
    ] = False,
) -> None:
    """Identifies the app behind each flow and writes one record per flow.

    With --out, the records are those of live.

    Examples:
        apptell identify phone.pcap
        tcpdump -i any -w - | apptell identify - --format jsonl
        apptell identify dataset/ -m model/ --probabilities -o verdicts.parquet
    """
    from apptell.flows import FlowReader
    from apptell.records.extraction import extracting
    from apptell.records.schema import (
        explained_schema,
        probability_schema,
        record_schema,
    )
    from apptell.records.summary import SUMMARY_RECORD, Summary
    from apptell.records.text_table import EXPLAINED_COLUMNS, SUMMARY_COLUMNS, VERDICT_COLUMNS
    from apptell.records.writers import choose_form, open_writer
    from apptell.verdicts import check_threshold

    stored, evidence = find_stored(typed.params)
    chosen = choose_form(form, output, terminal=on_terminal(), raw_csv=raw_csv)
    refuse_capture("--output", output, captures)
    check_threshold(threshold)
    rate = unknown_rate(unknown)
    deciders = load_deciders(evidence, model, catalogue, context, transport, rate)
    used = deciders.model
    stage = record_stage(typed.params, deciders)
    options = flow_options(
        mode,
        VERDICT_GROUPS + (("link",) if all_flows else ()),
        transport=deciders.transports,
        model=used,
        max_flows=max_flows,
        idle_timeout_s=idle_timeout,
        active_timeout_s=active_timeout,
        local=local,
    )
    around = _around(deciders, follow=follow)
    _check_extract(extract, captures, is_possible=not follow and not out)
    reasons = None
    if explain:
        own_form = chosen.name if chosen.has_own_fields else None
        reasons = _reasons(deciders, own_form, is_other=bool(out) or summary)
    apps: Sequence[str] = ()
    if probabilities:
        apps = probability_apps(chosen, used, is_other=bool(out) or summary)
    source = captures if stored is None else stored
    job = _Job(source, options, deciders, threshold, rate, around, stage, follow, jobs, reasons)
    if out:
        _refuse_with_out(form is not None or output is not None or summary, around)
        _identify_as_live(job, out, raw_csv=raw_csv)
        return
    schema, columns = record_schema(with_link=all_flows), VERDICT_COLUMNS
    if explain:
        schema, columns = explained_schema(schema), EXPLAINED_COLUMNS
    schema = stage.schema(probability_schema(schema, apps))
    columns = columns_in_zone(columns, zone)
    if summary:
        schema, columns = SUMMARY_RECORD, SUMMARY_COLUMNS
    order = None if summary or follow else "time"
    counts, total = Counts(), Summary()
    with (
        job.reader() as reader,
        open_writer(output, chosen, schema, columns, order_by=order) as writer,
        extracting(extract, captures, options.tunnels) as extraction,
    ):
        try:
            for flows, verdicts in job.verdicts(reader, counts):
                if extraction is not None:
                    extraction.add(verdicts)
                if summary:
                    total.add(verdicts)
                else:
                    writer.write(stage(job.records(flows, verdicts, apps)))
        finally:
            if summary:
                writer.write(total.records())
            counts.note(stage.wanted)
            if isinstance(reader, FlowReader):
                note_evicted(reader.stats)
                note_other_lengths(used, reader.stats)
    if extraction is not None:
        note(f"{extraction.packets:,} packets were extracted to {extract}.")
    if isinstance(reader, FlowReader):
        refuse_no_flows(reader.stats)


@dataclass(frozen=True)
class _Job:
    """Captures or a dataset, and how their flows are identified."""

    source: "list[str] | Dataset"
    options: "FlowOptions"
    deciders: "Deciders"
    threshold: float | None
    unknown: float | None
    around: "WholeContext | None"
    stage: "RecordStage"
    follow: bool
    jobs: int
    reasons: "Reasons | None"
    """What explains the verdicts; None where that is not asked."""

    @property
    def all_flows(self) -> bool:
        """Whether flows with too few payload packets count, too."""
        return "link" in self.options.groups

    @contextmanager
    def reader(self) -> "Iterator[Iterable[FlowBatch]]":
        """The flows of the captures, or of the dataset."""
        from apptell.names import read_flows
        from apptell.verdicts import stored_batches

        if not isinstance(self.source, list):
            yield stored_batches(self.source, self.deciders.model)
            return
        with (
            until_interrupted(follow=self.follow) as stop,
            read_flows(
                self.source,
                self.options,
                follow=self.follow,
                jobs=self.jobs,
                stop=stop,
                observer=self.deciders.evidence,
                watcher=self.stage.clients,
            ) as reader,
        ):
            yield reader

    def verdicts(
        self, reader: "Iterable[FlowBatch]", counts: "Counts"
    ) -> "Iterator[tuple[FlowBatch, VerdictBatch]]":
        """The selected flows with their verdicts; all are counted."""
        from apptell.verdicts import flows_and_verdicts

        batches = counts.seen(reader)
        for flows, verdicts in flows_and_verdicts(
            batches if self.reasons is None else self.reasons.hold(batches),
            self.deciders.model,
            self.threshold,
            context=self.around,
            evidence=self.deciders.evidence,
            unknown=self.unknown,
            all_flows=self.all_flows,
        ):
            counts.add(verdicts.to_arrow())
            if self.reasons is not None:
                self.reasons.settle(flows)
            yield counts.chosen(flows, verdicts, self.stage.wanted)

    def records(
        self, flows: "FlowBatch", verdicts: "VerdictBatch", apps: "Sequence[str]"
    ) -> "pa.RecordBatch":
        """The records of verdicts, with the probabilities of ``apps`` if there are any."""
        from apptell.records.schema import (
            verdict_records,
            with_link,
            with_probabilities,
            with_reasons,
        )

        records = verdict_records(verdicts)
        if self.all_flows:
            records = with_link(records, flows)
        if self.reasons is not None:
            records = with_reasons(records, self.reasons.summaries(flows, verdicts))
        return with_probabilities(records, verdicts.probabilities, apps) if apps else records


def _reasons(deciders: "Deciders", own_form: str | None, *, is_other: bool) -> "Reasons":
    """What explains verdicts, where the other options allow it; ``own_form`` is a form with its own fields.

    Raises:
        UsageError: an option excludes it.
    """
    from apptell.errors import UsageError
    from apptell.reasons import Reasons

    if is_other:
        raise UsageError("--explain is not for --out or --summary")
    if own_form not in (None, "table"):
        raise UsageError(f"the form {own_form} has no field for reasons; use jsonl")
    return Reasons(deciders)


def _refuse_with_out(names_file: bool, around: "WholeContext | None") -> None:
    """Refuses options that exclude ``--out``.

    Raises:
        UsageError: there is one.
    """
    from apptell.errors import UsageError

    if names_file:
        raise UsageError("--out is not for --output, --format or --summary")
    if around is not None:
        raise UsageError("--out and --context: live --replay CAPTURE --speed max has both")


def _check_extract(extract: Path | None, captures: list[str], *, is_possible: bool) -> None:
    """Refuses to extract packets from what cannot be read twice.

    Raises:
        UsageError: a source is no file or folder, or an option excludes it.
    """
    from apptell.errors import UsageError

    if extract is None:
        return
    if not is_possible:
        raise UsageError("--extract is not for --follow or --out")
    for capture in captures:
        if not Path(capture).exists():
            raise UsageError(f"--extract reads captures twice: {capture} is not a file or a folder")
    refuse_capture("--extract", extract, captures)


def _around(deciders: "Deciders", *, follow: bool) -> "WholeContext | None":
    """The context of the flows of a whole capture; None without.

    Raises:
        UsageError: the capture never ends.
    """
    from apptell.errors import UsageError
    from apptell.verdicts import whole_context

    if deciders.context is None or deciders.model is None:
        return None
    if follow:
        raise UsageError("--context waits for the last flow: leave out --follow, or use live")
    return whole_context(deciders.context, deciders.model)


def _identify_as_live(job: _Job, out: list[str], *, raw_csv: bool) -> None:
    """Writes the records that ``live`` would give for the captures to its outputs."""
    from apptell.flows import FlowReader
    from apptell.records.schema import with_link
    from apptell.service.decisions import ended_records

    counts = Counts()
    with job.reader() as reader:

        def records() -> "Iterator[pa.RecordBatch]":
            for flows, verdicts in job.verdicts(reader, counts):
                for each in ended_records(flows, verdicts):
                    yield job.stage(with_link(each, flows) if job.all_flows else each)

        try:
            write_all(records(), out, raw_csv=raw_csv)
        finally:
            counts.note(job.stage.wanted)
            if isinstance(reader, FlowReader):
                note_other_lengths(job.deciders.model, reader.stats)
    if isinstance(reader, FlowReader):
        refuse_no_flows(reader.stats)
