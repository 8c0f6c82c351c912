"""Capturing from an interface: blocks made by hand for the kernel, the loopback interface for the rest."""

import socket
import struct
import subprocess
import sys
import time
from contextlib import ExitStack

import numpy as np
import pytest

from apptell.capture import live
from apptell.capture.columns import CAPTURED_BYTES, CUT_PACKETS, WIRE_BYTES, Columns
from apptell.capture.live import LiveCapture, open_workers, read_block
from apptell.errors import ApptellError, CaptureError, MissingError, UsageError


def _may_capture() -> bool:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except (AttributeError, OSError):
        return False
    return True


needs_capture = pytest.mark.skipif(not _may_capture(), reason="capturing needs CAP_NET_RAW")


def packet(
    frame, *, next_offset, wire=None, hardware=1, kind=0, protocol=0x0800, mac=82, at=(5, 7)
):
    """struct tpacket3_hdr, struct sockaddr_ll and a frame, as linux/if_packet.h lays them out."""
    wire = len(frame) if wire is None else wire
    head = struct.pack("=IIIIIIHH", next_offset, *at, len(frame), wire, 1, mac, mac + 14)
    head = head.ljust(48, b"\0")
    address = (
        struct.pack("=H", 17)
        + struct.pack(">H", protocol)
        + struct.pack("=iHBB8s", 3, hardware, kind, 6, b"")
    )
    return (head + address).ljust(mac, b"\0") + frame


def block(packets, *, count=None, size=4096):
    """struct tpacket_block_desc and packets, each at a multiple of 16."""
    body = b""
    for i, more in enumerate(packets):
        made = more(0)
        step = (len(made) + 15) // 16 * 16
        last = i == len(packets) - 1
        body += more(0 if last else step).ljust(step, b"\0")
    n = len(packets) if count is None else count
    head = struct.pack("=IIIIIIQ", 1, 0, 1, n, 48, 48 + len(body), 1).ljust(48, b"\0")
    return (head + body).ljust(size, b"\0")


def read(data, *, start=0, size=4096, ip_only=False, capacity=64):
    ring = np.frombuffer(bytearray(data), dtype=np.uint8)
    columns = Columns(capacity)
    n = read_block(
        ring, ring.view(np.uint16), ring.view(np.uint32), start, size, ip_only, columns.offset,
        columns.captured, columns.wire, columns.time_ns, columns.direction, columns.totals,
    )  # fmt: skip
    batch = columns.batch(ring, n, [])
    return batch, columns.totals


def test_a_block_gives_its_frames_lengths_times_and_directions() -> None:
    frames = [b"first frame", b"second", b"third one"]
    data = block(
        [
            lambda step: packet(frames[0], next_offset=step, at=(1_700_000_000, 1)),
            lambda step: packet(
                frames[1], next_offset=step, wire=900, kind=4, at=(1_700_000_000, 999_999_999)
            ),
            lambda step: packet(frames[2], next_offset=step, mac=96),
        ]
    )
    batch, totals = read(bytes(4096) + data, start=4096)
    assert [batch.frame(i) for i in range(3)] == frames
    assert batch.wire.tolist() == [11, 900, 9]
    assert batch.time_ns.tolist() == [
        1_700_000_000_000_000_001,
        1_700_000_000_999_999_999,
        5_000_000_007,
    ]
    assert batch.direction.tolist() == [1, 2, 1]
    assert [totals[i] for i in (CAPTURED_BYTES, WIRE_BYTES, CUT_PACKETS)] == [26, 920, 1]


def test_what_goes_out_on_the_loopback_interface_is_left_out_since_it_comes_in_again() -> None:
    data = block(
        [
            lambda step: packet(b"out", next_offset=step, hardware=772, kind=4),
            lambda step: packet(b"in", next_offset=step, hardware=772, kind=0),
        ]
    )
    batch, _ = read(data)
    assert [batch.frame(i) for i in range(len(batch))] == [b"in"]


