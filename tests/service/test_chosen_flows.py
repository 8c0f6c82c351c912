"""Which packets are taken for a chosen flow: its own, from the ring and later, and none of the next one."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from apptell.capture import open_capture
from apptell.packets import Decoder
from apptell.records.extraction import SAID
from apptell.service import chosen_flows
from apptell.service.chosen_flows import ChosenFlows
from apptell.service.extract_files import ExtractFiles
from apptell.service.packet_ring import RingPiece
from apptell.testing import START_NS, Packet, conversation, udp_frame, write_pcap
from tests.packets.test_decode import ipv4

CLIENT, SERVER = ("192.168.1.2", 50000), ("203.0.113.1", 443)
SECOND = 10**9
IDLE_NS = 90 * SECOND


@pytest.fixture
def chosen(tmp_path: Path) -> ChosenFlows:
    files = ExtractFiles(tmp_path / "x.pcapng", 1 << 20, 3, lambda _: None)
    return ChosenFlows(files, 1 << 20, IDLE_NS)


def piece_of(tmp_path: Path, packets: Iterable[Packet]) -> RingPiece:
    with open_capture(write_pcap(tmp_path / "in.pcap", packets)) as reader:
        return RingPiece(next(iter(reader)).copy(), "in", Decoder(0))


def record(
    event: str = "verdict", *, number: int = 1, is_chosen: bool = True, **more: Any
) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(SAID) | {
        "event": event, "connection_id": number, "part": 0, "protocol": "tcp", "app": "signal",
        "client_address": CLIENT[0], "client_port": CLIENT[1],
        "server_address": SERVER[0], "server_port": SERVER[1],
        "packets_to_server": 5, "packets_to_client": 5,
        "start_ns": START_NS, "end_ns": START_NS + SECOND, "is_chosen": is_chosen,
    }  # fmt: skip
    return row | more


def written(chosen: ChosenFlows, tmp_path: Path) -> list[Packet]:
    chosen.files.close()
    found: list[Packet] = []
    for path in sorted(tmp_path.glob("x_*.pcapng")):
        with open_capture(path) as reader:
            for batch in reader:
                found += [(int(batch.time_ns[row]), batch.frame(row)) for row in range(len(batch))]
    return found


def test_packets_come_from_the_ring_and_then_as_they_arrive_until_the_end(
    chosen: ChosenFlows, tmp_path: Path
) -> None:
    packets = conversation(CLIENT, SERVER, [(True, b"a"), (False, b"b")] * 4)
    others = conversation(("192.168.1.2", 50001), SERVER, [(True, b"a")] * 3)
    first = piece_of(tmp_path, [*packets[:4], *others])
    chosen.choose([record(number=2, is_chosen=False, client_port=50001), record()], [first])
    chosen.choose([record(revised=True)], [first])  # is not taken twice
    chosen.take(piece_of(tmp_path, packets[4:9]))
    chosen.choose([record("end", packets_to_server=6, packets_to_client=6)], [first])
    chosen.take(piece_of(tmp_path, packets[9:]))
    assert written(chosen, tmp_path) == packets[:9]
    assert (chosen.flows, chosen.missed) == (1, 3)


def test_an_end_without_a_verdict_before_chooses_a_flow_up_to_its_end(
    chosen: ChosenFlows, tmp_path: Path
) -> None:
    packets = [(START_NS + i * SECOND, udp_frame(CLIENT, SERVER, bytes([i]))) for i in range(5)]
    end = record(
        "end",
        protocol="udp",
        end_ns=START_NS + 2 * SECOND,
        packets_to_server=3,
        packets_to_client=0,
    )
    chosen.choose([end], [piece_of(tmp_path, packets)])
    assert written(chosen, tmp_path) == packets[:3]
    assert chosen.missed == 0


def test_the_next_connection_of_the_same_ports_is_not_part_of_it(
    chosen: ChosenFlows, tmp_path: Path
) -> None:
    """Although the end of the first one was not reported yet."""
    one = conversation(CLIENT, SERVER, [(True, b"a")] * 5)
    other = conversation(CLIENT, SERVER, [(True, b"b")] * 5, start_ns=START_NS + SECOND)
    chosen.choose([record()], [piece_of(tmp_path, one + other)])
    assert written(chosen, tmp_path) == one


def test_packets_after_a_silence_are_not_part_of_it(chosen: ChosenFlows, tmp_path: Path) -> None:
    packets = [
        (START_NS + at * SECOND, udp_frame(CLIENT, SERVER, bytes(9))) for at in (0, 1, 91, 182, 183)
    ]
    chosen.choose([record(protocol="udp")], [piece_of(tmp_path, packets)])
    assert written(chosen, tmp_path) == packets[:3]


def test_two_flows_of_the_same_ports_share_no_packet(chosen: ChosenFlows, tmp_path: Path) -> None:
    packets = [(START_NS + i * SECOND, udp_frame(CLIENT, SERVER, bytes([i]))) for i in range(6)]
    later = record(number=2, protocol="udp", start_ns=START_NS + 3 * SECOND)
    chosen.choose([later, record(protocol="udp")], [piece_of(tmp_path, packets)])
    ends = [
        record("end", number=number, packets_to_server=3, packets_to_client=0) for number in (1, 2)
    ]
    chosen.choose(ends, [])
    assert written(chosen, tmp_path) == packets
    assert chosen.missed == 0


def test_fragments_without_ports_are_taken_with_the_flow(
    chosen: ChosenFlows, tmp_path: Path
) -> None:
    datagram = udp_frame(CLIENT, SERVER, bytes(100))[34:]
    parts = [
        ipv4(17, datagram[:56], fragment=0x2000),
        ipv4(17, datagram[56:], fragment=56 // 8),
    ]
    packets = [(START_NS + i, bytes(12) + b"\x08\x00" + part) for i, part in enumerate(parts)]
    source, target = (".".join(map(str, parts[0][at : at + 4])) for at in (12, 16))
    row = record(protocol="udp", client_address=source, server_address=target)
    chosen.choose([row], [piece_of(tmp_path, packets)])
    assert written(chosen, tmp_path) == packets
    chosen.choose([record("end", packets_to_server=1, packets_to_client=0)], [])
    assert chosen.missed == 0  # a datagram counts once


def test_a_flow_has_a_bound_and_no_packet_behind_it(tmp_path: Path) -> None:
    files = ExtractFiles(tmp_path / "x.pcapng", 1 << 20, 3, lambda _: None)
    chosen = ChosenFlows(files, 2500, IDLE_NS)
    sizes = (900, 900, 900, 10, 10)
    packets = [
        (START_NS + i, udp_frame(CLIENT, SERVER, bytes(size))) for i, size in enumerate(sizes)
    ]
    chosen.choose([record(protocol="udp")], [piece_of(tmp_path, packets)])
    chosen.choose([record("end", packets_to_server=5, packets_to_client=0)], [])
    assert written(chosen, tmp_path) == packets[:2]
    assert (chosen.limited, chosen.missed) == (3, 0)


def test_only_so_many_flows_are_followed(
    chosen: ChosenFlows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chosen_flows, "MAX_FOLLOWED", 1)
    chosen.choose([record(protocol="udp")], [])
    chosen.choose([record(number=2, protocol="udp", client_port=50001)], [])
    packets = [
        (START_NS, udp_frame(("192.168.1.2", port), SERVER, bytes(9))) for port in (50000, 50001)
    ]
    chosen.take(piece_of(tmp_path, packets))
    assert written(chosen, tmp_path) == packets[1:]
    assert (chosen.flows, chosen.dropped) == (2, 1)
