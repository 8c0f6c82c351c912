"""Captures to dataset to model to figures to verdicts, as a user walks it."""

import json
from pathlib import Path

import pytest

from apptell.testing import app_capture, write_pcap

from .conftest import Run


@pytest.fixture(scope="module")
def trained(run: Run, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "model"
    done = run(
        "train", dataset, "-o", folder, "--model", "paper-rf", "--split", "source", "--seed", "1"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["test"]["accuracy"] > 0.8
    return folder


def test_a_dataset_knows_its_apps_and_groups(run: Run, dataset: Path) -> None:
    info = json.loads(run("dataset", "info", dataset).stdout)
    assert info["apps"] == {"signal": 20, "zoom": 20}
    assert len(info["groups"]["source"]) == 5


def test_the_same_captures_twice_change_nothing(run: Run, dataset: Path, recordings: Path) -> None:
    before = (dataset / "dataset.json").read_bytes()
    done = run("dataset", "build", recordings, "-o", dataset, "--labels", "folders")
    assert done.returncode == 0, done.stderr
    assert (dataset / "dataset.json").read_bytes() == before


def test_training_leaves_a_model_with_its_figures_and_its_split(trained: Path) -> None:
    assert {"model.onnx", "model.json", "README.md", "split.jsonl"} <= {
        file.name for file in trained.iterdir()
    }
    info = json.loads((trained / "model.json").read_text())
    assert info["data"]["split"] == "source"
    assert info["metrics"]["accuracy"] > 0.8
    lines = (trained / "split.jsonl").read_text().splitlines()
    sides = [json.loads(line)["side"] for line in lines]
    assert (sides.count("train"), sides.count("test")) == (32, 8)


def test_the_report_has_one_set_of_numbers_in_every_form(
    run: Run, trained: Path, dataset: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report"
    done = run("evaluate", trained, dataset, "--split", trained / "split.jsonl", "-o", report)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((report / "metrics.json").read_text())
    assert json.loads(done.stdout) == metrics
    assert {"macro_f1", "accuracy", "coverage", "per_app", "confusion"} <= set(metrics)
    assert metrics["flows"] == 8
    assert metrics["seen_in_training"] is False
    per_app = (report / "per_app.csv").read_text().splitlines()
    assert per_app[1].split(",")[:2] == ["signal", "4"]
    assert float(per_app[1].split(",")[4]) == metrics["per_app"]["signal"]["f1"]
    page = (report / "report.html").read_text()
    assert f"{metrics['accuracy']:.1%}" in page
    assert "<svg" in page
    assert "data:image/png;base64," in page
    assert "http://" not in page
    assert "https://" not in page


def test_measuring_on_the_training_flows_is_said_to_flatter(
    run: Run, trained: Path, dataset: Path
) -> None:
    done = run("evaluate", trained, dataset)
    assert "flatter" in done.stderr
    found = json.loads(done.stdout)
    assert found["seen_in_training"] is True
    assert found["seen_share"] == 0.8


def test_a_split_that_is_not_the_model_s_own_is_said_to_flatter(
    run: Run, trained: Path, dataset: Path
) -> None:
    """Another seed tests flows that the model learned from."""
    done = run("evaluate", trained, dataset, "--split", "paper", "--seed", 9)
    assert json.loads(done.stdout)["seen_share"] > 0
    assert "flatter" in done.stderr


def test_the_trained_model_names_a_new_capture(run: Run, trained: Path, tmp_path: Path) -> None:
    capture = write_pcap(tmp_path / "new.pcap", app_capture(["zoom"], 5, seed=9000))
    done = run("identify", capture, "-m", trained, "--threshold", "0.5")
    assert [json.loads(line)["app"] for line in done.stdout.splitlines()] == ["zoom"] * 5


def test_an_app_the_model_does_not_know_counts_as_wrong(
    run: Run, trained: Path, recordings: Path, tmp_path: Path
) -> None:
    (tmp_path / "new" / "home9").mkdir(parents=True)
    write_pcap(tmp_path / "new" / "home9" / "viber.pcap", app_capture(["viber"], 4))
    built = run("dataset", "build", tmp_path / "new", "-o", tmp_path / "d", "--labels", "folders")
    assert built.returncode == 0, built.stderr
    done = run("evaluate", trained, tmp_path / "d")
    assert "does not know viber" in done.stderr
    assert json.loads(done.stdout)["accuracy"] == 0.0


@pytest.mark.parametrize(
    ("apps", "message"),
    [({"zoom": 12}, "only one app"), ({"zoom": 12, "signal": 2}, "app signal has")],
)
def test_a_dataset_with_too_little_to_learn_is_one_line_and_exit_code_1(
    run: Run, tmp_path: Path, apps: dict[str, int], message: str
) -> None:
    for app, n in apps.items():
        (tmp_path / "captures" / "home").mkdir(parents=True, exist_ok=True)
        write_pcap(tmp_path / "captures" / "home" / f"{app}.pcap", app_capture([app], n))
    built = run("dataset", "build", tmp_path / "captures", "-o", tmp_path / "d")
    assert built.returncode == 0, built.stderr
    done = run("train", tmp_path / "d", "-o", tmp_path / "m", "--model", "paper-rf")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--model", "paper-xyz"], 2, "unknown model 'paper-xyz'"),
        (["--split", "moon"], 2, "moon"),
        (["--ports", "maybe"], 2, "--ports 'maybe' is neither on nor off"),
        (["--device", "abacus", "--model", "paper-cnn"], 2, "unknown device 'abacus'"),
        (["--epochs", "0"], 2, "'--epochs'"),
    ],
)
def test_wrong_words_to_train_are_exit_code_2(
    run: Run, dataset: Path, tmp_path: Path, options: list[str], code: int, message: str
) -> None:
    done = run("train", dataset, "-o", tmp_path / "m", *options)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_no_dataset_is_one_line(run: Run, tmp_path: Path) -> None:
    for verb in (["dataset", "info"], ["train", "-o", tmp_path / "m"]):
        done = run(*verb, tmp_path)
        assert done.returncode == 1
        assert "not a dataset" in done.stderr


def test_a_threshold_that_promises_a_precision_goes_into_the_model(
    run: Run, dataset: Path, tmp_path: Path
) -> None:
    model, wished = tmp_path / "model", ("--model", "paper-rf", "--split", "source")
    done = run("train", dataset, "-o", model, *wished, "--precision", 0.6)
    assert done.returncode == 0, done.stderr
    info = json.loads((model / "model.json").read_text())
    assert f"promise 60% at threshold {info['threshold']:.3f}" in done.stderr
    assert info["calibration"]["temperature"] > 0
    assert info["metrics"]["promised_at_threshold"] == 0.6
    assert json.loads(done.stdout)["test"]["threshold"] == info["threshold"]
    done = run("train", dataset, "-o", model, *wished, "--precision", 0.99)
    assert done.returncode == 1
    assert "already holds a model" in done.stderr
    assert run("train", dataset, "-o", tmp_path / "m", *wished, "--precision", 2).returncode == 2


def test_a_precision_that_cannot_be_promised_leaves_the_model_as_it_is_without_one(
    run: Run, dataset: Path, tmp_path: Path
) -> None:
    """A temperature alone would soften every confidence below the threshold: nothing would be accepted."""
    model, wished = tmp_path / "model", ("--model", "paper-rf", "--split", "source")
    done = run("train", dataset, "-o", model, *wished, "--precision", 0.99)
    assert done.returncode == 0, done.stderr
    assert "cannot promise 99%" in done.stderr
    info = json.loads((model / "model.json").read_text())
    assert (info["threshold"], info["calibration"]) == (None, None)
    assert "promised_at_threshold" not in info["metrics"]
    without = run("train", dataset, "-o", model, *wished, "--replace")
    assert without.returncode == 0, without.stderr
    assert json.loads(done.stdout) == json.loads(without.stdout)


@pytest.mark.parametrize("option", [("--split", "none"), ("--all",)])
def test_every_flow_can_be_learned_from(
    run: Run, dataset: Path, tmp_path: Path, option: tuple[str, ...]
) -> None:
    done = run("train", dataset, "-o", tmp_path / "m", "--model", "paper-rf", *option)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["test"] is None
    assert "40 flows for training, and none for measuring" in done.stderr
    info = json.loads((tmp_path / "m" / "model.json").read_text())
    assert (info["data"]["flows"], info["data"]["split"], info["metrics"]) == (40, "none", {})
    assert not (tmp_path / "m" / "split.jsonl").exists()
    known = run("evaluate", tmp_path / "m", dataset)
    assert json.loads(known.stdout)["seen_share"] == 1.0


def test_a_model_can_be_measured_on_another_dataset(
    run: Run, dataset: Path, tmp_path: Path
) -> None:
    (tmp_path / "captures" / "office").mkdir(parents=True)
    for app in ("signal", "zoom"):
        packets = app_capture([app], 6, seed=7)
        write_pcap(tmp_path / "captures" / "office" / f"{app}.pcap", packets)
    built = run("dataset", "build", tmp_path / "captures", "-o", tmp_path / "office")
    assert built.returncode == 0, built.stderr
    words = ("--model", "paper-rf", "--test", tmp_path / "office")
    done = run("train", dataset, "-o", tmp_path / "m", *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["test"]["flows"] == 12
    info = json.loads((tmp_path / "m" / "model.json").read_text())
    assert info["data"]["flows"] == 40
    assert info["metrics"]["measured_on"] == "office, 12 flows"
    compared = run("compare", dataset, "-o", tmp_path / "r", *words, "--only", "--held-out", 2)
    assert compared.returncode == 0, compared.stderr
    found = json.loads(compared.stdout)
    assert (found["test_dataset"], found["split"]) == ("office", "test")
    assert [model["flows"] for model in found["models"]] == [12, 12]


def test_numbers_of_a_recipe_are_chosen_by_name(run: Run, dataset: Path, tmp_path: Path) -> None:
    words = ("-o", tmp_path / "m", "--model", "paper-rf", "--split", "source")
    done = run("train", dataset, *words, "--set", "n_trees=7", "--set", "features=0.5")
    assert done.returncode == 0, done.stderr
    training = json.loads((tmp_path / "m" / "model.json").read_text())["training"]
    assert training["trees"] == 7
    assert training["hyperparameters"] == {"n_trees": 7, "features": 0.5}
    for setting, message in (
        ("lr=1", "model paper-rf has no hyperparameter 'lr'; available: n_trees, features"),
        ("n_trees=0", "n_trees=0 is not a whole number of at least 1"),
        ("n_trees=1.5", "n_trees=1.5 is not a whole number of at least 1"),
        ("n_trees", "--set n_trees: not NAME=VALUE with a number"),
    ):
        done = run("train", dataset, *words, "--set", setting)
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
