"""``apptell dataset record``: records a phone's live stream into a dataset."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apptell.cli.labelling import Groups, Output, Rename, pairs, renames
from apptell.cli.screen import note, report
from apptell.cli.shared_options import Json, Transport, flow_options

if TYPE_CHECKING:
    from apptell.labels.live import LiveReader


def record(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A live source.")],
    output: Output,
    groups: Groups = None,
    rename: Rename = None,
    transport: Transport = "tcp",
    seconds: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="Stop after this many seconds. [default: record until Ctrl-C]",
            min=0.001,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Records a phone until Ctrl-C and adds its flows to a dataset.

    The phone's stream must name the owner of each packet.

    Examples:
        apptell dataset record pcapdroid+udp://:1234 -o dataset/
        apptell dataset record pcapdroid+udp://:1234 -o dataset/ --group network=home
    """
    from apptell.dataset import build
    from apptell.flows.schema import GROUPS
    from apptell.labels.live import LiveReader, PhoneRecording

    options = flow_options("clean", tuple(GROUPS), transport)
    live = LiveReader(
        source,
        options,
        lambda: note(f"Recording {source}. Press Ctrl-C to stop and keep the flows."),
    )
    with _until_stopped(live, seconds):
        done = build([PhoneRecording.of(live, pairs(groups or []), renames(rename))], output)
    if not live.n_packets:
        note("No packet arrived. Is the phone set to send to this address?")
    for damage in done.damaged:
        note(f"apptell: {damage}")
    found = {
        "dataset": str(output),
        "packets": live.n_packets,
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


@contextmanager
def _until_stopped(live: "LiveReader", seconds: float | None) -> Iterator[None]:
    """SIGINT, SIGTERM and the clock end the recording, not the program."""
    kinds = [signal.SIGINT, signal.SIGTERM, *([signal.SIGALRM] if seconds else [])]
    old: dict[int, Any] = {kind: signal.signal(kind, live.stop) for kind in kinds}
    try:
        if seconds:
            signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for kind, handler in old.items():
            signal.signal(kind, handler)
