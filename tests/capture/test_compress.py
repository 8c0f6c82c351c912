import gzip
import io
import lzma
import struct
import subprocess
import sys
import time

import pytest
import zstandard

from apptell.capture import open_capture
from apptell.capture.byte_streams import ObjectStream, Stop
from tests.capture import crafted
from tests.capture.crafted import COMPRESSORS, FRAMES
from tests.capture.test_pcap import frames_of, read

KINDS = pytest.mark.parametrize("kind", sorted(COMPRESSORS))
MANY = [bytes([n % 251]) * (n % 1400 + 60) for n in range(3000)]


@KINDS
def test_compressed_captures_are_told_by_content(kind):
    batches, stats, message = read(COMPRESSORS[kind](crafted.pcap(MANY)))
    assert message is None
    assert frames_of(batches) == MANY
    assert stats.format == f"pcap, {kind}"


@KINDS
def test_members_in_a_row_are_one_stream(kind):
    data = crafted.pcap()
    compress = COMPRESSORS[kind]
    members = compress(data[:70]) + compress(b"") + compress(data[70:])
    batches, _, message = read(members)
    assert message is None
    assert frames_of(batches) == FRAMES


@KINDS
def test_zeros_behind_the_last_member_are_padding(kind):
    batches, _, message = read(COMPRESSORS[kind](crafted.pcap()) + bytes(512))
    assert message is None
    assert frames_of(batches) == FRAMES


@KINDS
def test_what_follows_and_is_not_compressed_is_damage(kind):
    batches, _, message = read(COMPRESSORS[kind](crafted.pcap()) + b"garbage!")
    assert frames_of(batches) == FRAMES
    assert message is not None
    assert message.startswith(
        "stream: the data after the compressed data is not compressed near byte"
    )


