"""Reports of ``apptell compare`` in, the rows of docs/results.md out.

python benchmarks/results_table.py REPORT...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Prints one table per report."""
    for folder in map(Path, sys.argv[1:]):
        report = json.loads((folder / "metrics.json").read_text())
        print(
            f"`{report['dataset']}`, protocol `{report['protocol']}`, {report['folds']} folds, "
            f"{report['epochs']} epochs, seed {report['seed']}, {report['models'][0]['flows']:,} flows "
            f"in {report['models'][0]['groups']} groups:\n"
        )
        print(
            "| model | names | accuracy | macro-F1 (95 %) | by provider: accuracy / macro-F1 "
            "| at 0.85: accuracy at coverage | ECE |"
        )
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for model in report["models"]:
            low, high = model["intervals_95"]["macro_f1"]
            provider = model["by_provider"]
            print(
                f"| {model['model']} | {model['names']} | {model['accuracy']:.3f} "
                f"| {model['macro_f1']:.3f} ({low:.3f} to {high:.3f}) "
                f"| {provider['accuracy']:.3f} / {provider['macro_f1']:.3f} "
                f"| {model['at_threshold']['accuracy']:.3f} at {model['coverage']:.3f} "
                f"| {model['calibration']['expected_calibration_error']:.3f} |"
            )
        print()


if __name__ == "__main__":
    main()
