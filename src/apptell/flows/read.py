"""A source in, its flows out: read by one process or by several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apptell.capture import open_capture
from apptell.flows.options import FlowOptions
from apptell.flows.parallel import ParallelFlowReader
from apptell.flows.reader import HAND_OUT_S, FlowReader

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import BinaryIO

    import pyarrow as pa

    from apptell.capture import PacketBatch
    from apptell.flows.reader import Observer
    from apptell.flows.schema import FlowBatch
    from apptell.packets import HeaderBatch

    Source = str | Path | BinaryIO | Sequence[str | Path]


def read_flows(
    source: Source,
    options: FlowOptions | None = None,
    *,
    follow: bool = False,
    annotate: Callable[[PacketBatch], PacketBatch] | None = None,
    jobs: int = 1,
    stop: Callable[[], bool] | threading.Event | None = None,
    add_names: Callable[[FlowBatch], FlowBatch] | None = None,
    read_answers: Callable[[HeaderBatch], pa.RecordBatch] | None = None,
    observer: Observer | None = None,
) -> FlowReader:
    """Flows of a capture; their names too where ``add_names`` finds them (``apptell.names.read_flows``).

    Args:
        source: a path, a folder, several of them in time order as one stream, ``-``, a binary file, or a
            network source (see ``apptell.capture.open_capture``).
        options: how packets become flows.
        follow: wait for more at the end of a file that is still written.
        annotate: called with each PacketBatch before it is decoded, to name owners of packets.
        jobs: processes to share the work; more than one for files and folders alone.
        stop: asked while nothing arrives; when it says so the source ends.
        add_names: fills the columns of the group *names*; a function of a module, for several jobs.
        read_answers: finds DNS answers among decoded packets, for ``observer``; can be pickled, for several
            jobs.
        observer: is told of DNS answers, and of open flows, in time.

    Raises:
        CaptureError: the source cannot be opened or is no capture; while iterating, where it is damaged.
        UsageError: several jobs were asked of something that is no file, that is followed or annotated.
    """
    if jobs > 1:
        return ParallelFlowReader(
            source,
            options or FlowOptions(),
            jobs,
            follow or annotate is not None,
            add_names,
            read_answers,
            observer,
        )
    return FlowReader(
        open_capture(source, follow=follow, stop=stop),
        options or FlowOptions(),
        annotate,
        hand_out_s=0 if follow else HAND_OUT_S,  # nobody knows when more is written
        add_names=add_names,
        read_answers=read_answers,
        observer=observer,
    )
