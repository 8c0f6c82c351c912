"""A source in, finished flows out: reader, decoder and flow table joined, with every packet accounted for."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self

import pyarrow as pa

from apptell.capture import CaptureReader, CaptureStats, open_capture
from apptell.errors import CaptureError
from apptell.flows.schema import SCHEMA, FlowBatch
from apptell.flows.table import FlowOptions, FlowTable
from apptell.packets import Decoder, Reassembler, Tally

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from apptell.capture import PacketBatch
    from apptell.packets import HeaderBatch

    Source = str | Path | BinaryIO | Sequence[str | Path]


_HAND_OUT_S: Final = 1.0
"""How long finished flows wait for others to be handed out with, while packets come."""


@dataclass(slots=True)
class FlowStats:
    """Where every packet of a source went: right whenever flows are handed out, final at the end."""

    capture: CaptureStats = field(default_factory=CaptureStats)
    """Files, formats, link types, snap-length cuts, damage."""
    packets: int = 0
    """Packets decoded."""
    status: dict[str, int] = field(default_factory=dict)
    """Packets by ``packets.Status``, lower case; ``ok`` ones are TCP or UDP with whole headers."""
    protocols: dict[int, int] = field(default_factory=dict)
    """Packets by IP protocol number."""
    fragments: int = 0
    """Packets that are fragments, first ones included."""
    reassembled: int = 0
    """Datagrams put together again from their fragments."""
    tunnelled: int = 0
    """Packets found inside a tunnel."""
    in_flows: int = 0
    """Packets that became part of a flow."""
    not_asked: int = 0
    """TCP or UDP packets of a protocol that no flows were asked of."""
    flows: int = 0
    """Flows handed out."""
    evicted: int = 0
    """Flows ended early because the table was full."""

    def to_dict(self) -> dict[str, Any]:
        """The counters as plain values, for JSON."""
        return asdict(self)


class FlowReader:
    """Flows of a source, batch by batch; to be iterated once.

    Iterating raises ``CaptureError`` where the capture is damaged, after every flow that precedes the
    damage was handed out.
    """

    def __init__(
        self,
        reader: CaptureReader,
        options: FlowOptions,
        annotate: Callable[[PacketBatch], PacketBatch] | None = None,
        share: tuple[int, int] = (0, 1),
        hand_out_s: float = _HAND_OUT_S,
        add_names: Callable[[FlowBatch], FlowBatch] | None = None,
    ) -> None:
        self._reader = reader
        self._annotate = annotate
        self._hand_out_s = hand_out_s
        self._table = FlowTable(options, share, add_names)
        self._tally = Tally()
        clean = options.mode == "clean"
        self._decoder = Decoder(options.tunnels, fragments_apart=clean)
        self._reassembler = Reassembler(self._decoder, options.transports) if clean else None
        self.options = options
        self.stats = FlowStats(capture=reader.stats)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the source."""
        self._reader.close()

    def __iter__(self) -> Iterator[FlowBatch]:
        damage: CaptureError | None = None
        due = 0.0
        try:
            with self._reader:
                for packets in self._reader:
                    batch = self._annotate(packets) if self._annotate else packets
                    headers = self._whole(self._decoder(batch))
                    name = self._reader.current_name
                    yield from self._count(self._table.add(headers, name, batch.owners))
                    if self._table.n_ready and time.monotonic() >= due:
                        yield from self._count(self._table.take())
                        due = time.monotonic() + self._hand_out_s
        except CaptureError as error:
            damage = error
        yield from self._count(self._table.finish())
        self._note()
        if damage is not None:
            raise damage

    def _whole(self, headers: HeaderBatch) -> HeaderBatch:
        self._tally.add(headers)
        if self._reassembler is None:
            return headers
        headers = self._reassembler(headers)
        self.stats.reassembled = self._reassembler.n_datagrams
        return headers

    def _count(self, batches: Iterator[FlowBatch]) -> Iterator[FlowBatch]:
        for batch in batches:
            self.stats.flows += len(batch)
            self._note()
            yield batch

    def _note(self) -> None:
        self.stats.capture = self._reader.stats
        for name in ("packets", "status", "protocols", "fragments", "tunnelled"):
            setattr(self.stats, name, getattr(self._tally, name))
        self.stats.in_flows = self._table.n_flow_packets
        self.stats.not_asked = self._table.n_not_asked
        self.stats.evicted = self._table.n_evicted

    def to_arrow(self) -> pa.Table:
        """All flows as one Arrow table.

        Raises:
            CaptureError: the capture is damaged; iterate instead to get what precedes the damage.
        """
        batches = [batch.to_arrow() for batch in self]
        return pa.Table.from_batches(batches) if batches else SCHEMA.empty_table()

    def to_flows(self) -> FlowBatch:
        """All flows as one batch; raises as ``to_arrow`` does."""
        return FlowBatch.concat(list(self))

    def to_pandas(self) -> Any:
        """All flows as a pandas table; needs pandas (``pip install 'apptell[pandas]'``)."""
        return self.to_arrow().to_pandas()


def read_flows(
    source: Source,
    options: FlowOptions | None = None,
    *,
    follow: bool = False,
    annotate: Callable[[PacketBatch], PacketBatch] | None = None,
    jobs: int = 1,
    stop: Callable[[], bool] | threading.Event | None = None,
    add_names: Callable[[FlowBatch], FlowBatch] | None = None,
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

    Raises:
        CaptureError: the source cannot be opened or is no capture; while iterating, where it is damaged.
        UsageError: several jobs were asked of something that is no file, that is followed or annotated.
    """
    if jobs > 1:
        from apptell.flows.parallel import ParallelFlowReader

        return ParallelFlowReader(
            source, options or FlowOptions(), jobs, follow or annotate is not None, add_names
        )
    return FlowReader(
        open_capture(source, follow=follow, stop=stop),
        options or FlowOptions(),
        annotate,
        hand_out_s=0 if follow else _HAND_OUT_S,  # nobody knows when more is written
        add_names=add_names,
    )
