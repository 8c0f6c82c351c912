"""``identify`` on a dataset, and the probabilities of all classes in its records."""

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import apptell

from .conftest import Run


def rows_of(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_dataset_gives_a_record_of_each_flow_with_its_label(
    run: Run, dataset: Path, model: Path
) -> None:
    done = run("identify", dataset, "-m", model, "--evidence", "model")
    assert done.returncode == 0, done.stderr
    rows = rows_of(done.stdout)
    assert len(rows) == len(apptell.Dataset.open(dataset)) == 40
    assert {row["label"] for row in rows} == {"signal", "zoom"}
    assert all(row["best_guess"] == row["label"] for row in rows)
    assert "40 flows:" in done.stderr


def test_a_dataset_gives_the_verdicts_that_its_captures_give(
    run: Run, dataset: Path, recordings: Path, model: Path
) -> None:
    def verdicts(source: Path) -> set[tuple[object, ...]]:
        rows = rows_of(run("identify", source, "-m", model, "--evidence", "name,model").stdout)
        wanted = ("time", "community_id", "app", "best_guess", "confidence", "outcome")
        chosen = [row for row in rows if str(row["capture"]).endswith("zoom.pcap")]
        return {tuple(row[name] for name in wanted) for row in chosen}

    captures = sorted(recordings.rglob("zoom.pcap"))
    assert verdicts(dataset) == set().union(*map(verdicts, captures))


def test_without_a_model_names_identify_the_flows_of_a_dataset(run: Run, dataset: Path) -> None:
    done = run("identify", dataset)
    assert done.returncode == 0, done.stderr
    assert {row["evidence"] for row in rows_of(done.stdout)} <= {"name", None}
    assert "addresses reached before" not in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--follow"], "--follow reads captures, and"),
        (["--transport", "udp"], "--transport reads captures, and"),
        (["--evidence", "address"], "evidence 'address' rests on other flows of a capture"),
        (["--context", "30s"], "context rests on all flows of a client"),
        (["--out", "jsonl:-"], "--out reads captures, and"),
    ],
)
def test_what_needs_a_capture_is_refused_for_a_dataset(
    run: Run, dataset: Path, model: Path, options: list[str], words: str
) -> None:
    done = run("identify", dataset, "-m", model, *options)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_dataset_is_identified_by_itself(run: Run, dataset: Path, capture: Path) -> None:
    done = run("identify", dataset, capture)
    assert done.returncode == 2
    assert "is a dataset: identify it by itself" in done.stderr


def test_records_have_the_probability_of_each_class_on_request(
    run: Run, capture: Path, model: Path, tmp_path: Path
) -> None:
    options = ("-m", model, "--evidence", "model", "--probabilities")
    rows = rows_of(run("identify", capture, *options).stdout)
    assert len(rows) == 8
    for row in rows:
        shares = {app: float(str(row[f"probability_{app}"])) for app in ("signal", "zoom")}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-4)
        assert max(shares, key=lambda app: shares[app]) == row["best_guess"]
        assert max(shares.values()) == pytest.approx(row["confidence"])
        assert min(shares.values()) == pytest.approx(row["runner_up_confidence"])
    for name in ("table.parquet", "table.csv"):
        assert run("identify", capture, *options, "-o", tmp_path / name).returncode == 0
    stored = pq.read_table(tmp_path / "table.parquet").to_pylist()
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        cells = list(csv.DictReader(file))
    for row, one, other in zip(rows, stored, cells, strict=True):
        for name in ("probability_signal", "probability_zoom"):
            assert row[name] == one[name] == float(other[name])


def test_probabilities_are_null_where_a_name_decides(run: Run, capture: Path, model: Path) -> None:
    catalogue = capture.parent / "mine.csv"
    catalogue.write_text("signal.example,Signal\n")
    done = run("identify", capture, "-m", model, "--probabilities", "--catalogue", catalogue)
    by_app = {row["evidence"]: row["probability_zoom"] for row in rows_of(done.stdout)}
    assert by_app["name"] is None
    assert by_app["model"] is not None


@pytest.mark.parametrize("form", ["table", "eve", "zeek", "ecs"])
def test_forms_without_columns_for_probabilities_are_refused(
    run: Run, capture: Path, model: Path, form: str
) -> None:
    done = run("identify", capture, "-m", model, "--probabilities", "--format", form)
    assert done.returncode == 2
    assert f"the form {form} has no columns for them; use jsonl, csv or parquet" in done.stderr


def test_probabilities_need_a_model_and_single_flows(run: Run, capture: Path, model: Path) -> None:
    done = run("identify", capture, "--probabilities")
    assert (done.returncode, "give one with -m" in done.stderr) == (2, True)
    done = run("identify", capture, "-m", model, "--probabilities", "--summary")
    assert (done.returncode, "is not for --out or --summary" in done.stderr) == (2, True)


def test_python_identifies_a_dataset_as_the_command_does(dataset: Path, model: Path) -> None:
    from_folder = [v.to_dict() for v in apptell.identify(dataset, model, evidence="model")]
    opened = apptell.Dataset.open(dataset)
    assert from_folder == [v.to_dict() for v in apptell.identify(opened, model, evidence="model")]
    assert len(from_folder) == 40
    with pytest.raises(apptell.UsageError, match="context rests on all flows of a client"):
        apptell.identify(dataset, model, context="30s")
