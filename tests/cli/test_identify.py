import json
import lzma
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from apptell.testing import (
    START_NS,
    client_hello,
    conversation,
    pcap_bytes,
    udp_frame,
    write_pcap,
)

from .conftest import Run

ARP = bytes(12) + b"\x08\x06" + bytes(28)
"""A frame without IP."""


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
    assert {row["outcome"] for row in rows} <= {"named", "below threshold"}
    assert all((row["app"] is None) == (row["confidence"] < 0.85) for row in rows)


def test_it_says_which_apps_it_knows(run: Run, capture: Path, model: Path) -> None:
    said = run("identify", capture, "-m", model).stderr
    assert "knows signal, zoom; it knows no other app" in said
    assert "To train your own model" not in said, "this is one"
    assert "8 flows:" in said


def test_of_the_embedded_model_it_says_how_to_make_one_s_own(run: Run, capture: Path) -> None:
    said = run("identify", capture, "--evidence", "model").stderr
    assert "The embedded model" in said
    assert "apptell dataset build" in said
    assert "apptell train" in said


def test_a_named_file_that_is_no_capture_costs_only_itself(
    run: Run, capture: Path, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.pcap").write_bytes(b"")
    done = run("identify", tmp_path / "empty.pcap", capture, "-m", model)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 8
    assert "8 flows:" in done.stderr
    assert done.stderr.splitlines()[-1] == "apptell: empty.pcap: empty, not a capture"


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
    assert "8 app flows of 2 apps, 0 of services" in low.stderr


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
        (b"hello, this is no capture", "bad.pcap: not a known capture"),
        (
            pcap_bytes([(START_NS, ARP)]),
            "bad.pcap: no flow among 1 packets",
        ),
    ],
)
def test_what_is_no_capture_or_has_no_flow_is_one_line_and_exit_code_1(
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
        (["--format", "xml"], 2, "unknown output form 'xml'"),
        (["--format", "parquet"], 2, "parquet cannot be written to standard output"),
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


def test_flows_that_were_not_read_are_not_counted_as_skipped() -> None:
    from apptell.cli.flow_counts import Counts
    from apptell.testing import flow_batch

    counts = Counts()
    batches = counts.seen([flow_batch(["zoom"]), flow_batch(["signal"])])
    next(batches)
    assert str(counts).endswith("; the output ended before the capture.")
    assert len(list(batches)) == 1
    assert str(counts).endswith("; 2 more were skipped, with too few payload packets.")


@pytest.fixture
def messenger(tmp_path: Path) -> Path:
    """A capture of a messenger's connection and datagrams, and of a connection that nothing is known of."""
    packets = conversation(
        ("192.168.1.2", 40_000),
        ("203.0.113.10", 443),
        [(True, client_hello("chat.signal.org")), (False, b"x" * 90)],
    )
    packets += conversation(
        ("192.168.1.2", 40_001),
        ("203.0.113.11", 5222),
        [(True, b"?" * 40), (False, b"x" * 90)],
        start_ns=START_NS + 10**9,
    )
    phone, relay = ("192.168.1.2", 40_002), ("203.0.113.12", 3478)
    packets += [
        (START_NS + 2 * 10**9, udp_frame(phone, relay, b"?" * 40)),
        (START_NS + 2 * 10**9 + 1000, udp_frame(relay, phone, b"x" * 40)),
    ]
    return write_pcap(tmp_path / "messenger.pcap", packets)


def _rows(text: str) -> list[dict[str, Any]]:
    return sorted(map(json.loads, text.splitlines()), key=lambda row: row["client_port"])


def test_without_a_model_names_decide_and_udp_is_read_too(run: Run, messenger: Path) -> None:
    done = run("identify", messenger)
    assert done.returncode == 0, done.stderr
    signal, unknown, relay = _rows(done.stdout)
    assert signal["app"] == "signal"
    assert signal["app_name"] == "Signal"
    assert signal["category"] == "messaging"
    assert signal["evidence"] == "name"
    assert signal["outcome"] == "named"
    assert signal["model"] is None
    assert signal["confidence"] is None
    assert unknown["outcome"] == relay["outcome"] == "no evidence"
    assert relay["protocol"] == "udp"
    assert "3 flows: 1 app flows of 1 app, 0 of services, 0 background, 2 not named" in done.stderr


def test_the_embedded_model_answers_only_where_evidence_is_a_model(
    run: Run, messenger: Path
) -> None:
    done = run("identify", messenger, "--evidence", "model")
    rows = _rows(done.stdout)
    assert len(rows) == 2  # the TCP flows that it learned
    assert all(row["best_guess"] and row["app_name"] is None for row in rows)
    assert "The embedded model" in done.stderr
    done = run("identify", messenger, "--evidence", "model", "--transport", "tcp,udp")
    relay = _rows(done.stdout)[2]
    assert relay["outcome"] == "unlearned transport"
    assert relay["best_guess"] is None


def test_a_model_is_asked_where_no_name_decides(run: Run, messenger: Path, model: Path) -> None:
    named, asked, relay = _rows(run("identify", messenger, "-m", model, "--threshold", "0").stdout)
    assert (named["evidence"], named["model"]) == ("name", None)
    assert asked["evidence"] == "model"
    assert asked["app"] in {"signal", "zoom"}
    assert asked["category"] in {"messaging", "calls"}  # of the catalogue
    assert relay["outcome"] == "unlearned transport"


def test_rows_of_one_s_own_are_added_to_the_catalogue(
    run: Run, messenger: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.csv").write_text("domain,app\nchat.signal.org,Our Signal\n")
    done = run("identify", messenger, "--catalogue", tmp_path / "own.csv")
    assert _rows(done.stdout)[0]["app_name"] == "Our Signal"


def test_outputs_of_live_rest_on_evidence_too(run: Run, messenger: Path, tmp_path: Path) -> None:
    done = run("identify", messenger, "--out", f"jsonl:{tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert sorted((row["event"], row["app"]) for row in rows if row["app"]) == [
        ("end", "signal"),
        ("verdict", "signal"),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--evidence", "names"],
            "no evidence 'names'; available: name, dns, address, range, model, context",
        ),
        (["--evidence", "name", "-m", "x"], "the evidence does not include it; add model"),
        (["--context", "30s"], "context re-weights a model's verdicts"),
        (["--threshold", "2"], "threshold 2.0 is not between 0 and 1"),
    ],
)
def test_options_of_evidence_that_do_not_fit_are_refused(
    run: Run, messenger: Path, options: list[str], message: str
) -> None:
    done = run("identify", messenger, *options)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize(
    ("cut", "learned", "words"),
    [
        (50, 0.0, "50.0% of the packets were cut by the snap length"),
        (0, 0.9, "learned from packets that were cut by a snap length"),
        (0, 0.0, ""),
        (50, 0.9, ""),
        (50, None, ""),
    ],
)
def test_a_capture_that_is_cut_otherwise_than_what_the_model_learned_from_is_noted(
    cut: int, learned: float | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from types import SimpleNamespace

    from apptell.cli.notes import note_other_lengths

    stats = SimpleNamespace(packets=100, capture=SimpleNamespace(cut_packets=cut))
    note_other_lengths(SimpleNamespace(name="fast", cut_share=learned), stats)  # type: ignore[arg-type]
    said = " ".join(capsys.readouterr().err.split())
    assert words in said if words else not said
