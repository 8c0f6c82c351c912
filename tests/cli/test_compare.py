import csv
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from .conftest import Run

WISHED = (
    "--split", "source", "--folds", 2, "--epochs", 1, "--seeds", 2, "--held-out", 2,
)  # fmt: skip


@pytest.fixture(scope="module")
def compared(run: Run, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared") / "report"
    done = run("compare", dataset, *WISHED, "-o", folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((folder / "metrics.json").read_text())
    return folder


@pytest.mark.slow
def test_a_comparison_has_its_comparators_with_names_on_and_masked(compared: Path) -> None:
    metrics = json.loads((compared / "metrics.json").read_text())
    assert metrics["split"] == "source"
    assert metrics["optimistic"] is False
    found = [(m["model"], m["names"]) for m in metrics["models"]]
    assert found == [
        *(
            (model, names)
            for model in ("paper-cnn", "paper-rf", "nearest-neighbour")
            for names in ("on", "masked")
        ),
        ("name-lookup", "on"),  # with masked names there is nothing to look up
    ]
    for model in metrics["models"]:
        assert (model["flows"], model["tested_flows"]) == (80, 40)
        assert [each["seed"] for each in model["by_seed"]] == [0, 1]
        assert {"macro_f1", "intervals_95", "promise", "hardest", "slices"} <= set(model)


def rows_of(file: Path) -> list[list[str]]:
    with file.open(encoding="utf-8") as text:
        return list(csv.reader(text))


class Tables(HTMLParser):
    """The cells of every table of a page, row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.tables[-1][-1][-1] += data


def tables_of(page: Path) -> list[list[list[str]]]:
    parser = Tables()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser.tables


def shows(cell: str, number: str) -> bool:
    """Whether a cell of a page is a CSV's number, rounded, and no other."""
    if cell in (number, "–" * (not number)):
        return True
    if ".." in number:
        low, high = number.split("..")
        return cell == f"{float(low):.1%} to {float(high):.1%}"
    return cell in (f"{float(number):.2%}", f"{float(number):.1%}", f"{float(number):,.0f}")


def test_every_csv_of_a_report_is_a_table_of_its_page(compared: Path) -> None:
    pages = [compared, *(folder for folder in compared.glob("*-names-*"))]
    assert len(pages) == 8
    for page in pages:
        tables = tables_of(page / "report.html")
        own = {"per_app.csv", "confusion.csv"}
        for file in page.glob("*.csv"):
            if file.name in own:  # of another form on the page; below
                continue
            head, *rows = rows_of(file)
            (table,) = [table for table in tables if table[0] == head]
            assert len(table) == len(rows) + 1
            for cells, numbers in zip(table[1:], rows, strict=True):
                assert all(map(shows, cells, numbers)), (file, cells, numbers)


def test_page_table_and_json_hold_one_set_of_numbers(compared: Path) -> None:
    metrics = json.loads((compared / "metrics.json").read_text())
    rows = rows_of(compared / "models.csv")[1:]
    by_seed = iter(rows_of(compared / "seeds.csv")[1:])
    for row, model in zip(rows, metrics["models"], strict=True):
        assert float(row[3]) == model["accuracy"]
        assert row[4] == "..".join(map(str, model["intervals_95"]["accuracy"]))
        assert float(row[5]) == model["macro_f1"]
        assert float(row[8]) == model["at_threshold"]["accuracy"]
        assert float(row[9]) == model["coverage"]
        assert float(row[10]) == model["calibration"]["expected_calibration_error"]
        for seed in model["by_seed"]:
            assert next(by_seed)[2:5] == [str(seed[k]) for k in ("seed", "accuracy", "macro_f1")]
        own = compared / f"{model['model']}-names-{model['names']}"
        mine = json.loads((own / "metrics.json").read_text())
        assert {key: model[key] for key in model if key in mine} == {
            key: mine[key] for key in mine if key in model
        }
        per_app = {row[0]: row[1:5] for row in rows_of(own / "per_app.csv")[1:]}
        for app, figures in model["per_app"].items():
            names = ("flows", "precision", "recall", "f1")
            assert per_app[app] == [str(figures[name]) for name in names]
        confusion = [list(map(int, row[1:])) for row in rows_of(own / "confusion.csv")[1:]]
        assert confusion == model["confusion"]
        shown = next(t for t in tables_of(own / "report.html") if t[1][:2] == ["", "flows"])
        for app, *cells in shown[2:-1]:
            numbers = model["per_app"][app]
            assert shows(cells[0], str(numbers["flows"]))
            assert shows(cells[1], str(numbers["precision"]))
            assert shows(cells[3], str(numbers["f1"]))


def test_the_same_command_again_gives_the_same_numbers_bit_for_bit(
    run: Run, dataset: Path, compared: Path, tmp_path: Path
) -> None:
    """One of the models, in another folder: nothing comes from the cache, and no model depends on another."""
    folder = tmp_path / "again"
    done = run("compare", dataset, *WISHED, "--only", "-m", "paper-rf", "-o", folder)
    assert done.returncode == 0, done.stderr
    first, again = (
        {(model["model"], model["names"]): model for model in json.loads(text)["models"]}
        for text in ((compared / "metrics.json").read_text(), done.stdout)
    )
    assert set(again) == {("paper-rf", "on"), ("paper-rf", "masked")}
    for key, model in again.items():
        for metrics in (first[key], model):
            assert metrics.pop("train_s") > 0
            assert metrics.pop("identify_s") > 0
        assert model == first[key]
    names = {file.name for file in (folder / "cache").iterdir()}
    assert len(names) == 2 * 2 * 2, "names, folds, seeds"
    assert names <= {file.name for file in (compared / "cache").iterdir()}
    for name in names:
        with (
            np.load(compared / "cache" / name) as one,
            np.load(folder / "cache" / name) as other,
        ):
            np.testing.assert_array_equal(one["probabilities"], other["probabilities"])


def test_its_splits_can_be_given_back(
    run: Run, dataset: Path, compared: Path, tmp_path: Path
) -> None:
    split = compared / "splits" / "seed-0" / "fold-1.jsonl"
    done = run(
        "compare", dataset, "--split", split, "--only", "-m", "paper-rf", "-o", tmp_path / "r"
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)
    n_test = sum(json.loads(line)["side"] == "test" for line in split.read_text().splitlines())
    assert (metrics["split"], metrics["models"][0]["flows"]) == ("file", n_test)
    assert len(metrics["models"][0]["promise"]["temperatures"]) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "no-such"], "unknown model 'no-such'"),
        (["--split", "moon"], "unknown split 'moon'"),
        (["--apps", "signal,viber"], "no flows of 'viber'"),
    ],
)
def test_wrong_words_to_compare_are_exit_code_2(
    run: Run, dataset: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    done = run("compare", dataset, "-o", tmp_path / "r", *options)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
