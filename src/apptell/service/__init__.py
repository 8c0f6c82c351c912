"""The live pipeline: sources, decisions on open flows, outputs with queues, and metrics.

``sources`` → ``live_pipeline`` (decoder and flow table in ``packet_path``, ``decisions`` behind a bounded
queue) → ``outputs``, each behind its own bounded queue.
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
