"""What errors say: libraries name no option of the command line, and a missing extra names its command."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "apptell"
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def test_errors_of_the_library_name_no_option_of_the_command_line() -> None:
    named = [
        f"{path.relative_to(SOURCE)}:{node.lineno}: {text.value}"
        for path in sorted(SOURCE.rglob("*.py"))
        if path.relative_to(SOURCE).parts[0]
        not in ("cli", "web")  # pages say how to start the server
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Raise)
        for text in ast.walk(node)
        if isinstance(text, ast.Constant) and isinstance(text.value, str)
        if _OPTION.search(text.value)
    ]
    assert not named


@pytest.mark.parametrize(
    ("statement", "what", "library"),
    [
        ("apptell.AppClassifier", "apptell.AppClassifier", "sklearn"),
        ("apptell.StatisticsForest", "apptell.StatisticsForest", "sklearn"),
        ("apptell.train(flows, 'paper-rf', split='source')", "training", "sklearn"),
        ("apptell.train(flows, 'paper-cnn', split='source')", "training", "sklearn"),
        ("apptell.audit(flows, 'source')", "an audit", "sklearn"),
        (
            "apptell.compare(flows, ['paper-rf'], only=True, folds=2, held_out=0)",
            "training",
            "sklearn",
        ),
    ],
)
def test_a_missing_extra_is_answered_with_the_command_that_installs_it(
    statement: str, what: str, library: str
) -> None:
    program = f"""
import sys
sys.modules["sklearn"] = sys.modules["torch"] = None
import apptell
from apptell.testing import flow_batch
flows = flow_batch(["signal", "zoom"] * 20)
try:
    {statement}
except apptell.MissingError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"{what} needs {library}, which is not installed: pip install 'apptell[train]'\n"
    )
