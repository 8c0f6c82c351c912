import csv
import json
from pathlib import Path

import pytest

from .conftest import Run


@pytest.fixture(scope="module")
def compared(run: Run, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared") / "report"
    done = run(
        "compare", dataset, "--protocol", "source", "--folds", 2, "--epochs", 1, "-o", folder
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((folder / "metrics.json").read_text())
    return folder


def test_a_comparison_has_the_three_models_names_on_and_masked(compared: Path) -> None:
    metrics = json.loads((compared / "metrics.json").read_text())
    assert metrics["protocol"] == "source"
    assert metrics["optimistic"] is False
    found = [(m["model"], m["names"]) for m in metrics["models"]]
    assert found == [
        (model, names)
        for model in ("paper-cnn", "paper-rf", "nearest-neighbour")
        for names in ("on", "masked")
    ]
    for model in metrics["models"]:
        assert model["flows"] == 40
        assert {"macro_f1", "intervals_95", "promise", "hardest", "slices"} <= set(model)


def test_page_table_and_json_hold_one_set_of_numbers(compared: Path) -> None:
    metrics = json.loads((compared / "metrics.json").read_text())
    with (compared / "models.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    for row, model in zip(rows, metrics["models"], strict=True):
        assert float(row[3]) == model["accuracy"]
        assert float(row[5]) == model["macro_f1"]
        own = compared / f"{model['model']}-names-{model['names']}"
        assert json.loads((own / "metrics.json").read_text())["accuracy"] == model["accuracy"]
        assert (own / "report.html").is_file()
    assert f"{metrics['models'][0]['macro_f1']:.2%}" in (compared / "report.html").read_text()


def test_its_splits_can_be_given_back(
    run: Run, dataset: Path, compared: Path, tmp_path: Path
) -> None:
    split = compared / "splits" / "fold-1.jsonl"
    done = run("compare", dataset, "--split", split, "--epochs", 1, "-o", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)
    n_test = sum(json.loads(line)["side"] == "test" for line in split.read_text().splitlines())
    assert (metrics["protocol"], metrics["models"][0]["flows"]) == ("file", n_test)
    assert metrics["models"][0]["promise"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "no-such"], "no model is called 'no-such'"),
        (["--protocol", "moon"], "no protocol 'moon'"),
        (["--apps", "signal,viber"], "no flow of 'viber'"),
    ],
)
def test_wrong_words_to_compare_are_exit_code_2(
    run: Run, dataset: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    done = run("compare", dataset, "-o", tmp_path / "r", *options)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
