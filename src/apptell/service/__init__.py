"""Packets as they pass in, verdicts while the flows are young out: clocks, queues, outputs and metrics.

``sources`` → ``pipeline`` (decoder and flow table in the packet path, ``decisions`` behind a bounded queue)
→ ``outputs``, each behind a bounded queue of its own.
"""

from apptell.service.live_pipeline import LiveOptions, LivePipeline
from apptell.service.outputs import QueuedOutput, open_outputs
from apptell.service.sources import InterfaceSource, PacketSource, ReplaySource, StreamSource

__all__ = [
    "InterfaceSource",
    "LiveOptions",
    "LivePipeline",
    "PacketSource",
    "QueuedOutput",
    "ReplaySource",
    "StreamSource",
    "open_outputs",
]
