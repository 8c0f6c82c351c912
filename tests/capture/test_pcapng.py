import gc
import io
import struct
import time
from fractions import Fraction
from math import floor

import numpy as np
import pytest

from apptell.capture import Owner, pcapng_scan
from apptell.capture.columns import Columns
from apptell.capture.window import Window
from apptell.errors import CaptureError
from apptell.flows.state import FlowMemory
from apptell.names import read_flows
from apptell.packets.reassembly import Reassembler
from apptell.testing import conversation
from tests.capture import crafted, pcapng_twin
from tests.capture.crafted import FRAMES, START_S
from tests.capture.test_pcap import frames_of, read, times_of
from tests.fuzz.runner import mutant
from tests.fuzz.targets.captures import TARGET

ORDERS = pytest.mark.parametrize("order", ["<", ">"])
PREAMBLE = crafted.section() + crafted.interface()


@ORDERS
def test_all_packet_blocks_are_read_and_the_others_counted(order):
    batches, stats, message = read(crafted.rich_pcapng(order))
    assert message is None
    assert frames_of(batches) == FRAMES[:5]
    base = START_S * 10**9
    assert times_of(batches) == [base, base, base + 5_000, base + 9_000, base + 9_000]
    assert batches[0].link_type.tolist() == [1, 101, 1, 1, 1]
    assert batches[0].interface.tolist() == [0, 1, 0, 0, 0]
    assert batches[0].direction.tolist() == [0, 1, 0, 0, 0]
    assert stats.skipped_blocks == {"interface statistics": 1, "custom": 1}
    assert stats.link_types == {"ETHERNET": 4, "RAW": 1}
    assert stats.interfaces == 2


@ORDERS
def test_owners_come_from_comments_custom_blocks_and_process_blocks(order):
    batches, _, _ = read(crafted.rich_pcapng(order))
    owners = [
        batches[0].owners[index] if index >= 0 else None for index in batches[0].owner.tolist()
    ]
    chat = Owner(uid=10123, package="org.example.chat", name="Chat")
    assert owners == [chat, None, None, Owner(uid=812, name="nsurlsessiond"), None]


def test_a_uid_without_a_name_is_an_owner_and_gets_its_name_when_it_comes():
    data = PREAMBLE
    for text in ("u-10001", "u--1", "u-x", "hello", "u-99999999999"):
        data += crafted.enhanced(FRAMES[0], options=crafted.comment(text))
    data += crafted.pcapdroid_owner(10001, "a.b", "B")
    data += crafted.enhanced(FRAMES[0], options=crafted.comment("u-10001"))
    data += crafted.enhanced(FRAMES[0], options=crafted.comment("u-10001\0\0"))
    data += crafted.enhanced(FRAMES[0], options=crafted.comment("u-\0"))
    (batch,), _, _ = read(data)
    assert batch.owner.tolist() == [0, 1, -1, -1, -1, 2, 2, -1]
    assert batch.owners == [Owner(uid=10001), Owner(uid=-1), Owner(10001, "a.b", "B")]


def test_sections_of_both_byte_orders_count_interfaces_on_and_forget_owners():
    data = crafted.rich_pcapng() + crafted.rich_pcapng(">")
    data += PREAMBLE + crafted.enhanced(FRAMES[6], options=crafted.comment("u-10123"))
    batches, stats, message = read(data)
    assert message is None
    assert frames_of(batches) == [*FRAMES[:5], *FRAMES[:5], FRAMES[6]]
    assert stats.interfaces == 5
    interfaces = [int(value) for batch in batches for value in batch.interface]
    assert interfaces == [0, 1, 0, 0, 0, 2, 3, 2, 2, 2, 4]
    last = batches[-1]
    assert last.owners[int(last.owner[-1])] == Owner(uid=10123)


@pytest.mark.parametrize("value", [0, 3, 6, 9, 10, 12, 18, 28, 40, 127])
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("ticks", [0, 1, 999_999_999, 1 << 40, (1 << 63) + 12345, (1 << 64) - 1])
def test_times_are_exact_for_every_resolution(value, binary, ticks):
    options = crafted.resolution(value | 0x80 if binary else value)
    data = crafted.section() + crafted.interface(options=options)
    (batch,), _, _ = read(data + crafted.enhanced(FRAMES[0], ticks=ticks))
    exact = floor(Fraction(ticks * 10**9, 2**value if binary else 10**value))
    assert int(batch.time_ns[0]) == min(exact, 2**63 - 1)


