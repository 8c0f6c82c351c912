"""Reports of ``apptell compare`` in, the rows of docs/reports/results.md out.

python benchmarks/results_table.py REPORT...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Prints one table per report."""
    for folder in map(Path, sys.argv[1:]):
        report = json.loads((folder / "metrics.json").read_text())
        first = report["models"][0]
        print(
            f"`{report['dataset']}`, protocol `{report['protocol']}`, folds {report['folds']}, epochs "
            f"{report['epochs']}, seeds {report['seeds']} from {report['seed']}, "
            f"{first['tested_flows']:,} tested flows in {first['groups']} groups:\n"
        )
        print(
            "| model | names | accuracy (95 %) | macro-F1 (95 %) | macro-F1 by seed "
            "| by provider: accuracy / macro-F1 | without other: accuracy / macro-F1 "
            "| at 0.85: accuracy at coverage | ECE |"
        )
        print("| --- " * 9 + "|")
        for model in report["models"]:
            seeds = [each["macro_f1"] for each in model["by_seed"]]
            print(
                f"| {model['model']} | {model['names']} | {_figure(model, 'accuracy')} "
                f"| {_figure(model, 'macro_f1')} "
                f"| {f'{min(seeds):.3f} to {max(seeds):.3f}' if len(seeds) > 1 else '–'} "
                f"| {_beside(model['by_provider'])} | {_beside(model['without_other'])} "
                f"| {model['at_threshold']['accuracy']:.3f} at {model['coverage']:.3f} "
                f"| {model['calibration']['expected_calibration_error']:.3f} |"
            )
        print()


def _figure(model: dict[str, Any], name: str) -> str:
    if name not in model["intervals_95"]:
        return f"{model[name]:.3f}"
    low, high = model["intervals_95"][name]
    return f"{model[name]:.3f} ({low:.3f} to {high:.3f})"


def _beside(found: dict[str, Any] | None) -> str:
    return "–" if found is None else f"{found['accuracy']:.3f} / {found['macro_f1']:.3f}"


if __name__ == "__main__":
    main()
