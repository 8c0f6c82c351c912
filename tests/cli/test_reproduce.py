import csv
import json
from pathlib import Path

from .conftest import Run


def test_the_paper_stands_beside_ours_and_the_reduction_is_said(
    run: Run, dataset: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "r"
    done = run(
        "reproduce", "paper", "--data", dataset, "--epochs", 1, "--seeds", 1, "-o", folder
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = json.loads((folder / "metrics.json").read_text())
    assert json.loads(done.stdout) == metrics
    page = (folder / "report.html").read_text()
    for words in ("Table 1", "Table 4", "Table 5", "Table 6", "Fig. 3", "96.94%", "93.67%"):
        assert words in page
    assert page.count("REDUCED: 1 epochs instead of the paper") > 8
    accuracy = list(csv.reader((folder / "accuracy.csv").read_text().splitlines()))
    assert float(accuracy[2][1]) == metrics["cnn"][0]["accuracy"]


def test_wrong_words_and_a_lab_that_is_not_there_are_told(run: Run, tmp_path: Path) -> None:
    done = run("reproduce", "moon", "-o", tmp_path / "r")
    assert (done.returncode, "available: paper" in done.stderr) == (2, True)
    done = run("reproduce", "paper", "-o", tmp_path / "r", cwd=tmp_path)
    assert (done.returncode, "make lab-dataset" in done.stderr) == (3, True)