@pytest.mark.parametrize("offset", [5, -5, START_S, 2**63 - 1, -(2**63)])
def test_the_time_offset_of_an_interface_is_added(offset):
    data = crafted.section() + crafted.interface(options=crafted.time_offset(offset))
    (batch,), _, _ = read(data + crafted.enhanced(FRAMES[0], ticks=7_000_000))
    exact = 7 * 10**9 + offset * 10**9
    if abs(offset) < 2**60:
        assert int(batch.time_ns[0]) == exact
    else:
        assert (int(batch.time_ns[0]) > 0) == (offset > 0)


def test_simple_packets_are_cut_by_the_snap_length():
    data = crafted.section() + crafted.interface(snap_length=50)
    (batch,), stats, _ = read(data + crafted.simple(FRAMES[0][:50], wire=900))
    assert batch.frame(0) == FRAMES[0][:50]
    assert batch.wire.tolist() == [900]
    assert stats.cut_packets == 1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (struct.pack("<II", 6, 7) + bytes(64), "block length 7 is not a multiple of 4"),
        (struct.pack("<II", 6, 8) + bytes(64), "block length 8 is too short"),
        (struct.pack("<III", 6, 12, 12) + bytes(64), "block length 12 is too short"),
        (struct.pack("<II", 6, 1 << 30) + bytes(64), "block length 1073741824 is too long"),
        (struct.pack("<IIII", 9, 16, 0, 20) + bytes(64), "the two lengths of a block differ"),
        (crafted.enhanced(FRAMES[0], number=3), "packet of interface 3, which is not described"),
        (
            crafted.block(6, struct.pack("<IIIII", 0, 0, 0, 500, 500) + bytes(60)),
            "captured length 500 does not fit its block",
        ),
        (
            crafted.block(6, struct.pack("<IIIII", 0, 0, 0, 262_145, 9) + bytes(262_145)),
            "captured length 262145 is too large",
        ),
        (
            struct.pack("<IIIHHq", 0x0A0D0D0A, 28, 0x1A2B3C4E, 1, 0, -1),
            "no byte-order magic in the section header",
        ),
        (crafted.section(version=(2, 0)), "pcapng version 2 is not known"),
        (struct.pack("<IIHH", 1, 16, 1, 0) + struct.pack("<I", 16), "block length 16 is too short"),
    ],
)
def test_wrong_blocks_are_damage_that_names_what_and_where(bad, message):
    data = PREAMBLE + crafted.enhanced(FRAMES[0]) + crafted.enhanced(FRAMES[1])
    batches, _, found = read(data + bad + bytes(32))
    assert frames_of(batches) == FRAMES[:2]
    assert found == f"stream: {message} at byte {len(data)}"


def test_millions_of_unknown_blocks_are_passed_over_in_the_kernel():
    kinds = range(0x1000, 0x1000 + 80)  # more kinds than the kernel has slots for
    unknown = b"".join(crafted.block(kind, b"\1\2\3\4") * 3 for kind in kinds)
    batches, stats, message = read(PREAMBLE + unknown + crafted.enhanced(FRAMES[0]))
    assert message is None
    assert frames_of(batches) == FRAMES[:1]
    assert stats.skipped_blocks == {f"0x{kind:08x}": 3 for kind in kinds}


def test_options_that_do_not_fit_leave_the_packet_alone():
    options = struct.pack("<HH", 1, 500) + b"u-12"
    (batch,), _, message = read(PREAMBLE + crafted.enhanced(FRAMES[0], options=options))
    assert message is None
    assert batch.owner.tolist() == [-1]


@ORDERS
def test_the_kernel_in_plain_python_reads_within_bounds_and_agrees(order):
    data = crafted.section(order) + crafted.interface(order)
    body = b"".join(
        crafted.enhanced(frame, order, ticks=i, options=crafted.flags(2, order))
        for i, frame in enumerate(FRAMES)
    )
    interfaces = np.zeros(1, dtype=pcapng_scan.INTERFACE).view(np.recarray)
    interfaces[0]["unit"], interfaces[0]["largest"] = 1000, 262_144
    uids = pcapng_scan.UidTable.empty(4, 1)
    empty, none = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int32)
    section = pcapng_scan.PcapngSection(order == ">", interfaces, 0, empty, empty, uids, none)
    for end in range(0, len(body) + 1, 4):
        columns = Columns(16)
        results = []
        for scan in (pcapng_scan.scan_blocks.py_func, pcapng_scan.scan_blocks):
            buffer = np.frombuffer(body[:end], dtype=np.uint8).copy()
            with np.errstate(over="ignore"):
                found = scan(buffer, 0, end + 64, 0, section, 1 << 24, columns.rows())
            results.append((tuple(map(int, found)), columns.time_ns[: found[0]].tolist()))
        assert results[0] == results[1]
        n = results[0][0][0]
        assert results[0][1] == [i * 1000 for i in range(n)]
    assert n == len(FRAMES)
    assert frames_of(read(data + body)[0]) == FRAMES


