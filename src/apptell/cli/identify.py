"""``apptell identify``: captures and a model in, which app made each flow out."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from apptell.cli.notes import note_evicted, note_known_apps, refuse_no_flows
from apptell.cli.options import (
    Captures,
    ContextText,
    Follow,
    Form,
    Jobs,
    MaxFlows,
    Mode,
    ModelFolder,
    OutputFile,
    Threshold,
    Transport,
    flow_options,
)
from apptell.cli.outputs import Out, write_all
from apptell.cli.screen import note, on_terminal, until_interrupted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa

    from apptell.flows import FlowBatch, FlowOptions
    from apptell.models import Model
    from apptell.verdicts import VerdictBatch


def identify(
    captures: Captures,
    model: ModelFolder = None,
    threshold: Threshold = None,
    form: Form = None,
    output: OutputFile = None,
    out: Out = None,
    summary: Annotated[
        bool,
        typer.Option("--summary", help="Instead: flows, packets and bytes per app and per client."),
    ] = False,
    mode: Mode = "clean",
    follow: Follow = False,
    transport: Transport = "tcp",
    jobs: Jobs = 1,
    max_flows: MaxFlows = None,
    context: ContextText = None,
) -> None:
    """Tells which app made each flow: one record for each flow with at least two payload packets.

    With --out the records are those of live instead.

    Examples:
        apptell identify phone.pcap
        tcpdump -i any -w - | apptell identify - --format jsonl
    """
    from apptell.errors import UsageError
    from apptell.models import load_model
    from apptell.names import read_flows
    from apptell.records.schema import VERDICT_RECORD, verdict_records
    from apptell.records.summary import SUMMARY_RECORD, Summary
    from apptell.records.table import SUMMARY_COLUMNS, VERDICT_COLUMNS
    from apptell.records.writers import choose_form, open_writer
    from apptell.verdicts import ContextOptions, choose_threshold, identify_flows, whole_context

    chosen = choose_form(form, output, terminal=on_terminal())
    used = load_model(model)
    options = flow_options(mode, transport=transport, model=used, max_flows=max_flows)
    limit = choose_threshold(threshold, used)
    around = None if context is None else whole_context(ContextOptions.parse(context), used)
    if around is not None and follow:
        raise UsageError("--context waits for the last flow: leave out --follow, or take live")
    note_known_apps(used, embedded=model is None)
    if out:
        if form is not None or output is not None or summary:
            raise UsageError("--out is not for --output, --format or --summary")
        if around is not None:
            raise UsageError("--out and --context: live --replay CAPTURE --speed max has both")
        _identify_as_live(captures, options, used, limit, out, follow=follow, jobs=jobs)
        return
    schema, columns = VERDICT_RECORD, VERDICT_COLUMNS
    if summary:
        schema, columns = SUMMARY_RECORD, SUMMARY_COLUMNS
    counts, total = Counts(), Summary()
    with (
        until_interrupted(follow=follow) as stop,
        read_flows(captures, options, follow=follow, jobs=jobs, stop=stop) as reader,
        open_writer(output, chosen, schema, columns) as writer,
    ):
        try:
            for batch in identify_flows(counts.seen(reader), used, limit, context=around):
                counts.add(batch)
                if summary:
                    total.add(batch)
                else:
                    writer.write(verdict_records(batch))
        finally:
            if summary:
                writer.write(total.records())
            note(str(counts))
            note_evicted(reader.stats)
    refuse_no_flows(reader.stats)


def _identify_as_live(
    captures: list[str],
    options: "FlowOptions",
    model: "Model",
    threshold: float,
    out: list[str],
    *,
    follow: bool,
    jobs: int,
) -> None:
    """The records that ``live`` would give of the captures, to its outputs."""
    from apptell.names import read_flows
    from apptell.service.decisions import Decisions

    decisions, counts = Decisions(model, threshold), Counts()
    with (
        until_interrupted(follow=follow) as stop,
        read_flows(captures, options, follow=follow, jobs=jobs, stop=stop) as reader,
    ):

        def records() -> "Iterator[pa.RecordBatch]":
            for flows in counts.seen(reader):
                for batch in decisions.ended(flows):
                    counts.add_records(batch)
                    yield batch

        try:
            write_all(records(), out)
        finally:
            note(str(counts))
    refuse_no_flows(reader.stats)


@dataclass(slots=True)
class Counts:
    """What became of the flows."""

    flows: int = 0
    verdicts: int = 0
    accepted: int = 0

    def seen(self, batches: "Iterable[FlowBatch]") -> "Iterator[FlowBatch]":
        """The same flows, counted."""
        for batch in batches:
            self.flows += len(batch)
            yield batch

    def add(self, batch: "VerdictBatch") -> None:
        """Counts some verdicts in."""
        self.verdicts += len(batch)
        self.accepted += len(batch) - batch.column("app").null_count

    def add_records(self, batch: "pa.RecordBatch") -> None:
        """Counts the ends among some live records in."""
        if batch.column("event")[0].as_py() == "end":
            self.verdicts += batch.num_rows
            self.accepted += batch.num_rows - batch.column("app").null_count

    def __str__(self) -> str:
        short = self.flows - self.verdicts
        return (
            f"{self.verdicts:,} flows: {self.accepted:,} named, "
            f"{self.verdicts - self.accepted:,} declined; "
            f"{short:,} more with fewer than two payload packets passed over."
        )
