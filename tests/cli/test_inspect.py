import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from apptell.testing import START_NS, SYN, app_capture, tcp_frame, udp_frame, write_pcap

from .conftest import Run


def test_every_packet_is_accounted_for(run: Run, tmp_path: Path) -> None:
    packets = app_capture(["signal"], 2)
    lookup = udp_frame(("10.0.0.1", 5), ("10.0.0.2", 53), b"x" * 9)
    packets += [(START_NS + 10**11 + i, lookup) for i in range(3)]
    packets += [(START_NS + 2 * 10**11, b"\x02" * 12 + b"\x08\x06" + b"\x00" * 28)]  # ARP
    path = write_pcap(tmp_path / "a.pcap", packets)
    both = json.loads(run("inspect", path).stdout)
    assert both["packets"]["in_flows"] == 27
    assert both["flows"]["flows"] == 3
    done = run("inspect", path, "--transport", "tcp")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["packets"]["read"] == 28
    assert found["packets"]["by_ip_protocol"] == {"6": 24, "17": 3}
    assert found["packets"]["in_flows"] == 24
    assert found["link_types"] == {"ETHERNET": 28}
    assert found["packets"]["wire_bytes"] > 0
    assert sum(found["packets"]["passed_over"].values()) == 4
    assert found["flows"]["flows"] == 2
    assert found["flows"]["client_by"] == {"handshake": 2}
    assert found["top_servers"][0]["flows"] == 2


def test_a_damaged_capture_is_described_up_to_the_damage(
    run: Run, capture: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(capture.read_bytes()[:-40])
    done = run("inspect", cut)
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["packets"]["read"] == 95
    assert found["damage"]
    assert "apptell: cut.pcap:" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_text_file_is_counted_as_no_capture(run: Run, capture: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pcap").write_text("text\n")
    done = run("inspect", capture, tmp_path / "text.pcap")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["files_that_are_no_captures"] == 1
    assert found["damage"].startswith("text.pcap: not a known capture format")
    assert found["packets"]["read"] > 0


def test_on_a_terminal_it_is_text(capture: Path) -> None:
    import pty

    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "apptell.cli", "inspect", str(capture)],
        stdout=slave,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "120"},
    ) as done:
        os.close(slave)
        shown = b""
        try:
            while part := os.read(master, 65_536):
                shown += part
        except OSError:  # how Linux says that the other end is closed
            pass
    os.close(master)
    assert done.returncode == 0
    text = shown.decode()
    assert "packets" in text
    assert re.search(r"client determined by +handshake 8", text)
    assert not text.startswith("{")


def test_a_capture_without_flows_has_the_same_counters(run: Run, tmp_path: Path) -> None:
    lookup = udp_frame(("10.0.0.1", 5), ("10.0.0.2", 53), b"x" * 9)
    path = write_pcap(tmp_path / "a.pcap", [(START_NS, lookup)])
    done = run("inspect", path, "--transport", "tcp")
    found = json.loads(done.stdout)
    assert {found["flows"][name] for name in ("flows", "payload_packets", "out_of_order")} == {0}


def test_a_full_table_ends_its_oldest_flows_and_says_so(run: Run, tmp_path: Path) -> None:
    half_open = [
        (START_NS + i, tcp_frame((f"10.0.{i >> 8}.{i & 255}", 4000), ("192.0.2.7", 443), flags=SYN))
        for i in range(1000)
    ]
    capture = write_pcap(tmp_path / "flood.pcap", half_open)
    found = json.loads(run("inspect", capture, "--max-flows", 100).stdout)
    assert found["flows"]["flows"] == found["packets"]["in_flows"] == 1000
    assert found["flows_evicted"] == found["flows"]["ended_by"]["evicted"] > 0
    done = run("flows", capture, "--max-flows", 100)
    assert len(done.stdout.splitlines()) == 1000
    assert f"{found['flows_evicted']:,} flows ended early" in done.stderr
    assert json.loads(run("inspect", capture).stdout)["flows_evicted"] == 0