def test_without_a_link_header_only_ip_is_taken() -> None:
    data = block(
        [
            lambda step, p=p: packet(b"%d" % p, next_offset=step, protocol=p)
            for p in (0x0806, 0x0800, 0x86DD)
        ]
    )
    batch, _ = read(data, ip_only=True)
    assert [batch.frame(i) for i in range(len(batch))] == [b"2048", b"34525"]


@pytest.mark.parametrize("count", [0, 5])
def test_a_block_ends_where_its_chain_of_packets_ends(count) -> None:
    batch, _ = read(block([lambda step: packet(b"x", next_offset=step)], count=count))
    assert len(batch) == min(count, 1)


def test_no_more_packets_are_taken_than_there_is_room_for() -> None:
    batch, _ = read(block([lambda step: packet(b"x", next_offset=step)] * 5), capacity=2)
    assert len(batch) == 2


def test_nonsense_in_a_block_is_never_read_beyond_it(bounds_checked: dict[str, str]) -> None:
    program = """
import numpy as np
from apptell.capture.columns import Columns
from tests.capture.test_live import block, packet, read
rng = np.random.default_rng(1)
good = block([lambda step: packet(b"x" * 40, next_offset=step)] * 9)
for _ in range(3000):
    data = np.frombuffer(bytearray(good), dtype=np.uint8).copy()
    at = rng.integers(0, 600, 6)
    data[at] = rng.integers(0, 256, 6)
    batch, _ = read(data.tobytes())
    assert all(0 <= o and o + c <= 4096 for o, c in zip(batch.offset, batch.captured))
assert len(read(good, start=0, size=8192)[0]) == 0
print("whole")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**bounds_checked, "NUMBA_DISABLE_JIT": "0"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "whole", done.stderr


def _send(n: int, port: int, size: int = 100) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for i in range(n):
            sender.sendto(bytes([i % 256]) * size, ("127.0.0.1", port))


def _talk(client: tuple[str, int], server: tuple[str, int]) -> None:
    """One datagram each way."""
    kinds = socket.AF_INET, socket.SOCK_DGRAM
    with socket.socket(*kinds) as one, socket.socket(*kinds) as other:
        one.bind(client)
        other.bind(server)
        one.sendto(b"question", server)
        other.sendto(b"answer", one.getsockname())


def _read_all(capture: LiveCapture, n: int) -> list[bytes]:
    frames: list[bytes] = []
    until = time.monotonic() + 60
    while len(frames) < n and time.monotonic() < until:
        batch = capture.read(0.1)
        if batch is not None:
            frames += [batch.frame(i) for i in range(len(batch))]
    return frames


@needs_capture
def test_packets_of_an_interface_come_once_each_and_only_those_the_filter_lets_through() -> None:
    with LiveCapture("lo", expression="udp dst port 47391") as capture:
        _send(1000, 47391)
        _send(50, 47392)
        frames = _read_all(capture, 1000)
        assert [frame[42] for frame in frames] == [i % 256 for i in range(1000)]
        assert capture.stats.packets == 1000
        assert capture.dropped == 0
        assert capture.read(0.2) is None


@needs_capture
def test_the_snap_length_cuts_frames_and_the_wire_length_stays() -> None:
    with LiveCapture("lo", expression="udp dst port 47393", snap=64) as capture:
        _send(3, 47393, size=500)
        found = []  # a block may hold a part of them
        while len(found) < 3 and (batch := capture.read(1.0)) is not None:
            found += zip(batch.captured.tolist(), batch.wire.tolist(), strict=True)
        assert found == [(64, 542)] * 3
        assert capture.stats.cut_packets == 3


@needs_capture
def test_any_stands_for_all_interfaces_and_gives_packets_from_their_ip_header_on() -> None:
    with LiveCapture("any", expression="udp dst port 47394") as capture:
        _send(2, 47394)
        frames = _read_all(capture, 2)
        assert [frame[0] for frame in frames] == [0x45, 0x45]


@needs_capture
def test_when_nobody_reads_the_kernels_drops_are_counted() -> None:
    with LiveCapture("lo", expression="udp dst port 47395", n_blocks=2, snap=65_535) as capture:
        _send(200, 47395, size=60_000)
        assert capture.dropped > 0
        before = capture.dropped
        assert capture.dropped == before


@needs_capture
def test_a_reader_that_stalls_for_a_while_loses_nothing_of_a_trickle() -> None:
    with LiveCapture("lo", expression="udp dst port 47398") as capture:
        for _ in range(60):  # each in a block of its own, handed over by age
            _send(1, 47398)
            time.sleep(0.01)
        assert len(_read_all(capture, 60)) == 60
        assert capture.dropped == 0


@needs_capture
def test_more_blocks_than_one_batch_takes_come_in_order() -> None:
    with LiveCapture("lo", expression="udp dst port 47399", snap=65_535) as capture:
        for i in range(30):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for j in range(4):
                    sender.sendto(bytes([i * 4 + j]) * 40_000, ("127.0.0.1", 47399))
        frames = _read_all(capture, 120)
        assert [frame[42] for frame in frames] == list(range(120))
        assert capture.dropped == 0


@needs_capture
def test_workers_share_the_packets_and_both_directions_of_a_flow_go_to_one() -> None:
    expression = "udp port 47396"
    where: dict[frozenset[bytes], set[int]] = {}
    with ExitStack() as opened:
        captures = [
            opened.enter_context(each) for each in open_workers("lo", 3, expression=expression)
        ]
        for i in range(60):
            _talk((f"127.0.1.{i}", 0), (f"127.0.2.{i}", 47396))
        time.sleep(0.05)
        n = 0
        for worker, capture in enumerate(captures):
            while (batch := capture.read(0.1)) is not None:
                for row in range(len(batch)):
                    frame = batch.frame(row)
                    where.setdefault(frozenset((frame[26:30], frame[30:34])), set()).add(worker)
                    n += 1
    assert n == 120
    assert len(where) == 60
    assert {len(workers) for workers in where.values()} == {1}
    assert {worker for workers in where.values() for worker in workers} == {0, 1, 2}


@needs_capture
def test_groups_of_workers_do_not_take_each_others_packets() -> None:
    with ExitStack() as opened:
        groups = [open_workers("lo", 2, expression="udp dst port 47397") for _ in range(2)]
        for capture in (*groups[0], *groups[1]):
            opened.enter_context(capture)
        _send(10, 47397)
        for group in groups:
            for capture in group:
                while capture.read(0.2) is not None:
                    pass
            assert sum(capture.stats.packets for capture in group) == 10


@needs_capture
def test_an_interface_that_does_not_exist_is_said_so_with_those_that_do() -> None:
    with pytest.raises(CaptureError, match=r"nowhere0: no such interface; available: .*lo"):
        LiveCapture("nowhere0")


@pytest.mark.skipif(not hasattr(socket, "AF_PACKET"), reason="Linux alone has AF_PACKET")
def test_a_filter_that_does_not_compile_is_quoted() -> None:
    with pytest.raises((UsageError, MissingError), match=r"tcpp|libpcap"):
        LiveCapture("lo", expression="tcpp port 443")


def test_without_the_permission_the_pipe_is_shown(monkeypatch) -> None:
    real = socket.socket

    def refuse(family, *more):
        if family == socket.AF_PACKET:
            raise PermissionError
        return real(family, *more)

    monkeypatch.setattr(live.socket, "socket", refuse)
    with pytest.raises(
        MissingError, match=r"CAP_NET_RAW.*tcpdump -i lo -w - \| apptell live -"
    ) as error:
        LiveCapture("lo")
    assert error.value.exit_code == 3


def test_elsewhere_than_on_linux_the_pipe_is_shown(monkeypatch) -> None:
    monkeypatch.delattr(live.socket, "AF_PACKET")
    with pytest.raises(MissingError, match=r"tcpdump -i en0 -w - \| apptell live -"):
        LiveCapture("en0")


@pytest.mark.parametrize("values", [{"snap": 10}, {"snap": 70_000}])
def test_values_that_cannot_be_are_refused(values) -> None:
    with pytest.raises(ApptellError) as error:
        LiveCapture("lo", **values)
    assert error.value.exit_code == 2
