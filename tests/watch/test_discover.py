"""A planted unlearned app becomes a candidate with its evidence; calm traffic gives none."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from apptell.cli.app import app as command_line
from apptell.errors import CaptureError, DatasetError, OutputError, UsageError
from apptell.learning import train_model
from apptell.models import load_model
from apptell.names import read_flows
from apptell.records.forms.jsonl import json_lines
from apptell.records.schema import END, VERDICT, live_records
from apptell.testing import (
    START_NS,
    app_capture,
    app_messages,
    client_hello,
    conversation,
    flow_batch,
    write_pcap,
)
from apptell.verdicts import identify_flows
from apptell.watch.candidates import Evidenced, find_candidates
from apptell.watch.clusters import find_clusters, is_mixed, windows_of
from apptell.watch.discover import discover
from apptell.watch.example_flows import PACKETS
from apptell.watch.found_folder import read_candidate, write_found
from apptell.watch.traffic import SCHEMA, WatchedTraffic, gather
from tests.names.tls12 import spoken

if TYPE_CHECKING:
    from pathlib import Path

    from apptell.models import Model

APPS = ["briar", "matrix", "signal", "zoom"]
HOUR = 3_600_000_000_000
HOSTILE = "<script>alert(1)</script>.evil.example"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("known") / "model"
    labels = APPS * 30
    train_model(
        flow_batch(labels), labels, model="lengths-rf", out=path, hyperparameters={"n_trees": 10},
        unknown=True,
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load_model(folder)


def phone(path: Path, number: int, server: str, like: str = "viber", n: int = 5) -> Path:
    """A capture of a phone that runs one app that nobody learned."""
    packets = []
    for flow in range(n):
        said = app_messages(like, seed=100 * number + flow)
        said[0] = (True, client_hello(server, seed=flow))
        packets += conversation(
            (f"192.168.9.{number}", 50_000 + flow), ("198.51.100.7", 4443), said,
            start_ns=START_NS + number * HOUR + flow * 1_000_000_000,
        )  # fmt: skip
    return write_pcap(path / f"phone{number}.pcap", packets)


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("captures")
    for number in range(1, 7):
        phone(path, number, HOSTILE if number % 2 else "chat.viber.com")
    for number in range(6):
        packets = app_capture(
            [APPS[number % 4]], 6, seed=10 * number, start_ns=START_NS + (10 + number) * HOUR
        )
        write_pcap(path / f"calm{number}.pcap", packets)
    return path


def test_a_planted_app_becomes_one_candidate_with_its_evidence(
    captures: Path, model: Model, tmp_path: Path
) -> None:
    found = discover([str(captures)], model, tmp_path / "found")
    assert found.flows == 6 * 5 + 6 * 6
    assert not found.is_mixed
    (one,) = found.candidates
    assert (one.flows, one.clients, one.named_flows) == (30, 6, 15)
    assert {each.value for each in one.of_kind("port")} == {"tcp/4443"}
    assert all(each.others == 0 and each.lift > 20 for each in one.of_kind("port"))
    assert "viber.com" in [each.value for each in one.of_kind("domain")]
    assert [each.lift for each in one.evidence] == sorted(
        (each.lift for each in one.evidence), reverse=True
    )
    assert (one.name, one.named_by) == ("viber", "catalogue")
    assert not one.is_known
    facts, rows = read_candidate(tmp_path / "found" / str(one.number))
    assert facts["name"] == "viber"
    assert len(rows) == one.flows
    assert set(rows.apps.tolist()) == {"viber"}


def test_names_from_traffic_are_escaped_and_are_no_part_of_a_path(
    captures: Path, model: Model, tmp_path: Path
) -> None:
    discover([str(captures)], model, tmp_path / "found")
    files = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*"))
    assert files == sorted(
        ["found", "found/index.html", "found/found.json", "found/1"]
        + [
            f"found/1/{name}"
            for name in ("candidate.json", "card.html", "rows.zip", "examples.pcap")
        ]
    )


def test_a_card_escapes_whatever_traffic_says(captures: Path, model: Model, tmp_path: Path) -> None:
    traffic = gather([str(captures)], model)
    (one,), _ = find_candidates(traffic, model.apps)
    hostile = "<script>alert(1)</script>"
    seen = Evidenced("domain", f'"><img src=x onerror=alert(1)>{hostile}', 3, 0, 9.0)
    one = replace(one, name=hostile, evidence=(seen,), guesses={hostile: 3})
    write_found(tmp_path / "found", model, traffic, [one], {})
    pages = [file.read_text() for file in tmp_path.rglob("*.html")]
    assert len(pages) == 2
    for page in pages:
        assert "&lt;script&gt;" in page
        assert "<script" not in page
        assert "<img" not in page


def test_names_in_certificates_are_evidence_and_name_a_candidate(
    model: Model, tmp_path: Path
) -> None:
    certified = {"own": ("*.newchat.example",), "listed": ("relay.viber.com",)}
    for which, names in certified.items():
        for number in range(1, 7):
            packets = []
            for flow in range(5):
                said = [*spoken(names), *app_messages("viber", seed=100 * number + flow)]
                packets += conversation(
                    (f"192.168.9.{number}", 50_000 + flow), ("198.51.100.7", 4443), said,
                    start_ns=START_NS + number * HOUR + flow * 1_000_000_000,
                )  # fmt: skip
            (tmp_path / which).mkdir(exist_ok=True)
            write_pcap(tmp_path / which / f"phone{number}.pcap", packets)
    write_pcap(tmp_path / "calm.pcap", app_capture(APPS, 6, seed=0, start_ns=START_NS + 20 * HOUR))
    (own,), (listed,) = (
        discover([str(tmp_path / which), str(tmp_path / "calm.pcap")], model).candidates
        for which in certified
    )
    assert [(each.value, each.flows, each.others) for each in own.of_kind("certificate")] == [
        ("*.newchat.example", 30, 0)
    ]
    assert (own.name, own.named_by) == ("newchat", "certificate")
    assert (listed.name, listed.named_by, listed.named_flows) == ("viber", "catalogue", 30)


def test_a_catalogue_file_names_a_candidate(captures: Path, model: Model, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("viber.com,Other Chat\n")
    (one,) = discover([str(captures)], model, catalogue=[rows]).candidates
    assert (one.name, one.named_by, one.named_flows) == ("other-chat", "catalogue", 15)


def test_examples_are_the_first_packets_of_flows_of_the_candidate(
    captures: Path, model: Model, tmp_path: Path
) -> None:
    found = discover([str(captures)], model, tmp_path / "found", examples=3)
    with read_flows(tmp_path / "found" / "1" / "examples.pcap") as reader:
        flows = reader.to_flows()
    assert len(flows) == 3
    assert set(flows.column("server_port").to_pylist()) == {4443}
    assert reader.stats.packets <= 3 * PACKETS
    assert set(flows.column("server_name").to_pylist()) <= {"chat.viber.com", HOSTILE}
    assert len(found.candidates) == 1
    discover([str(captures)], model, tmp_path / "without", examples=0)
    assert not (tmp_path / "without" / "1" / "examples.pcap").exists()


def test_calm_traffic_has_no_candidate(captures: Path, model: Model, tmp_path: Path) -> None:
    calm = [str(file) for file in sorted(captures.glob("calm*.pcap"))]
    found = discover(calm, model, tmp_path / "found")
    assert not found.candidates
    assert json.loads((tmp_path / "found" / "found.json").read_text())["candidates"] == []


def test_records_give_the_same_flows_and_a_candidate_without_rows(
    captures: Path, model: Model, tmp_path: Path
) -> None:
    lines = []
    with read_flows(captures) as reader:
        for verdicts in identify_flows(reader, model, unknown=0.2):
            lines += json_lines(live_records(verdicts, VERDICT))
            lines += json_lines(live_records(verdicts, END))  # the same flows once more
    (tmp_path / "v.jsonl").write_text("\n".join(lines) + "\n")
    traffic = gather([str(tmp_path / "v.jsonl")], model)
    assert len(traffic) == 6 * 5 + 6 * 6
    assert traffic.is_strange.sum() >= 20
    found = discover([str(tmp_path / "v.jsonl")], model, tmp_path / "found")
    assert len(found.candidates) >= 1
    with pytest.raises(DatasetError, match=r"has no rows\.zip"):
        read_candidate(tmp_path / "found" / "1")


def test_what_cannot_be_used_is_refused_in_one_line(
    captures: Path, model: Model, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(OutputError, match="already exists and is not replaced"):
        discover([str(captures)], model, tmp_path / "there")
    with pytest.raises(UsageError, match="not both"):
        gather([str(captures), "v.parquet"], model)
    with pytest.raises(UsageError, match="standard input"):
        gather(["-"], model)
    (tmp_path / "other.jsonl").write_text('{"app": "zoom"}\n')
    with pytest.raises(CaptureError, match="not records of verdicts"):
        gather([str(tmp_path / "other.jsonl")], model)
    for content in ("[]", "{", '{"format": 99}'):
        (tmp_path / "candidate.json").write_text(content)
        with pytest.raises(DatasetError, match=r"candidate\.json"):
            read_candidate(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "candidate.json").unlink()
    (tmp_path / "candidate.json").symlink_to("/etc/passwd")
    with pytest.raises(DatasetError, match=r"candidate\.json"):
        read_candidate(tmp_path)


def test_the_verb_prints_one_object_and_where_the_candidates_are(
    captures: Path, folder: Path, tmp_path: Path
) -> None:
    arguments = ["discover", str(captures), "-m", str(folder), "-o", str(tmp_path / "found")]
    done = CliRunner().invoke(command_line, arguments)
    assert done.exit_code == 0, done.output
    assert "viber" in [each["name"] for each in json.loads(done.stdout)["candidates"]]
    assert "1 candidates are in" in done.stderr
    assert CliRunner().invoke(command_line, arguments).exit_code == 1


def crowd(n_clients: int, apps_at_once: int) -> WatchedTraffic:
    """Clients that run two learned apps and, half of them, an unlearned one, or one of these alone."""
    random = np.random.default_rng(0)
    clients, times, guess, strange, sizes = [], [], [], [], []
    for client in range(n_clients):
        running = [0, 1, 2] if apps_at_once == 3 else [client % 3]
        for flow in range(10):
            app = running[flow % len(running)]
            clients.append(client)
            times.append(flow * 1_000_000_000)
            guess.append(app)
            strange.append(app == 2)
            sizes.append([100 * app + 100, -300 * app - 60 + int(random.integers(3))])
    p = np.full((len(guess), 3), 0.05, np.float32)
    p[np.arange(len(guess)), np.array(guess, np.int64)] = 0.9
    p += random.random(p.shape).astype(np.float32) / 50  # no two flows are the same
    is_strange = np.array(strange)
    nothing = [pa.nulls(len(guess), field.type) for field in SCHEMA]
    return WatchedTraffic(
        pa.Table.from_arrays(nothing, schema=SCHEMA), p, is_strange.astype(np.float32), is_strange,
        np.array(guess, np.int64), 0.1, np.array(clients, np.int64), np.array(times, np.int64), None,
        np.array(sizes, np.float32).reshape(-1, 2),
    )  # fmt: skip


@pytest.mark.parametrize("apps_at_once", [1, 3])
def test_apps_that_mix_on_a_client_are_told_from_one_at_a_time(apps_at_once: int) -> None:
    traffic = crowd(30, apps_at_once)
    window = windows_of(traffic.clients, traffic.times_ns)
    assert is_mixed(traffic, window) == (apps_at_once == 3)
    label, mixed = find_clusters(traffic)
    assert mixed == (apps_at_once == 3)
    assert (label >= 0).sum() >= 0.8 * traffic.is_strange.sum()
    assert not (label[~traffic.is_strange] >= 0).any()
    found, _ = find_candidates(traffic, ["a", "b", "c"])
    assert [one.number for one in found] == list(range(1, len(found) + 1))
    assert found[0].name.startswith("unknown-")


def test_windows_end_after_thirty_seconds_and_with_the_client() -> None:
    seconds = np.array([0, 10, 29, 31, 0, 70])
    clients = np.array([0, 0, 0, 0, 1, 1])
    assert windows_of(clients, seconds * 1_000_000_000).tolist() == [0, 0, 0, 1, 2, 3]


def test_no_traffic_has_no_cluster() -> None:
    label, mixed = find_clusters(crowd(0, 1))
    assert len(label) == 0
    assert not mixed
