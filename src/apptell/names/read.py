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
    from apptell.packets import HeaderBatch


def read_flows(
    source: str | Path | BinaryIO | Sequence[str | Path],
    options: FlowOptions | None = None,
    *,
    follow: bool = False,
    annotate: Callable[[PacketBatch], PacketBatch] | None = None,
    jobs: int = 1,
    stop: Callable[[], bool] | threading.Event | None = None,
    observer: Observer | None = None,
    watch: Callable[[HeaderBatch], None] | None = None,
) -> FlowReader:
    """Reads the flows of a capture, with the columns of the group *names* if the options request them.

    Args:
        source: a path, a folder, several of them in time order as one stream, ``-``, a binary file, or a
            network source (see ``apptell.capture.open_capture``).
        options: how packets become flows.
        follow: wait for more at the end of a file that is still being written.
        annotate: called with each PacketBatch before it is decoded, to fill in the owners of packets.
        jobs: number of processes; more than one only for files and folders.
        stop: called while nothing arrives; the source ends when it returns true.
        observer: receives the DNS answers of the capture, and open flows, as early as possible.
        watch: called with the decoded packets before they become part of flows; not with several jobs.

    Raises:
        CaptureError: the source cannot be opened or is not a capture; during iteration, if it is damaged.
        UsageError: several jobs were requested for a stream, or with ``follow`` or ``annotate``.

    Example:
        >>> with apptell.read_flows("phone.pcap") as flows:
        ...     for batch in flows:
        ...         print(batch.column("server_name").to_pylist())
        ['signal.example', 'zoom.example']
    """
    chosen = options or FlowOptions()
    read_answers = None if observer is None else DnsReader(with_aliases=False)
    if jobs > 1:
        is_growing = follow or annotate is not None
        return ParallelFlowReader(
            source, chosen, jobs, is_growing, add_names, read_answers, observer
        )
    return FlowReader(
        open_capture(source, follow=follow, stop=stop),
        chosen,
        annotate,
        hand_out_s=0 if follow else HAND_OUT_S,  # more packets may not follow for a long time
        add_names=add_names,
        read_answers=read_answers,
        observer=observer,
        watch=watch,
    )
