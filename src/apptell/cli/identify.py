"""``apptell identify``: identifies the app behind each flow of a capture."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from apptell.cli.decider_options import load_deciders
from apptell.cli.filter_options import (
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
    Sensor,
    record_stage,
)
from apptell.cli.notes import note_evicted, note_other_lengths, refuse_no_flows
from apptell.cli.outputs import Out, out_places, write_all
from apptell.cli.screen import note, on_terminal, until_interrupted
from apptell.cli.shared_options import (
    ActiveTimeout,
    Captures,
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
    Threshold,
    UnknownRate,
    flow_options,
    unknown_rate,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa

    from apptell.flows import FlowBatch, FlowOptions
    from apptell.records.record_filter import RecordFilter
    from apptell.records.stage import RecordStage
    from apptell.records.summary import FlowCounts
    from apptell.verdicts import Deciders, VerdictBatch
    from apptell.verdicts.context import WholeContext


def identify(
    typed: typer.Context,
    captures: Captures,
    model: ModelFolder = None,
    evidence: EvidenceText = None,
    catalogue: CatalogueFiles = None,
    threshold: Threshold = None,
    unknown: UnknownRate = None,
    form: Form = None,
    output: OutputFile = None,
    raw_csv: RawCsv = False,
    out: Out = None,
    summary: Annotated[
        bool,
        typer.Option(
            "--summary",
            help="Write flows, packets and bytes by app, category, service and client instead.",
        ),
    ] = False,
    app: OfApp = None,
    category: OfCategory = None,
    client: OfClient = None,
    server: OfServer = None,
    evidence_is: EvidenceIs = None,
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
) -> None:
    """Identifies the app behind each flow and writes one record per flow.

    With --out, the records are those of live.

    Examples:
        apptell identify phone.pcap
        tcpdump -i any -w - | apptell identify - --format jsonl
    """
    from apptell.names import read_flows
    from apptell.records.schema import VERDICT_RECORD, verdict_records
    from apptell.records.summary import SUMMARY_RECORD, Summary
    from apptell.records.text_table import SUMMARY_COLUMNS, VERDICT_COLUMNS
    from apptell.records.writers import choose_form, open_writer
    from apptell.verdicts import check_threshold, identify_flows

    chosen = choose_form(form, output, terminal=on_terminal(), raw_csv=raw_csv)
    check_threshold(threshold)
    rate = unknown_rate(unknown)
    deciders = load_deciders(evidence, model, catalogue, context, transport, rate)
    used = deciders.model
    stage = record_stage(typed.params, deciders.apps)
    wanted = stage.wanted
    options = flow_options(
        mode,
        transport=deciders.transports,
        model=used,
        max_flows=max_flows,
        idle_timeout_s=idle_timeout,
        active_timeout_s=active_timeout,
        local=local,
    )
    around = _around(deciders, follow=follow)
    if out:
        _refuse_with_out(form is not None or output is not None or summary, around)
        places = out_places(out, raw_csv=raw_csv)
        _identify_as_live(
            captures, options, deciders, threshold, rate, places, stage, follow=follow, jobs=jobs
        )
        return
    schema, columns = stage.schema(VERDICT_RECORD), VERDICT_COLUMNS
    if summary:
        schema, columns = SUMMARY_RECORD, SUMMARY_COLUMNS
    order = None if summary or follow else "time"
    counts, total = Counts(), Summary()
    asked = deciders.evidence
    with (
        until_interrupted(follow=follow) as stop,
        read_flows(
            captures,
            options,
            follow=follow,
            jobs=jobs,
            stop=stop,
            observer=asked,
            watch=stage.watch,
        ) as reader,
        open_writer(output, chosen, schema, columns, order_by=order) as writer,
    ):
        try:
            for batch in identify_flows(
                counts.seen(reader),
                used,
                threshold,
                context=around,
                evidence=asked,
                unknown=rate,
            ):
                counts.add(batch.to_arrow())
                chosen_ones = counts.chosen(batch, wanted)
                if summary:
                    total.add(chosen_ones)
                else:
                    writer.write(stage(verdict_records(chosen_ones)))
        finally:
            if summary:
                writer.write(total.records())
            counts.note(wanted)
            note_evicted(reader.stats)
            note_other_lengths(used, reader.stats)
    refuse_no_flows(reader.stats)


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


def _identify_as_live(
    captures: list[str],
    options: "FlowOptions",
    deciders: "Deciders",
    threshold: float | None,
    unknown: float | None,
    out: list[str],
    stage: "RecordStage",
    *,
    follow: bool,
    jobs: int,
) -> None:
    """Writes the records that ``live`` would give for the captures to its outputs."""
    wanted = stage.wanted
    from apptell.names import read_flows
    from apptell.service.decisions import ended_records
    from apptell.verdicts import flows_and_verdicts

    counts = Counts()
    with (
        until_interrupted(follow=follow) as stop,
        read_flows(
            captures,
            options,
            follow=follow,
            jobs=jobs,
            stop=stop,
            observer=deciders.evidence,
            watch=stage.watch,
        ) as reader,
    ):

        def records() -> "Iterator[pa.RecordBatch]":
            for flows, verdicts in flows_and_verdicts(
                counts.seen(reader),
                deciders.model,
                threshold,
                evidence=deciders.evidence,
                unknown=unknown,
            ):
                counts.add(verdicts.to_arrow())
                if not wanted.is_empty:
                    kept = wanted.keep(verdicts.to_arrow())
                    flows, verdicts = flows.filter(kept), counts.chosen(verdicts, wanted)
                yield from map(stage, ended_records(flows, verdicts))

        try:
            write_all(records(), out)
        finally:
            counts.note(wanted)
            note_other_lengths(deciders.model, reader.stats)
    refuse_no_flows(reader.stats)


def _flow_counts() -> "FlowCounts":
    from apptell.records.summary import FlowCounts

    return FlowCounts()


@dataclass(slots=True)
class Counts:
    """How many flows were read, and what the verdicts on them say."""

    flows: int = 0
    selected: int = 0
    verdicts: "FlowCounts" = field(default_factory=_flow_counts)

    def seen(self, batches: "Iterable[FlowBatch]") -> "Iterator[FlowBatch]":
        """The same flows, counted."""
        for batch in batches:
            self.flows += len(batch)
            yield batch

    def add(self, batch: "pa.RecordBatch") -> None:
        """Counts some verdicts in."""
        self.verdicts.add(batch)

    def chosen(self, verdicts: "VerdictBatch", wanted: "RecordFilter") -> "VerdictBatch":
        """The verdicts that a filter selects, counted."""
        from apptell.verdicts import VerdictBatch

        kept = verdicts if wanted.is_empty else VerdictBatch(wanted(verdicts.to_arrow()))
        self.selected += len(kept)
        return kept

    def note(self, wanted: "RecordFilter") -> None:
        """Reports them on stderr."""
        note(str(self))
        if not wanted.is_empty:
            note(f"The filters select {self.selected:,} of these flows.")

    def __str__(self) -> str:
        total = self.verdicts.total
        return (
            f"{total:,} flows: {self.verdicts}; {self.flows - total:,} more were skipped, with "
            "too few payload packets."
        )
