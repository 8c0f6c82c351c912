"""Reads the flows of a source, with their names, in one process or in several jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apptell.capture import open_capture
from apptell.capture.source import is_at_rest
from apptell.errors import UsageError
from apptell.flows import FlowOptions, FlowReader
from apptell.flows.stages import HAND_OUT_S
from apptell.names.dns import DnsReader
from apptell.names.flow_names import add_names

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from apptell.capture import PacketBatch
    from apptell.flows.flow_reader import Observer, Watcher


def read_flows(
    source: str | Path | BinaryIO | Sequence[str | Path],
    options: FlowOptions | None = None,
    *,
    follow: bool = False,
    annotate: Callable[[PacketBatch], PacketBatch] | None = None,
    jobs: int = 1,
    stop: Callable[[], bool] | threading.Event | None = None,
    observer: Observer | None = None,
    watcher: Watcher | None = None,
) -> FlowReader:
    """Reads the flows of a capture, with the columns of the group *names* if the options request them.

    Args:
        source: a path, a folder, several of them in time order as one stream, ``-``, a binary file, or a
            network source (see ``apptell.capture.open_capture``).
        options: how packets become flows.
        follow: wait for more at the end of a file that is still being written.
        annotate: called with each PacketBatch before it is decoded, to fill in the owners of packets.
        jobs: processors that share the work, of which at most three are used; more than one only for files and
            folders. Flows, their order and the counters do not depend on it.
        stop: called while nothing arrives; the source ends when it returns true.
        observer: receives the DNS answers of the capture, and open flows, as early as possible.
        watcher: reads decoded packets before they become part of flows, and remembers what they tell.

    Raises:
        CaptureError: the source cannot be opened or is not a capture; during iteration, if it is damaged.
        UsageError: several jobs were requested for a stream, or with ``follow`` or ``annotate``.

    Example:
        >>> with apptell.read_flows("phone.pcap") as flows:
        ...     for batch in flows:
        ...         print(batch.column("server_name").to_pylist())
        ['signal.example', 'zoom.example']
    """
    at_rest = not follow and annotate is None and is_at_rest(source)
    if jobs > 1 and not at_rest:
        raise UsageError("several jobs can read only files and folders; a stream needs one job")
    hand_out_s: float | None = HAND_OUT_S
    if follow:
        hand_out_s = 0  # more packets may not follow for a long time
    elif at_rest:
        hand_out_s = None
    return FlowReader(
        open_capture(source, follow=follow, stop=stop),
        options or FlowOptions(),
        annotate,
        hand_out_s,
        add_names=add_names,
        read_answers=None if observer is None else DnsReader(with_aliases=False),
        observer=observer,
        watcher=watcher,
        jobs=jobs,
    )
