"""Combines the decoder, the reassembly of fragments and the flow table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apptell.flows.flow_table import NO_LINKS, FlowTable
from apptell.flows.options import FlowOptions
from apptell.packets import Decoder, Reassembler, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from apptell.capture import PacketBatch
    from apptell.flows.schema import FlowBatch
    from apptell.packets import HeaderBatch


class Assembly:
    """Assembles packets into flows, batch by batch, without reading a file or a clock.

    Args:
        options: how packets become flows. Fragments are reassembled only in the mode ``clean``; the paper
            does not reassemble.
        add_names: as ``FlowTable`` takes it.
        watch: called with the decoded packets before they become part of flows.
        n_kept: what ``decode`` gives is valid until it is called so many times more.
    """

    def __init__(
        self,
        options: FlowOptions | None = None,
        add_names: Callable[[FlowBatch], FlowBatch] | None = None,
        watch: Callable[[HeaderBatch], None] | None = None,
        n_kept: int = 1,
    ) -> None:
        options = options or FlowOptions()
        is_clean = options.mode == "clean"
        self._decoder = Decoder(options.tunnels, fragments_apart=is_clean, n_kept=n_kept)
        self._reassembler = Reassembler(self._decoder, options.transports) if is_clean else None
        self._watch = watch
        self.tally = Tally()
        """What became of each packet in the decoder."""
        self.table = FlowTable(options, add_names)
        """The table of open flows; it returns those that are decided, early, idle or left at the end."""

    def add(self, packets: PacketBatch, capture: str = "") -> Iterator[FlowBatch]:
        """Adds packets; yields finished flows when many are waiting or space is needed.

        Args:
            packets: in capture order.
            capture: name of the capture they come from.
        """
        headers = self.decode(packets)
        return self.table.add(headers, capture, packets.owners, self.links(packets, headers))

    def decode(self, packets: PacketBatch) -> HeaderBatch:
        """The headers of packets, with datagrams put together; counts them and shows them to ``watch``."""
        headers = self._decoder(packets)
        self.tally.add(headers)
        if self._reassembler is not None:
            headers = self._reassembler(headers)
        if self._watch is not None:
            self._watch(headers)
        return headers

    def links(self, packets: PacketBatch, headers: HeaderBatch) -> NDArray[np.int32]:
        """The numbers of the packets' links; none if these were not requested."""
        return NO_LINKS if self.table.links is None else self.table.links(packets, headers)

    def release(self) -> None:
        """Frees the memory. The counters stay; no packets may be added afterwards."""
        self.table.release()
        if self._reassembler is not None:
            self._reassembler.release()

    @property
    def n_reassembled(self) -> int:
        """Datagrams put together again from their fragments."""
        return 0 if self._reassembler is None else self._reassembler.n_datagrams
