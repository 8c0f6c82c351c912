"""Reads the packets of one stream; compression and format are detected from the content."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from apptell.capture.compress import MAGIC_BYTES, DecompressedStream, compression
from apptell.capture.pcap import MAGICS, PcapParser
from apptell.capture.pcapng import SECTION_MAGIC, PcapngParser
from apptell.capture.snoop import MAGIC as SNOOP_MAGIC
from apptell.capture.snoop import SnoopParser
from apptell.capture.window import BLOCK_BYTES, Window
from apptell.errors import CaptureError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apptell.capture.batch import Owner, PacketBatch
    from apptell.capture.columns import Columns
    from apptell.capture.window import ByteStream


class Parser(Protocol):
    """A capture format over a window of bytes."""

    @property
    def format(self) -> str:
        """The format's name."""

    @property
    def interfaces(self) -> int:
        """Interfaces described so far."""

    @property
    def link_types(self) -> dict[int, int]:
        """Packets so far by LINKTYPE_ value."""

    @property
    def skipped_blocks(self) -> dict[str, int]:
        """Blocks passed over so far, by name."""

    def begin(self, columns: Columns) -> None:
        """Prepare the columns."""

    def scan(self, columns: Columns) -> int:
        """Whole packets of the window into columns; 0 when it must be filled first."""


class NotACaptureError(CaptureError):
    """The bytes are not a capture in a known format."""


class StreamReader:
    """The packets of one stream."""

    def __init__(
        self,
        stream: ByteStream,
        name: str,
        owners: list[Owner],
        block_bytes: int = BLOCK_BYTES,
        n_buffers: int = 1,
    ) -> None:
        """Detects the format from the first bytes.

        Args:
            stream: where the bytes come from.
            name: what error messages call it.
            owners: the side table of owners.
            block_bytes: bytes asked of the stream at a time.
            n_buffers: as ``Window`` takes it.

        Raises:
            NotACaptureError: the format is not known.
            CaptureError: the stream breaks within the file header.
        """
        self.name = name
        self._owners = owners
        self._stream = stream
        self._window = Window(stream, name, block_bytes, n_buffers)
        self._window.fill_to(MAGIC_BYTES)
        found = compression(self._window.peek(MAGIC_BYTES))
        if found is not None:
            window = self._window
            self._stream = DecompressedStream(stream, window.peek(window.end), name)
            window.reopen(self._stream)
            window.fill_to(MAGIC_BYTES)
        self.parser = self._parser()
        self.format = self.parser.format if found is None else f"{self.parser.format}, {found[0]}"

    def _parser(self) -> Parser:
        window = self._window
        head = window.peek(MAGIC_BYTES)
        if head[:4] in MAGICS:
            return PcapParser(window)
        if head[:4] == SECTION_MAGIC:
            return PcapngParser(window, self._owners)
        if len(head) == MAGIC_BYTES and SNOOP_MAGIC.startswith(head):
            return SnoopParser(window)
        if window.damage is not None:
            raise window.damage
        if not head:
            raise NotACaptureError(f"{self.name}: empty, not a capture")
        raise NotACaptureError(
            f"{self.name}: not a known capture format, it begins with {head[:4].hex()}"
        )

    def batches(self, columns: Columns) -> Iterator[PacketBatch]:
        """Yields batches; each is valid until as many further ones are requested as there are sets and buffers.

        Raises:
            CaptureError: the stream broke; everything before was handed out.
        """
        window, parser = self._window, self.parser
        columns.turn()
        parser.begin(columns)
        while True:
            columns.turn()
            n = parser.scan(columns)
            if n:
                window.is_handed_out = True
                yield columns.batch(window.buffer, n, self._owners)
            elif not window.fill():
                break
        if window.damage is not None:
            raise window.damage
        if len(window) and not self._stream.stopped:
            raise CaptureError(
                f"{self.name}: cut short, {len(window)} bytes of a packet or block are left"
                f" {window.at(window.start)}"
            )

    def first_time_ns(self, columns: Columns) -> int | None:
        """Time of the first packet; None when there is none before the end or damage."""
        try:
            for batch in self.batches(columns):
                return int(batch.time_ns[0])
        except CaptureError:
            return None
        return None

    def close(self) -> None:
        """Give back the stream and its buffer; batches that were handed out keep theirs."""
        self._stream.close()
        self._window.release()
