"""Options with which ``live`` extracts the packets of chosen flows, and what is said of it at the end."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apptell.cli import settings
from apptell.cli.screen import note

if TYPE_CHECKING:
    from apptell.flows import FlowOptions
    from apptell.service.live_extraction import ExtractionOptions, LiveExtraction

Extract = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Also write the packets of the selected flows to pcapng files, FILE with a number and a time, "
        "with the verdicts as comments.",
    ),
]
ExtractRing = Annotated[
    str,
    typer.Option(
        metavar="SIZE",
        help="Newest packets that are kept in memory for --extract until their flows have verdicts.",
    ),
]
ExtractFlow = Annotated[
    str,
    typer.Option(metavar="SIZE", help="Maximum bytes of packets that --extract writes of a flow."),
]
ExtractSize = Annotated[
    str, typer.Option(metavar="SIZE", help="Size at which --extract begins the next file.")
]
ExtractFiles = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Files of --extract that are kept; the oldest ones of this run are deleted.",
        min=1,
    ),
]
_BOUNDS = ("extract_ring", "extract_flow", "extract_size", "extract_files")


def extraction_options(context: typer.Context) -> "ExtractionOptions | None":
    """What is to be extracted; None for nothing.

    Raises:
        UsageError: a size is none or too small, or nothing is extracted that it could bound.
    """
    given: dict[str, Any] = context.params
    if given["extract"] is None:
        from apptell.errors import UsageError

        for name in _BOUNDS:
            if settings.origin(context, name) == "flag":
                raise UsageError(f"--{name.replace('_', '-')} is for --extract FILE")
        return None
    from apptell.history.upkeep import parse_size
    from apptell.service.live_extraction import ExtractionOptions

    ring, flow, size = (parse_size(given[name]) for name in _BOUNDS[:3])
    return ExtractionOptions(given["extract"], ring, flow, size, given["extract_files"])


def open_extraction(
    options: "ExtractionOptions | None", flows: "FlowOptions", *, is_replay: bool
) -> "LiveExtraction | None":
    """Begins the extraction; only a replay waits for a slow disk.

    Raises:
        UsageError: the path is a folder.
        OutputError: its folder is not there or cannot be written to.
    """
    if options is None:
        return None
    from apptell.service.live_extraction import LiveExtraction

    return LiveExtraction(options, flows, note, waits=is_replay)


def note_extraction(extraction: "LiveExtraction | None") -> None:
    """Reports what was extracted and what was lost."""
    if extraction is None:
        return
    counts, files = extraction.counts(), extraction.files
    note(
        f"{counts['written']:,} packets of {extraction.flows:,} flows were extracted to {files.names} "
        f"({files.n_files:,} begun)."
    )
    if any(n for state, n in counts.items() if state != "written"):
        note(
            f"Of these flows, {counts['missed']:,} packets were no longer in the ring, "
            f"{counts['limited']:,} exceeded the bound of a flow, and {counts['failed']:,} could not be "
            f"written; {counts['skipped']:,} packets of all flows came too fast for the ring."
        )


def refuse_unwritten(extraction: "LiveExtraction | None") -> None:
    """Checks that files took what was written to them.

    Raises:
        OutputError: they did not.
    """
    from apptell.errors import OutputError

    failed = 0 if extraction is None else extraction.counts()["failed"]
    if failed:
        raise OutputError(f"{failed:,} packets could not be written")
