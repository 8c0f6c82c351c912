"""Measures the share of right labels in a dataset that was built from the lab's recordings.

python benchmarks/lab_labels.py DATASET RECORDINGS

The labels come from the kernel's log of who opened each connection. The lab's own record, which labelling
never uses, is the server names that it gave to each app. So a flow whose server name belongs to another app
than its label has a wrong label. Names that two apps were given by chance are not counted.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from apptell.dataset import Dataset


def owners(recordings: Path) -> dict[tuple[str, str], str]:
    """(Recording, server name) -> the label it belongs to; empty where it belongs to two."""
    found: dict[tuple[str, str], str] = {}
    for path in recordings.rglob("recording.json"):
        content = json.loads(path.read_text())
        for label, names in content["names"].items():
            for name in names:
                at = content["recording"], name
                found[at] = label if found.get(at, label) == label else ""
    return found


def main() -> None:
    """Counts and prints."""
    dataset, recordings = Dataset.open(sys.argv[1]), Path(sys.argv[2])
    known = owners(recordings)
    counts: Counter[str] = Counter()
    wrong: Counter[tuple[str, str]] = Counter()
    for batch in dataset.batches(("core", "names", "labels")):
        for row in batch.to_arrow().select(["server_name", "label", "groups"]).to_pylist():
            source = dict(row["groups"])["source"].partition("/")[0]
            owner = known.get((source, row["server_name"]))
            if row["server_name"] is None or not owner:
                counts["nameless"] += 1
            elif owner == row["label"]:
                counts["right"] += 1
            else:
                wrong[owner, row["label"]] += 1
    n_right, n_wrong = counts["right"], sum(wrong.values())
    print(f"{n_right + n_wrong:,} flows with a server name of the lab's: {n_wrong} labels wrong")
    print(f"right: {n_right / max(1, n_right + n_wrong):.6f}")
    print(f"{counts['nameless']:,} flows without such a name")
    for (owner, label), number in wrong.most_common():
        print(f"  {number} of {owner} labelled {label}")


if __name__ == "__main__":
    main()
