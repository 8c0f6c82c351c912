"""Inputs that once went wrong: a folder each, with ``expected.txt`` for people and ``case.json`` for this test.

``case.json`` is a list of runs of ``apptell`` in that folder:

- ``run``: the arguments; ``OUT`` stands for a new folder.
- ``exit``: the exit code; default: 0.
- ``report``: keys of the JSON object on stdout, and their values.
- ``records``: columns of the JSON lines on stdout, and the values of each over all lines, sorted.
- ``stdout``, ``stderr``: regular expressions that have to be found there.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CASES = [
    pytest.param(case.parent, run, id=f"{case.parent.name}-{number}")
    for case in sorted(HERE.glob("*/case.json"))
    for number, run in enumerate(json.loads(case.read_text()))
]


@pytest.mark.parametrize(("folder", "case"), CASES)
def test_an_input_that_once_went_wrong_is_read_as_expected(folder, case, tmp_path):
    arguments = [argument.replace("OUT", str(tmp_path / "out")) for argument in case["run"]]
    done = subprocess.run(
        [sys.executable, "-m", "apptell.cli", *arguments],
        capture_output=True,
        cwd=folder,
        env={**os.environ, "COLUMNS": "200"},
        timeout=300,
        check=False,
    )
    stdout, stderr = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == case.get("exit", 0), stderr
    assert "Traceback" not in stderr
    if "report" in case:
        found = json.loads(stdout)
        assert {key: found[key] for key in case["report"]} == case["report"]
    if "records" in case:
        rows = [json.loads(line) for line in stdout.splitlines()]
        found = {name: sorted((row[name] for row in rows), key=str) for name in case["records"]}
        assert found == case["records"]
    for stream, text in (("stdout", stdout), ("stderr", stderr)):
        for pattern in case.get(stream, []):
            assert re.search(pattern, text), text
