"""``apptell explain``: says why verdicts say what they say."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from apptell.cli.notes import refuse_no_flows
from apptell.cli.outputs import refuse_capture
from apptell.cli.screen import command_line, note, on_terminal
from apptell.cli.shared_options import (
    Captures,
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

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from apptell.reasons import Explanation

_FORMS = ("table", "jsonl", "html")
_SUFFIXES = {
    ".txt": "table",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".html": "html",
}
_PAGE_FLOWS = 100


def explain(
    typed: typer.Context,
    captures: Captures,
    model: ModelFolder = None,
    flow: Annotated[
        str | None,
        typer.Option(metavar="COMMUNITY_ID", help="Explain only this flow. [default: all]"),
    ] = None,
    evidence: EvidenceText = None,
    catalogue: CatalogueFiles = None,
    threshold: Threshold = None,
    unknown: UnknownRate = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORM",
            help="table, jsonl or html. [default: the suffix of the output file, otherwise table on a "
            "terminal and jsonl elsewhere]",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write to this file. [default: stdout]"
        ),
    ] = None,
    most: Annotated[
        int, typer.Option("--most", metavar="N", min=1, help="Parts of the model's reason to show.")
    ] = 12,
    similar: Annotated[
        int,
        typer.Option(
            "--similar",
            metavar="N",
            min=0,
            max=100,
            help="Flows of the model's training set to find that are most like each flow; for a model trained "
            "with --keep-rows.",
        ),
    ] = 0,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            min=1,
            help="Explain at most N flows. [default: all, on a page 100]",
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
    mode: Mode = "clean",
    transport: EvidenceTransport = None,
    max_flows: MaxFlows = None,
    idle_timeout: IdleTimeout = 90.0,
    context: ContextText = None,
) -> None:
    """Explains verdicts: the evidence in order, and what a model's probabilities rest on.

    A page (--format html) also shows the bytes of each flow's first packets, with their fields.

    Examples:
        apptell explain phone.pcap --flow 1:LQU9qZlK+B5F3KDmev6m5PMibrg=
        apptell explain phone.pcap -m model/ -o reasons.html
    """
    from itertools import islice

    from apptell.errors import UsageError
    from apptell.names import read_flows
    from apptell.reasons.explain import check_flow, explained_batches
    from apptell.verdicts import check_threshold

    chosen = _form(form, output)
    refuse_capture("--output", output, captures)
    check_threshold(threshold)
    check_flow(flow)
    rate = unknown_rate(unknown)
    deciders = load_deciders(evidence, model, catalogue, context, transport, rate)
    wanted = selected_records(typed.params, deciders)
    options = flow_options(
        mode,
        transport=deciders.transports,
        model=deciders.model,
        max_flows=max_flows,
        idle_timeout_s=idle_timeout,
    )
    with read_flows(captures, options, observer=deciders.evidence) as reader:

        def found() -> "Iterator[Explanation]":
            for _, batch in explained_batches(
                reader,
                deciders,
                threshold,
                flow=flow,
                unknown=rate,
                similar=similar,
                keep=None if wanted.is_empty else wanted.keep,
            ):
                yield from batch

        room = limit if limit is not None or chosen != "html" else _PAGE_FLOWS
        n_written = _write(islice(found(), room), chosen, output, most)
        stats = reader.stats
    if room is not None and n_written == room:
        note(
            f"Explained the first {room:,} flow{'' if room == 1 else 's'}; --limit N explains more."
        )
    refuse_no_flows(stats)
    if flow is not None and not n_written:
        chosen_by = "" if wanted.is_empty else " and meets the filters"
        raise UsageError(f"no flow with a verdict has the Community ID {flow}{chosen_by}")
    if not wanted.is_empty and n_written != room:
        note(f"{n_written:,} flows meet the filters.")


def _form(name: str | None, path: Path | None) -> str:
    from apptell.errors import UsageError

    if name is not None:
        if name not in _FORMS:
            raise UsageError(f"unknown output form {name!r}; available: {', '.join(_FORMS)}")
        return name
    if path is None:
        return "table" if on_terminal() else "jsonl"
    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"{path}: no output form has this ending; available: {', '.join(_FORMS)}")
    return _SUFFIXES[path.suffix.lower()]


def _write(found: "Iterable[Explanation]", form: str, path: Path | None, most: int) -> int:
    """Writes explanations and returns their number; those before damage in a capture are kept."""
    from apptell.records.explanations import ExplanationText, explanation_line
    from apptell.records.writers import open_text
    from apptell.reports.explained import explanations_page

    n_written = 0
    with open_text(path) as stream:
        if form == "html":
            return explanations_page(stream, found, command_line())
        text = ExplanationText(stream, most)
        for each in found:
            n_written += 1
            if form == "jsonl":
                stream.write(explanation_line(each) + "\n")
            else:
                text.write([each])
    return n_written
