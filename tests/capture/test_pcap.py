import io
import struct

import numpy as np
import pytest

from apptell.capture import open_capture, pcap
from apptell.capture.columns import Columns
from apptell.errors import CaptureError
from tests.capture import crafted
from tests.capture.crafted import FRAMES, START_S


def read(data, **options):
    """Copies of all batches, the stats, and the message of the damage."""
    batches, message = [], None
    with open_capture(io.BytesIO(data), **options) as reader:
        try:
            batches.extend(batch.copy() for batch in reader)
        except CaptureError as error:
            message = str(error)
        return batches, reader.stats, message


def frames_of(batches):
    return [batch.frame(row) for batch in batches for row in range(len(batch))]


def times_of(batches):
    return [int(time) for batch in batches for time in batch.time_ns]


MICRO = [(START_S + i) * 10**9 + i * 1_000_000 for i in range(len(FRAMES))]
NANO = [(START_S + i) * 10**9 + i * 1_000 for i in range(len(FRAMES))]


@pytest.mark.parametrize(
    ("data", "times", "name"),
    [
        (crafted.pcap(), MICRO, "pcap"),
        (crafted.pcap(order=">"), MICRO, "pcap"),
        (crafted.pcap(magic=0xA1B23C4D), NANO, "pcap (nanoseconds)"),
        (crafted.pcap(magic=0xA1B23C4D, order=">"), NANO, "pcap (nanoseconds)"),
        (crafted.pcap(magic=0xA1B2CD34, extra=b"\1\0\0\0\0\0\4\0"), MICRO, "pcap (modified)"),
        (
            crafted.pcap(magic=0xA1B2CD34, extra=b"\1\0\0\0\0\0\4\0\0\0\0\0"),
            MICRO,
            "pcap (modified) (28-byte records)",
        ),
        (crafted.pcap(extra=bytes(8)), MICRO, "pcap (24-byte records)"),
        (crafted.pcap(extra=bytes(4)), MICRO, "pcap (20-byte records)"),
        (
            crafted.pcap_header(magic=0x1C0001AC, extra=bytes(4)) + crafted.pcap()[24:],
            NANO,
            "pcap (Ixia, nanoseconds)",
        ),
    ],
    ids=["little", "big", "ns", "ns-big", "modified", "suse", "android", "nokia", "ixia"],
)
def test_every_variant_gives_the_same_frames(data, times, name):
    batches, stats, message = read(data)
    assert message is None
    assert frames_of(batches) == FRAMES
    assert times_of(batches) == times
    assert stats.format == name
    assert stats.link_types == {"ETHERNET": len(FRAMES)}


def test_loopback_frames_that_begin_with_zeros_are_not_taken_for_longer_headers():
    frames = [bytes(12) + b"\x08\x00" + bytes([n]) * 50 for n in range(5)]
    batches, stats, _ = read(crafted.pcap(frames))
    assert frames_of(batches) == frames
    assert stats.format == "pcap"


def test_a_single_packet_is_read_with_standard_headers():
    frame = bytes(40)
    assert frames_of(read(crafted.pcap([frame]))[0]) == [frame]


def test_frame_check_bits_in_the_link_type_are_masked():
    batches, _, _ = read(crafted.pcap(link_type=0x50000000 | (1 << 26) | 1))
    assert {int(value) for value in batches[0].link_type} == {1}


@pytest.mark.parametrize("value", [12, 14])
def test_raw_ip_under_the_values_of_other_systems_is_raw_ip(value):
    batches, stats, _ = read(crafted.pcap(link_type=value))
    assert set(batches[0].link_type.tolist()) == {101}
    assert stats.link_types == {"RAW": len(FRAMES)}


def test_an_unknown_link_type_is_named_by_its_value():
    assert read(crafted.pcap(link_type=4711))[1].link_types == {"LINKTYPE_4711": len(FRAMES)}


def test_old_versions_may_have_the_two_lengths_in_the_other_order():
    frame = bytes(range(60))
    record = struct.pack("<IIII", START_S, 0, 1400, 60) + frame
    batches, stats, message = read(crafted.pcap_header(version=(2, 3)) + record)
    assert message is None
    assert frames_of(batches) == [frame]
    assert batches[0].wire.tolist() == [1400]
    assert stats.cut_packets == 1


