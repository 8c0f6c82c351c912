"""The filters of ``identify``, ``flows`` and ``live`` select the same flows."""

import json
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import apptell
from apptell.testing import START_NS, client_hello, conversation, udp_frame, write_pcap

from .conftest import Run

SERVERS = {
    "signal.org": "203.0.113.1",
    "web.whatsapp.com": "203.0.113.2",
    "a.example": "198.51.100.3",
}
CLIENTS = ("192.168.1.2", "192.168.2.3")


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Flows of two clients to two apps and an unlisted name."""
    packets: list[tuple[int, bytes]] = []
    for at, client in enumerate(CLIENTS):
        for place, (name, address) in enumerate(SERVERS.items()):
            packets += conversation(
                (client, 50000 + place),
                (address, 443),
                [(True, client_hello(name)), (False, bytes(900))],
                start_ns=START_NS + (3 * at + place) * 10**9,
            )
    path = tmp_path_factory.mktemp("filters") / "named.pcap"
    write_pcap(path, packets)
    return path


def _rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def _ends(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return sorted((row["client_address"], row["server_address"]) for row in rows)


def _flows(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(row["community_id"] for row in rows)


@pytest.mark.parametrize(
    ("options", "n"),
    [
        (("--app", "signal"), 2),
        (("--app", "signal,whatsapp", "--client", "192.168.1.0/24"), 2),
        (("--server", "198.51.100.0/24", "--server", "203.0.113.2"), 4),
        (("--not-named",), 2),
        (("--outcome-is", "unlisted-name"), 2),
        (("--only-named", "--evidence-is", "name", "--min-confidence", "0.99"), 4),
        (("--category", "messaging"), 4),
    ],
)
def test_the_flows_that_meet_all_conditions_are_written(
    run: Run, named: Path, options: tuple[str, ...], n: int
) -> None:
    done = run("identify", named, *options)
    assert done.returncode == 0, done.stderr
    chosen = _ends(_rows(done.stdout))
    assert len(chosen) == n
    assert f"The filters select {n} of these flows." in done.stderr
    assert "6 flows:" in done.stderr


def test_files_and_live_select_the_same_flows(run: Run, named: Path) -> None:
    options = ("--app", "signal,whatsapp", "--client", "192.168.1.0/24")
    chosen = _ends(_rows(run("identify", named, *options).stdout))
    as_live = run("identify", named, "--out", "jsonl:-", *options)
    assert _ends([row for row in _rows(as_live.stdout) if row["event"] == "verdict"]) == chosen
    words = [
        sys.executable,
        "-m",
        "apptell.cli",
        "live",
        "--replay",
        str(named),
        "--speed",
        "max",
        *options,
    ]
    live = subprocess.run(words, capture_output=True, text=True, check=True)
    for event in ("verdict", "end"):
        assert _ends([row for row in _rows(live.stdout) if row["event"] == event]) == chosen
    # the counts are of all flows
    assert (
        "6 flows: 4 app flows of 2 apps, 2 of services, 0 background, 0 not named." in live.stderr
    )


def test_explanations_and_the_view_are_filtered_too(run: Run, named: Path) -> None:
    options = ("--app", "signal,whatsapp", "--client", "192.168.1.0/24")
    done = run("explain", named, *options)
    identified = _rows(run("identify", named, *options).stdout)
    assert _flows(_rows(done.stdout)) == _flows(identified)
    assert "2 flows meet the filters." in done.stderr
    shown = _rows(run("top", "--replay", named, "--speed", "max", *options).stdout)
    assert {row["app"]: row["flows"] for row in shown} == {"signal": 1, "whatsapp": 1}


def test_a_flow_that_the_filters_leave_out_is_not_explained(run: Run, named: Path) -> None:
    flow = _rows(run("identify", named, "--app", "signal").stdout)[0]["community_id"]
    done = run("explain", named, "--flow", flow, "--app", "whatsapp")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        f"no flow with a verdict has the Community ID {flow} and meets the filters" in done.stderr
    )


def test_files_and_live_count_flows_by_the_same_rule(run: Run) -> None:
    """Flows of apps, services and the background, and those not named, of the embedded sample."""
    sample = Path(apptell.__file__).parent / "samples" / "named" / "named.pcap.xz"
    of_file = run("identify", sample).stderr
    live = run("live", "--replay", sample, "--speed", "max")
    assert live.returncode == 0, live.stderr
    counted = re.compile(r"[\d,]+ flows: .* not named")
    (from_file,), (from_live,) = counted.findall(of_file), counted.findall(live.stderr)
    assert from_live == from_file
    assert not re.search(r"\b0 (app flows|background)", from_live)


def test_flows_and_the_summary_are_filtered_too(run: Run, named: Path) -> None:
    found = _rows(run("flows", named, "--client", "192.168.2.3").stdout)
    assert [row["client_address"] for row in found] == ["192.168.2.3"] * 3
    rows = _rows(run("identify", named, "--summary", "--app", "signal").stdout)
    assert {row["app"] for row in rows} == {"signal"}
    assert sum(row["flows"] for row in rows if row["client"]) == 2


def test_an_unknown_app_is_refused_with_those_that_are_near(run: Run, named: Path) -> None:
    done = run("identify", named, "--app", "whatsap")
    assert done.returncode == 2
    assert "no verdict can name 'whatsap'; available: whatsapp" in done.stderr


def test_an_unknown_category_is_refused_and_kinds_of_services_are_known(
    run: Run, named: Path
) -> None:
    done = run("identify", named, "--category", "adz")
    assert done.returncode == 2
    assert "no app or service has the category 'adz'; available: ads" in done.stderr
    for kind in ("ads", "network", "unlisted", "messaging"):
        assert run("identify", named, "--category", kind).returncode == 0


def _dhcp_request(name: bytes, address: bytes) -> bytes:
    fixed = struct.pack(">BBBBI8x16x", 1, 1, 6, 0, 7) + bytes(204)
    return (
        fixed
        + bytes((99, 130, 83, 99, 53, 1, 3, 50, 4))
        + address
        + b"\x0c"
        + bytes((len(name),))
        + name
        + b"\xff"
    )


def test_records_have_names_of_clients_and_the_sensor(run: Run, tmp_path: Path) -> None:
    """The same for a file and for live; flows that ended before the name was told have none."""
    packets: list[tuple[int, bytes]] = []
    for at in range(3):
        packets += conversation(
            ("192.168.1.2", 50000 + at),
            ("203.0.113.1", 443),
            [(True, client_hello("signal.org")), (False, bytes(900))],
            start_ns=START_NS + at * 10**9,
        )
    told = _dhcp_request(b"Pixel-7", bytes((192, 168, 1, 2)))
    packets.append(
        (START_NS + 1_500_000_000, udp_frame(("0.0.0.0", 68), ("255.255.255.255", 67), told))
    )
    path, clients = tmp_path / "home.pcap", tmp_path / "clients.csv"
    write_pcap(path, sorted(packets))
    clients.write_text("192.168.1.0/24,house\n")
    options = ("--app", "signal", "--sensor", "attic")
    rows = _rows(run("identify", path, *options).stdout)
    assert [row["client_name"] for row in rows] == [None, None, "Pixel-7"]
    assert {row["sensor"] for row in rows} == {"attic"}
    words = [sys.executable, "-m", "apptell.cli", "live", "--replay", str(path), "--speed", "max"]
    live = subprocess.run([*words, *options], capture_output=True, text=True, check=True)
    ends = [row for row in _rows(live.stdout) if row["event"] == "end"]
    ends.sort(key=lambda row: row["time"])
    assert [(row["client_name"], row["sensor"]) for row in ends] == [
        (row["client_name"], "attic") for row in rows
    ]
    named = _rows(run("identify", path, "--app", "signal", "--clients", clients).stdout)
    assert {row["client_name"] for row in named} == {"house"}
    private = _rows(run("identify", path, "--client-names", "off").stdout)
    assert all("client_name" not in row for row in private)


def test_the_local_side_is_the_client_where_no_packet_shows_it(run: Run, tmp_path: Path) -> None:
    """Both sides have public addresses and ports of applications."""
    path = tmp_path / "middle.pcap"
    packets = conversation(
        ("203.0.113.9", 9000),
        ("198.51.100.7", 9001),
        [(True, bytes(50)), (False, bytes(70))],
        handshake=False,
        close=False,
    )
    write_pcap(path, packets)

    def client(*options: str) -> tuple[str, str]:
        (row,) = _rows(run("flows", path, *options).stdout)
        return row["client_address"], row["client_by"]

    assert client() == ("203.0.113.9", "first")
    assert client("--local", "198.51.100.0/24") == ("198.51.100.7", "local")
    assert client("--local", "203.0.113.0/24") == ("203.0.113.9", "local")
    assert client("--local", "198.51.100.0/24", "--local", "203.0.113.0/24")[1] == "first"


def test_a_handshake_shows_the_client_whatever_is_local(run: Run, named: Path) -> None:
    rows = _rows(run("flows", named, "--local", "203.0.113.0/24").stdout)
    assert {row["client_by"] for row in rows} == {"handshake"}
