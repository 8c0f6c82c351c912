"""Reads the flows of a source, with their names, in one process or in several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apptell.capture import open_capture
from apptell.flows import FlowOptions, FlowReader
from apptell.flows.flow_reader import HAND_OUT_S
from apptell.flows.parallel import ParallelFlowReader
from apptell.names.dns import DnsReader
from apptell.names.flow_names import add_names

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from apptell.capture import PacketBatch
    from apptell.flows.flow_reader import Observer


def read_flows(
    source: str | Path | BinaryIO | Sequence[str | Path],
    options: FlowOptions | None = None,
    *,
    follow: bool = False,
    annotate: Callable[[PacketBatch], PacketBatch] | None = None,
    jobs: int = 1,
    stop: Callable[[], bool] | threading.Event | None = None,
    observer: Observer | None = None,
) -> FlowReader:
    """Flows of a capture, with the columns of the group *names* where the options ask for them.

    Args:
        source: a path, a folder, several of them in time order as one stream, ``-``, a binary file, or a
            network source (see ``apptell.capture.open_capture``).
        options: how packets become flows.
        follow: wait for more at the end of a file that is still written.
        annotate: called with each PacketBatch before it is decoded, to name owners of packets.
        jobs: processes to share the work; more than one for files and folders alone.
        stop: asked while nothing arrives; when it says so the source ends.
        observer: is told of the DNS answers in the capture, and of open flows, in time.

    Raises:
        CaptureError: the source cannot be opened or is no capture; while iterating, where it is damaged.
        UsageError: several jobs were asked of something that is no file, that is followed or annotated.

    Example:
        >>> with apptell.read_flows("phone.pcap") as flows:
        ...     for batch in flows:
        ...         print(batch.column("server_name").to_pylist())
        ['signal.example', 'zoom.example']
    """
    chosen = options or FlowOptions()
    read_answers = None if observer is None else DnsReader()
    if jobs > 1:
        is_growing = follow or annotate is not None
        return ParallelFlowReader(
            source, chosen, jobs, is_growing, add_names, read_answers, observer
        )
    return FlowReader(
        open_capture(source, follow=follow, stop=stop),
        chosen,
        annotate,
        hand_out_s=0 if follow else HAND_OUT_S,  # nobody knows when more packets are written
        add_names=add_names,
        read_answers=read_answers,
        observer=observer,
    )