def test_spoiled_captures_give_what_the_plain_twin_gives():
    captures = {
        "little": crafted.rich_pcapng(),
        "big": crafted.rich_pcapng(">"),
        "mixed": crafted.rich_pcapng() + crafted.rich_pcapng(">"),
    }
    n_with_packets = 0
    seeds = {name: {"in": data} for name, data in captures.items()}
    for number in range(1500):
        data = mutant(TARGET, seeds, 11, number)[1]["in"]
        if data[:4] != b"\n\r\r\n":
            continue
        batches, _, _ = read(data)
        got = [
            (
                batch.frame(row),
                int(batch.wire[row]),
                int(batch.time_ns[row]),
                int(batch.link_type[row]),
                int(batch.direction[row]),
            )
            for batch in batches
            for row in range(len(batch))
        ]
        assert got == pcapng_twin.packets(data)
        n_with_packets += bool(got)
    assert n_with_packets > 300


def test_a_process_id_has_a_sign_and_reaches_the_flows():
    block = crafted.darwin_process(2**32 - 5, "kernel")
    of_process = crafted.option(0x8001, struct.pack("<I", 0))
    talk = conversation(("10.0.0.2", 40000), ("192.0.2.7", 443), [(True, b"hello")])
    packets = [crafted.enhanced(frame, options=of_process) for _, frame in talk]
    data = crafted.section() + crafted.interface() + block + b"".join(packets)
    (flow,) = read_flows(io.BytesIO(data)).to_flows()
    assert (flow.owner_uid, flow.owner_name) == (-5, "kernel")


def test_the_work_for_many_uids_grows_with_their_number_alone():
    def seconds(n: int) -> float:
        packets = [crafted.enhanced(b"x", options=crafted.comment(f"u-{uid}")) for uid in range(n)]
        data = crafted.section() + crafted.interface() + b"".join(packets * 2)
        begin = time.process_time()
        batches, _, message = read(data)
        took = time.process_time() - begin
        assert message is None
        owners = [batch.owners[index].uid for batch in batches for index in batch.owner.tolist()]
        assert owners == [*range(n)] * 2
        return took

    few = min(seconds(15_000) for _ in range(2))
    assert seconds(60_000) < 8 * few + 0.5


def test_the_work_for_many_processes_grows_with_their_number_alone():
    def seconds(n: int) -> float:
        blocks = b"".join(crafted.darwin_process(number, "a") for number in range(n))
        last = crafted.option(0x8001, struct.pack("<I", n - 1))
        data = (
            crafted.section() + crafted.interface() + blocks + crafted.enhanced(b"x", options=last)
        )
        begin = time.process_time()
        (batch,), _, message = read(data)
        took = time.process_time() - begin
        assert message is None
        assert batch.owners[batch.owner[0]].uid == n - 1
        return took

    few = min(seconds(15_000) for _ in range(2))
    assert seconds(60_000) < 8 * few + 0.5


def test_kinds_of_blocks_beyond_a_number_are_counted_together():
    strange = b"".join(crafted.block(1000 + kind, b"") for kind in range(2000))
    _, stats, message = read(crafted.section() + crafted.interface() + strange)
    assert message is None
    assert sum(stats.skipped_blocks.values()) == 2000
    assert len(stats.skipped_blocks) < 400
    assert stats.skipped_blocks["other"] > 1000


def test_the_name_of_a_process_is_kept_up_to_a_length():
    block = crafted.darwin_process(1, "n" * 60_000)
    of_process = crafted.option(0x8001, struct.pack("<I", 0))
    data = crafted.section() + crafted.interface() + block
    (batch,), _, _ = read(data + crafted.enhanced(b"x", options=of_process))
    assert batch.owners[0].name == "n" * 256


def stores():
    """Everything alive that may hold packets: buffers of captures, flow tables, streams."""
    kinds = (Window, FlowMemory, Reassembler)
    return [value for value in gc.get_objects() if type(value) in kinds]


def test_a_reader_that_has_ended_holds_neither_buffer_nor_flow_table():
    of_other_tests = stores()
    damaged = crafted.pcap() + b"\xff" * 40
    reader = read_flows(io.BytesIO(damaged))
    with pytest.raises(CaptureError) as error:
        list(reader)
    for value in stores():
        if any(value is other for other in of_other_tests):
            continue
        arrays = [each for each in vars(value).values() if isinstance(each, np.ndarray)]
        assert sum(each.nbytes for each in arrays) < 1 << 20, type(value)
    assert error.value.__traceback__ is not None
    assert reader.stats.packets == 8