def test_stats_count_bytes_and_packets_cut_by_the_snap_length():
    data = crafted.pcap_header(snap_length=96) + crafted.pcap_record(bytes(96), wire=1500)
    data += crafted.pcap_record(bytes(60), seconds=START_S + 7)
    _, stats, _ = read(data)
    assert (stats.packets, stats.captured_bytes, stats.wire_bytes) == (2, 156, 1560)
    assert stats.cut_packets == 1
    assert (stats.first_ns, stats.last_ns) == (START_S * 10**9, (START_S + 7) * 10**9)


def test_a_cut_record_is_damage_after_all_packets_before_it():
    data = crafted.pcap()
    batches, stats, message = read(data[:-10])
    assert frames_of(batches) == FRAMES[:-1]
    at = len(data) - 16 - len(FRAMES[-1])
    left = len(data) - 10 - at
    assert message == f"stream: cut short, {left} bytes of a packet or block are left at byte {at}"
    assert stats.damage == message
    assert stats.packets == len(FRAMES) - 1


def test_an_absurd_captured_length_is_damage_that_names_its_byte():
    data = crafted.pcap()
    spoiled = data + struct.pack("<IIII", START_S, 0, 262_145, 262_145) + bytes(300_000)
    batches, _, message = read(spoiled)
    assert frames_of(batches) == FRAMES
    assert message == f"stream: captured length 262145 exceeds 262144 at byte {len(data)}"


def test_a_larger_snap_length_allows_larger_packets():
    frame = bytes(300_000)
    batches, _, message = read(crafted.pcap([frame], snap_length=524_288))
    assert message is None
    assert frames_of(batches) == [frame]


def test_a_frame_larger_than_the_block_that_is_read_is_whole():
    frame = bytes(range(256)) * 1000
    frames = [frame] * 12
    assert frames_of(read(crafted.pcap(frames))[0]) == frames


@pytest.mark.parametrize("size", [0, 3, 5, 23])
def test_a_header_that_is_cut_short_is_an_error(size):
    _, _, message = read(crafted.pcap()[:size])
    assert message is not None
    assert message.startswith("stream: ")


def test_a_header_without_packets_is_an_empty_capture():
    batches, stats, message = read(crafted.pcap([]))
    assert (batches, message) == ([], None)
    assert (stats.packets, stats.first_ns) == (0, None)


def test_a_batch_holds_no_more_packets_than_asked_for():
    batches, _, _ = read(crafted.pcap(), batch_packets=3)
    assert [len(batch) for batch in batches] == [3, 3, 2]
    assert frames_of(batches) == FRAMES


def scan_in_plain_python(data, start, order, header_bytes, unit_ns):
    """The records of a pcap as the specification reads."""
    rows, at = [], start
    while at + header_bytes <= len(data):
        seconds, fraction, length, wire = struct.unpack_from(order + "IIII", data, at)
        if length > 262_144 or at + header_bytes + length > len(data):
            break
        rows.append((at + header_bytes, length, wire, seconds * 10**9 + fraction * unit_ns))
        at += header_bytes + length
    return rows, at


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("spoil", [None, 5, 40, 111, 300])
def test_the_kernel_agrees_with_its_plain_twin_and_reads_within_bounds(order, spoil):
    data = bytearray(crafted.pcap(order=order))
    if spoil is not None:
        data[spoil : spoil + 2] = b"\xff\x7f"
    for end in (len(data), len(data) - 1, 100, 24, 0):
        part = bytes(data[:end])
        columns = Columns(64)
        # ``py_func`` indexes NumPy arrays, which check every bound.
        n, at, _, _ = pcap.scan_records.py_func(
            np.frombuffer(part, dtype=np.uint8),
            min(24, end),
            end + 1000,
            order == ">",
            16,
            1000,
            False,
            262_144,
            columns.rows(),
        )
        rows, stop = scan_in_plain_python(part, min(24, end), order, 16, 1000)
        got = zip(
            columns.offset[:n].tolist(),
            columns.captured[:n].tolist(),
            columns.wire[:n].tolist(),
            columns.time_ns[:n].tolist(),
            strict=True,
        )
        assert [(o, c, w, t) for o, c, w, t in got] == [
            (o, c, min(w, 2**31 - 1), t) for o, c, w, t in rows
        ]
        assert at == stop
