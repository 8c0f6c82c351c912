import json
import lzma
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from apptell.testing import START_NS, pcap_bytes, udp_frame, write_pcap

from .conftest import Run


def test_a_capture_goes_in_and_one_record_for_each_flow_comes_out(
    run: Run, capture: Path, model: Path
) -> None:
    done = run("identify", capture, "-m", model)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 8
    truth = {"203.0.113.10": "signal", "203.0.113.11": "zoom"}
    assert [row["best_guess"] for row in rows] == [truth[row["server_address"]] for row in rows]
    first = rows[0]
    assert first["client_address"] == "192.168.1.2"
    assert first["community_id"].startswith("1:")
    assert first["payload_packets_seen"] == 5
    assert first["model"].startswith("paper-rf@")
    assert first["threshold"] == 0.85
    assert {row["outcome"] for row in rows} <= {"named", "declined"}
    assert all((row["app"] is None) == (row["confidence"] < 0.85) for row in rows)


def test_it_says_which_apps_it_knows_and_how_to_make_one_s_own_model(
    run: Run, capture: Path, model: Path
) -> None:
    said = run("identify", capture, "-m", model).stderr
    assert "knows signal, zoom; it knows no other app" in said
    assert "apptell dataset build" in said
    assert "apptell train" in said
    assert "8 flows:" in said


def test_standard_input_and_compressed_captures_give_the_same_records(
    run: Run, capture: Path, model: Path, tmp_path: Path
) -> None:
    def apps(text: str) -> list[tuple[str, str]]:
        rows = [json.loads(line) for line in text.splitlines()]
        return [(row["community_id"], row["best_guess"]) for row in rows]

    plain = apps(run("identify", capture, "-m", model).stdout)
    piped = run("identify", "-", "-m", model, stdin=capture.read_bytes())
    assert piped.returncode == 0, piped.stderr
    assert apps(piped.stdout) == plain
    (tmp_path / "phone.pcap.xz").write_bytes(lzma.compress(capture.read_bytes()))
    assert apps(run("identify", tmp_path / "phone.pcap.xz", "-m", model).stdout) == plain


def test_the_threshold_of_the_command_line_rules(run: Run, capture: Path, model: Path) -> None:
    low = run("identify", capture, "-m", model, "--threshold", "0")
    assert all(json.loads(line)["app"] for line in low.stdout.splitlines())
    assert "8 named, 0 declined" in low.stderr


def test_records_go_to_a_file_in_the_form_of_its_ending(
    run: Run, capture: Path, model: Path, tmp_path: Path
) -> None:
    done = run("identify", capture, "-m", model, "-o", tmp_path / "v.parquet")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert pq.read_table(tmp_path / "v.parquet").num_rows == 8


def test_the_summary_sums_flows_packets_and_bytes_per_app_and_client(
    run: Run, capture: Path, model: Path
) -> None:
    done = run("identify", capture, "-m", model, "--summary", "--threshold", "0")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(row["flows"] for row in rows if row["client"] is None) == 8
    # 12 packets a flow: 3 of the handshake, 6 messages, 3 at the end.
    assert sum(row["packets"] for row in rows if row["client"] == "192.168.1.2") == 8 * 12


def test_the_table_is_for_people(run: Run, capture: Path, model: Path) -> None:
    lines = run("identify", capture, "-m", model, "--format", "table").stdout.splitlines()
    assert lines[0].split()[:3] == ["time", "(UTC)", "client"]
    assert len(lines) == 9


def test_a_capture_cut_in_mid_packet_keeps_everything_before(
    run: Run, capture: Path, model: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(capture.read_bytes()[:-40])
    done = run("identify", cut, "-m", model, "-o", tmp_path / "v.jsonl")
    assert done.returncode == 1
    assert len((tmp_path / "v.jsonl").read_text().splitlines()) == 8
    assert "apptell: cut.pcap:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "bad.pcap: empty"),
        (b"hello, this is no capture", "bad.pcap: not a capture"),
        (
            pcap_bytes([(START_NS, udp_frame(("10.0.0.1", 5), ("10.0.0.2", 53), b"x"))]),
            "bad.pcap: no TCP flow among 1 packets",
        ),
    ],
)
def test_what_is_no_capture_or_has_no_tcp_is_one_line_and_exit_code_1(
    run: Run, model: Path, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "bad.pcap").write_bytes(content)
    done = run("identify", tmp_path / "bad.pcap", "-m", model)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("apptell: ")]
    assert message in line
    assert done.stdout == ""


def test_a_broken_model_is_one_line_and_exit_code_1(
    run: Run, capture: Path, model: Path, tmp_path: Path
) -> None:
    for spoil, message in (
        (lambda text: text.replace('"format": 1', '"format": 99'), "99"),
        (lambda text: text[:40], "not valid JSON"),
    ):
        broken = tmp_path / message.split()[0]
        broken.mkdir()
        for file in model.iterdir():
            (broken / file.name).write_bytes(file.read_bytes())
        (broken / "model.json").write_text(spoil((model / "model.json").read_text()))
        done = run("identify", capture, "-m", broken)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert message in done.stderr


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--threshold", "2"], 2, "threshold 2.0 is not between 0 and 1"),
        (["--format", "xml"], 2, "no form of records is called 'xml'"),
        (["--format", "parquet"], 2, "parquet cannot go to standard output"),
        (["--flows", "odd"], 2, "flow mode 'odd' is neither"),
        (["-o", "/no/such/folder/v.csv"], 1, "/no/such/folder/v.csv: No such file or directory"),
        (["--no-such-option"], 2, "No such option"),
    ],
)
def test_a_wrong_word_is_said_and_has_its_exit_code(
    run: Run, capture: Path, model: Path, options: list[str], code: int, message: str
) -> None:
    done = run("identify", capture, "-m", model, *options)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_ends_it_quietly(model: Path, tmp_path: Path) -> None:
    from apptell.testing import app_capture

    # More records than a pipe holds.
    path = write_pcap(tmp_path / "long.pcap", app_capture(["signal", "zoom"], 120))
    program = f"{sys.executable} -m apptell.cli"
    done = subprocess.run(
        ["bash", "-c", f"{program} identify {path} -m {model} | head -1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        check=True,
        timeout=300,
    )
    first, code = done.stdout.decode().splitlines()
    assert json.loads(first)["protocol"] == "tcp"
    assert code == "0"
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr
