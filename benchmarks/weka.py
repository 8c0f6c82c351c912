"""The forest beside Weka's on the same flows, features and split: Debian's weka package, 100 trees.

    python benchmarks/weka.py DATASET [--jar /usr/share/java/weka.jar]

Prints accuracy of both for five random 80/20 splits by connection, and how often they agree.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from apptell.dataset import Dataset, split
from apptell.encoding import STATISTICS
from apptell.encoding import statistics as statistics_of
from apptell.experiments.labelled import apps_of
from apptell.learning import StatisticsForest


def write_arff(path: Path, features: np.ndarray, labels: list[str], apps: list[str]) -> None:
    """Weka's text form: the 37 features and the app."""
    lines = ["@relation flows", *(f"@attribute {name} numeric" for name in STATISTICS)]
    lines += ["@attribute app {" + ",".join(apps) + "}", "@data"]
    rows = zip(features, labels, strict=True)
    lines += [",".join(map(repr, map(float, row))) + f",{label}" for row, label in rows]
    path.write_text("\n".join(lines) + "\n")


def weka(jar: Path, train: Path, test: Path, seed: int) -> list[str]:
    """Weka's verdicts on the test file."""
    run = subprocess.run(
        ["java", "-Xmx4g", "-cp", str(jar), "weka.classifiers.trees.RandomForest"]
        + ["-I", "100", "-S", str(seed), "-t", str(train), "-T", str(test), "-p", "0"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split() for line in run.stdout.splitlines()]
    return [row[2].split(":")[1] for row in rows if len(row) >= 4 and row[0].isdigit()]


def main() -> None:
    """Runs both forests on five splits."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--jar", type=Path, default=Path("/usr/share/java/weka.jar"))
    arguments = parser.parse_args()
    flows = Dataset.open(arguments.dataset).read()
    flows = flows.filter(np.array([app != "other" for app in apps_of(flows)]))
    labels = np.array(apps_of(flows))
    apps = sorted(set(labels.tolist()))
    features = statistics_of(flows)
    ours, theirs, agree = [], [], []
    for seed in range(5):
        parts = split(flows, "paper", seed=seed)
        forest = StatisticsForest(random_state=seed).fit(features[parts.train], labels[parts.train])
        mine = forest.predict(features[parts.test])
        with tempfile.TemporaryDirectory() as folder:
            train, test = (Path(folder) / f"{name}.arff" for name in ("train", "test"))
            for file, rows in ((train, parts.train), (test, parts.test)):
                write_arff(file, features[rows], labels[rows].tolist(), apps)
            other = np.array(weka(arguments.jar, train, test, seed + 1))
        truth = labels[parts.test]
        ours.append(float((mine == truth).mean()))
        theirs.append(float((other == truth).mean()))
        agree.append(float((mine == other).mean()))
        print(f"split {seed}: apptell {ours[-1]:.4f}, Weka {theirs[-1]:.4f}, alike {agree[-1]:.4f}")
    print(
        f"mean: apptell {statistics.mean(ours):.4f}, Weka {statistics.mean(theirs):.4f}, "
        f"alike {statistics.mean(agree):.4f}; {len(labels)} flows"
    )


if __name__ == "__main__":
    main()