@KINDS
def test_a_truncated_stream_gives_what_precedes_the_cut(kind):
    noise = [
        frame[:30] + bytes((n * i * 7919) % 256 for i in range(400)) for n, frame in enumerate(MANY)
    ]
    data = COMPRESSORS[kind](crafted.pcap(noise))
    batches, _, message = read(data[: len(data) * 3 // 4])
    frames = frames_of(batches)
    assert frames == noise[: len(frames)]
    assert message is not None
    assert "compressed data is cut short near byte" in message
    if kind != "bzip2":  # whose blocks of 900 kB are all or nothing
        assert len(frames) > 100


def test_damaged_gzip_gives_everything_up_to_the_damaged_byte():
    data = crafted.pcap(FRAMES)
    stored = bytearray(gzip.compress(data, compresslevel=0))
    stored[-8] ^= 1  # the checksum: all the content precedes it
    batches, _, message = read(bytes(stored))
    assert frames_of(batches) == FRAMES
    assert message is not None
    assert "compressed data is damaged" in message


@KINDS
def test_a_damaged_stream_ends_in_damage_and_never_in_another_exception(kind):
    data = bytearray(COMPRESSORS[kind](crafted.pcap(MANY)))
    data[len(data) // 2] ^= 0xFF
    data[-5] ^= 0xFF
    batches, stats, message = read(bytes(data))
    assert message is not None
    assert stats.packets == sum(map(len, batches))


def test_frames_to_be_skipped_are_skipped():
    skip = struct.pack("<II", 0x184D2A53, 5) + b"12345"
    for kind in ("zstd", "lz4"):
        assert frames_of(read(skip + COMPRESSORS[kind](crafted.pcap()))[0]) == FRAMES


class OneByteAtATime(io.RawIOBase):
    def __init__(self, data):
        self._data = data
        self._at = 0

    def readable(self):
        return True

    def readinto(self, view):
        piece = self._data[self._at : self._at + 1]
        view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


# Nokia's headers are told by later records alone, for which a pipe's first packet does not wait.
@pytest.mark.parametrize("name", sorted(crafted.good_captures().keys() - {"pcap-nokia"}))
def test_a_pipe_that_gives_one_byte_at_a_time_gives_the_same_packets(name):
    data = crafted.good_captures()[name]
    with open_capture(OneByteAtATime(data)) as reader:
        slowly = [batch.frame(row) for batch in reader for row in range(len(batch))]
    assert slowly == frames_of(read(data)[0])


def test_a_pipe_gives_what_is_there_before_more_comes():
    data = crafted.pcap()
    first = len(crafted.pcap(FRAMES[:2]))

    class Pipe(io.RawIOBase):
        given = 0

        def readable(self):
            return True

        def readinto(self, view):
            piece = data[:first] if self.given == 0 else data[first:] if self.given == 1 else b""
            self.given += 1
            view[: len(piece)] = piece
            return len(piece)

    pipe = Pipe()
    with open_capture(pipe) as reader:
        assert frames_of([next(reader)]) == FRAMES[:2]
        assert pipe.given == 1
        assert frames_of(list(reader)) == FRAMES[2:]


def test_a_stream_reads_file_objects_that_only_know_read():
    class OnlyRead:
        def __init__(self):
            self.pieces = [b"ab", None, b"c", b""]

        def read(self, _size):
            return self.pieces.pop(0)

    stream = ObjectStream(OnlyRead(), Stop(None), owned=False)
    view = memoryview(bytearray(8))
    assert [stream.readinto(view) for _ in range(3)] == [2, 1, 0]


def test_a_dictionary_or_window_beyond_the_limit_is_refused_in_one_line():
    data = crafted.pcap(MANY)
    options = [{"id": lzma.FILTER_LZMA2, "dict_size": 256 << 20, "preset": 0}]
    header = bytearray(lzma.compress(data, lzma.FORMAT_XZ, filters=options))
    window = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(
            window_log=28, hash_log=10, chain_log=10, strategy=1, write_content_size=0
        )
    ).compressobj()
    wide = window.compress(data) + window.flush()
    for compressed in (bytes(header), wide):
        batches, stats, message = read(compressed)
        assert stats.packets == sum(map(len, batches)) == 0
        assert message is not None
        assert "more than 128 MiB of memory are needed to decompress it near byte" in message


def test_what_swells_a_thousandfold_needs_little_memory():
    """Peak memory of a fresh process; 128 MiB of zeros in one record beyond what any record may hold."""
    program = (
        "import io, resource, zstandard, gzip, bz2, lzma\n"
        "from apptell.capture import open_capture\n"
        "from apptell.errors import CaptureError\n"
        "from tests.capture import crafted\n"
        "head = crafted.pcap()\n"
        "frame = zstandard.ZstdCompressor().compressobj()\n"
        "bomb = frame.compress(head)\n"
        "piece = bytes(1 << 20)\n"
        "for _ in range(128): bomb += frame.compress(piece)\n"
        "bomb += frame.flush()\n"
        "begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "n = 0\n"
        "with open_capture(io.BytesIO(bomb)) as reader:\n"
        "    for batch in reader: n += len(batch)\n"
        "print(len(bomb), n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begin)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    size, n_packets, grown_kib = map(int, done.stdout.split())
    assert size < 100_000
    assert n_packets == len(FRAMES) + (128 << 20) // 16  # of zeros: records without bytes
    assert grown_kib < 64 << 10


@pytest.mark.parametrize(
    ("member", "least"),
    [(struct.pack("<II", 0x184D2A50, 0), 200_000), (gzip.compress(b""), 20_000)],
    ids=["skippable", "empty gzip"],
)
def test_the_work_for_tiny_members_grows_with_their_number_alone(member, least):
    def seconds(n: int) -> float:
        data = COMPRESSORS["gzip" if n and member[:2] == b"\x1f\x8b" else "zstd"](crafted.pcap())
        stream = member * n + data
        begin = time.process_time()
        assert frames_of(read(stream)[0]) == FRAMES
        return time.process_time() - begin

    once = min(seconds(least) for _ in range(2))
    twice = min(seconds(2 * least) for _ in range(2))
    assert twice < 4 * once + 0.5


def test_a_frame_to_be_skipped_that_is_cut_short_is_damage():
    skip = struct.pack("<II", 0x184D2A53, 500) + b"12345"
    batches, _, message = read(COMPRESSORS["zstd"](crafted.pcap()) + skip)
    assert frames_of(batches) == FRAMES
    assert message is not None
    assert "cut short" in message
