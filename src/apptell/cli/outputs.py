"""The outputs of ``--out FORM:PLACE``, and reports of what they lost."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apptell.cli.screen import note

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa

    from apptell.service import QueuedOutput

Out = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FORM:PLACE",
        help="An output; repeatable. FORM: jsonl, csv, parquet, eve, zeek, zeek-json, ecs. PLACE: a file, -, "
        "http://HOST/PATH, opensearch:URL/INDEX, loki:URL, mqtt://HOST/TOPIC, kafka:HOST:PORT/TOPIC, "
        "ipfix:HOST, syslog:HOST, unix:PATH. [default of live: jsonl:-]",
    ),
]


def refuse_capture(option: str, path: Path | None, captures: "Iterable[str]") -> None:
    """Refuses a file to write that is one of the captures: they would be replaced.

    Raises:
        UsageError: it is.
    """
    from apptell.errors import UsageError

    for capture in captures:
        if (
            path is not None
            and path.is_file()
            and Path(capture).is_file()
            and path.samefile(capture)
        ):
            raise UsageError(f"{option}: {path} is the capture itself")


def write_all(
    records: "Iterable[pa.RecordBatch]", wanted: "Sequence[str]", *, raw_csv: bool
) -> None:
    """Writes records to outputs, and waits for slow ones.

    Raises:
        UsageError: no such form, or a place that does not fit it.
        OutputError: an output cannot be opened, or lost records.
        BrokenPipeError: every output was standard output, and its reader has gone.
    """
    from apptell.service import open_outputs

    outputs = open_outputs(wanted, is_lossless=True, raw_csv=raw_csv)
    try:
        for batch in records:
            for output in outputs:
                output.put(batch)
            if all(output.is_gone for output in outputs):
                break
    finally:
        for output in outputs:
            output.close()
        note_losses(outputs)
    if all(output.is_gone for output in outputs):
        raise BrokenPipeError
    refuse_losses(outputs)


def refuse_losses(outputs: "Sequence[QueuedOutput]") -> None:
    """Checks that every record reached its output; one whose reader has gone does not count.

    Raises:
        OutputError: records were dropped, or Kafka did not confirm them.
    """
    from apptell.errors import OutputError

    counts = [output.counts() for output in outputs if not output.is_gone]
    lost = sum(each["dropped"] + each.get("undelivered", 0) for each in counts)
    if lost:
        raise OutputError(f"{lost:,} records could not be written")


def note_losses(outputs: "Sequence[QueuedOutput]") -> None:
    """Reports each output that dropped records or had errors, unless its reader has gone.

    For an output that makes calls, the numbers of calls are reported.
    """
    for output in outputs:
        counts, fault = output.counts(), output.fault
        if "called" in counts:
            note(
                f"{output.name}: {counts['called']:,} called, {counts['failed']:,} failed, "
                f"{counts['limited']:,} left out by the rate{': ' if fault else ''}{fault}"
            )
        if counts["queued"]:
            note(f"{output.name}: {counts['queued']:,} records not confirmed")
        if not output.is_gone and (counts["dropped"] or counts["errors"]):
            note(
                f"{output.name}: {counts['dropped']:,} records dropped, "
                f"{counts['errors']:,} errors: {fault}"
            )
