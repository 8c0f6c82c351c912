"""``identify --extract``: the packets of chosen flows, read back by tshark and by apptell itself."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from apptell.testing import START_NS, client_hello, conversation, pcap_bytes, udp_frame, write_pcap

from .conftest import Run

CLIENT = "192.168.1.2"
NEEDS_TSHARK = pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark")


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two captures of different link types; in each one flow of an app, one unlisted, and a DNS query."""
    folder = tmp_path_factory.mktemp("extract") / "captures"
    folder.mkdir()
    for at, (name, link_type) in enumerate((("a.pcap", 1), ("b.pcap", 101))):
        start_ns = START_NS + at * 100 * 10**9 + 123
        packets = [
            packet
            for place, server in enumerate(("signal.org", "a.example"))
            for packet in conversation(
                (CLIENT, 50000 + 10 * at + place),
                (f"203.0.113.{place + 1}", 443),
                [(True, client_hello(server)), (False, bytes(900))],
                start_ns=start_ns + place,
            )
        ]
        packets.append((start_ns, udp_frame((CLIENT, 50009), ("192.168.1.1", 53), bytes(20))))
        packets.sort()
        if link_type == 101:  # raw IP: no Ethernet header
            packets = [(time, frame[14:]) for time, frame in packets]
        (folder / name).write_bytes(pcap_bytes(packets, link_type=link_type))
    return folder


def _rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def declined(run: Run, captures: Path) -> tuple[list[dict[str, Any]], Path]:
    """The records of flows that are not named, and their packets."""
    path = captures.parent / "declined.pcapng"
    done = run("identify", captures, "--not-named", "--server", "203.0.113.0/24", "--extract", path)
    assert done.returncode == 0, done.stderr
    rows = _rows(done.stdout)
    assert [row["server_name"] for row in rows] == ["a.example"] * 2
    packets = sum(row["packets_to_server"] + row["packets_to_client"] for row in rows)
    assert f"{packets} packets were extracted" in done.stderr
    return rows, path


def test_apptell_reads_the_same_verdicts_from_it(
    run: Run, declined: tuple[list[dict[str, Any]], Path]
) -> None:
    rows, path = declined
    again = _rows(run("identify", path).stdout)
    for row in (*rows, *again):
        del row["capture"]
    assert again == rows


@NEEDS_TSHARK
def test_tshark_reads_packets_times_link_types_and_comments(
    captures: Path, declined: tuple[list[dict[str, Any]], Path]
) -> None:
    rows, path = declined
    fields = ("frame.time_epoch", "frame.len", "frame.encap_type", "tcp.flags", "tcp.seq_raw")

    def packets(file: Path, *more: str) -> list[list[str]]:
        words = [
            "tshark",
            "-n",
            "-r",
            str(file),
            "-Y",
            "tcp.port in {50001, 50011}",
            "-T",
            "fields",
        ]
        for name in (*fields, *more):
            words += ["-e", name]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        return [line.split("\t") for line in done.stdout.splitlines()]

    original = packets(captures / "a.pcap") + packets(captures / "b.pcap")
    found = packets(path, "frame.comment")
    assert [packet[: len(fields)] for packet in found] == original
    comments = [packet[-1] for packet in found if packet[-1]]
    assert len(comments) == 2
    assert comments[0].startswith("apptell: outcome=unlisted name; ")
    assert all("server_name=a.example" in comment for comment in comments)
    assert f"community_id={rows[0]['community_id']}" in comments[0]
    whole = subprocess.run(
        ["tshark", "-n", "-r", str(path)], capture_output=True, text=True, check=True
    )
    assert len(whole.stdout.splitlines()) == len(found)  # and no other packet


def test_a_damaged_capture_gives_the_packets_before_the_damage(
    run: Run, captures: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.pcap"
    cut.write_bytes((captures / "a.pcap").read_bytes()[:-7])
    done = run("identify", cut, "--not-named", "--extract", tmp_path / "out.pcapng")
    assert done.returncode == 1
    assert len(_rows(run("flows", tmp_path / "out.pcapng").stdout)) == 1


def test_what_cannot_be_read_twice_is_refused(run: Run, captures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.pcapng"
    done = run("identify", "-", "--extract", out, stdin=(captures / "a.pcap").read_bytes())
    assert done.returncode == 2
    assert "--extract reads captures twice: - is not a file or a folder" in done.stderr
    own = tmp_path / "own.pcap"
    write_pcap(own, conversation((CLIENT, 5), ("203.0.113.1", 6), [(True, b"x")]))
    done = run("identify", own, "--extract", own)
    assert (done.returncode, "is the capture itself" in done.stderr) == (2, True)
