"""``identify --all-flows``: records whose packets and bytes add up to those of the capture."""

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from apptell.testing import (
    ACK,
    FIN,
    RST,
    START_NS,
    SYN,
    Packet,
    client_hello,
    conversation,
    tcp_frame,
    udp_frame,
    write_pcap,
)

from .conftest import Run

CLIENT, SERVER = ("192.168.1.2", 50000), ("203.0.113.1", 443)
LATER = 10**9


def _port(number: int) -> tuple[str, int]:
    return (CLIENT[0], number)


def _tagged(frame: bytes, *vlans: int) -> bytes:
    """The frame with 802.1Q tags, the outermost first."""
    tags = b"".join(struct.pack(">HH", 0x8100, vlan) for vlan in vlans)
    return frame[:12] + tags + frame[12:]


def _vxlan(frame: bytes, number: int) -> bytes:
    header = struct.pack(">II", 0x08000000, number << 8)
    return udp_frame(("10.1.0.1", 40000), ("10.1.0.2", 4789), header + frame)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Connections that ended in different ways, one without an answer, DNS, tags and a tunnel."""
    hello = [(True, client_hello("signal.org")), (False, bytes(900))]
    whole = conversation(_port(50001), SERVER, hello + [(True, bytes(90))] * 4)
    packets: list[Packet] = list(whole)
    packets += [(START_NS + LATER, tcp_frame(_port(50002), SERVER, flags=SYN, sequence=1))]
    refused = (tcp_frame(_port(50003), SERVER, flags=SYN, sequence=1),)
    refused += (tcp_frame(SERVER, _port(50003), flags=RST | ACK, sequence=0, acknowledgement=2),)
    packets += [(START_NS + 2 * LATER + at, frame) for at, frame in enumerate(refused)]
    tagged = conversation(_port(50004), SERVER, hello, start_ns=START_NS + 3 * LATER, close=False)
    packets += [(time, _tagged(frame, 7, 30)) for time, frame in tagged]
    inside = conversation(_port(50005), SERVER, hello, start_ns=START_NS + 4 * LATER)
    packets += [(time, _vxlan(frame, 5001)) for time, frame in inside]
    packets += [
        (START_NS + 5 * LATER, udp_frame(_port(50006), ("192.168.1.1", 53), bytes(20))),
        (START_NS + 5 * LATER + 1, tcp_frame(_port(50007), SERVER, flags=FIN | ACK)),
    ]
    path = tmp_path_factory.mktemp("all") / "mixed.pcap"
    write_pcap(path, packets)
    return path


def _rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def records(run: Run, mixed: Path) -> list[dict[str, Any]]:
    done = run("identify", mixed, "--all-flows")
    assert done.returncode == 0, done.stderr
    return _rows(done.stdout)


def test_packets_and_bytes_add_up_to_those_of_inspect(
    run: Run, mixed: Path, records: list[dict[str, Any]]
) -> None:
    report = json.loads(run("inspect", mixed, "--transport", "tcp,udp", "--json").stdout)
    packets = sum(row["packets_to_server"] + row["packets_to_client"] for row in records)
    assert packets == report["packets"]["in_flows"]
    assert len(records) == 7
    assert len(_rows(run("identify", mixed).stdout)) == 4


@pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark")
def test_packets_and_bytes_are_those_of_tshark(mixed: Path, records: list[dict[str, Any]]) -> None:
    """The innermost IP lengths of all TCP and UDP packets."""
    fields = ("-T", "fields", "-e", "ip.len")
    words = ("tshark", "-r", str(mixed), "-Y", "tcp or udp", *fields)
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    lengths = [int(line.split(",")[-1]) for line in lines]
    counted = [
        sum(row[f"{what}_to_server"] + row[f"{what}_to_client"] for row in records)
        for what in ("packets", "bytes")
    ]
    assert counted == [len(lengths), sum(lengths)]


def test_each_flow_has_its_state_and_the_reason_why_it_is_not_named(
    records: list[dict[str, Any]],
) -> None:
    found = {row["client_port"]: (row["conn_state"], row["outcome"], row["app"]) for row in records}
    assert found == {
        50001: ("SF", "named", "signal"),
        50002: ("S0", "named", "signal"),  # by the address that was reached before
        50003: ("REJ", "named", "signal"),
        50004: ("S1", "named", "signal"),
        50005: ("SF", "named", "signal"),
        50006: ("S0", "shared service", None),
        50007: ("SH", "named", "signal"),
    }


def test_link_layer_tags_and_tunnels_are_in_the_records(records: list[dict[str, Any]]) -> None:
    by_port = {row["client_port"]: row for row in records}
    tagged, inside, plain = by_port[50004], by_port[50005], by_port[50001]
    assert (tagged["vlan"], tagged["inner_vlan"], tagged["tunnel"]) == (7, 30, None)
    assert (inside["vlan"], inside["tunnel"]) == (None, "vxlan:5001")
    assert plain["client_mac"] != plain["server_mac"]
    assert (plain["flags_to_server"], plain["flags_to_client"]) == (
        SYN | ACK | FIN | 8,
        SYN | ACK | FIN | 8,
    )
    assert plain["interface"] == 0


def test_the_flows_that_have_verdicts_anyway_have_the_same_ones(
    run: Run, mixed: Path, records: list[dict[str, Any]]
) -> None:
    usual = _rows(run("identify", mixed).stdout)
    ids = {row["connection_id"] for row in usual}
    names = usual[0].keys()
    assert [
        {name: row[name] for name in names} for row in records if row["connection_id"] in ids
    ] == usual


def test_flows_have_the_columns_too_and_zeek_has_its_names(run: Run, mixed: Path) -> None:
    rows = _rows(run("flows", mixed, "--columns", "link").stdout)
    assert {row["conn_state"] for row in rows} == {"SF", "S0", "REJ", "S1", "SH"}
    lines = run("identify", mixed, "--all-flows", "--format", "zeek-json").stdout
    tagged = next(row for row in _rows(lines) if row["id.orig_p"] == 50004)
    assert (tagged["vlan"], tagged["inner_vlan"], tagged["conn_state"]) == (7, 30, "S1")


@pytest.mark.parametrize("options", [(), ("--evidence", "model")])
def test_the_ends_of_live_are_the_records_of_a_file(
    run: Run, mixed: Path, options: tuple[str, ...]
) -> None:
    words = [sys.executable, "-m", "apptell.cli", "live", "--replay", str(mixed), "--speed", "max"]
    live = subprocess.run(
        [*words, "--all-flows", *options], capture_output=True, text=True, check=True
    )
    ends = {row["connection_id"]: row for row in _rows(live.stdout) if row.pop("event") == "end"}
    whole = _rows(run("identify", mixed, "--all-flows", *options).stdout)
    assert len(ends) == len(whole)
    for row in whole:
        end = ends[row["connection_id"]]
        assert {name: end[name] for name in row if name != "capture"} == {
            name: value for name, value in row.items() if name != "capture"
        }
