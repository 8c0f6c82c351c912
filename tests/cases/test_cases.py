"""Inputs that once went wrong: a folder each, with ``expected.txt`` for people and ``case.json`` for this test.

``case.json`` is a list of runs of ``apptell`` in that folder:

- ``run``: the arguments; ``OUT`` stands for a new folder.
- ``exit``: the exit code; default: 0.
- ``report``: keys of the JSON object on stdout, and their values.
- ``records``: columns of the JSON lines on stdout, and the values of each over all lines, sorted.
- ``stdout``, ``stderr``: regular expressions that have to be found there.
- ``before``: runs that come first, each a list of arguments.
- ``terminal``: true runs it in a terminal, which may get colours and the cursor movements of a progress bar,
  but no other control, bidirectional or invisible character.
- ``zeek``: fields of the tab-separated log on stdout, read by Zeek's rules, and the values of each, sorted.
"""

import json
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CASES = [
    pytest.param(case.parent, run, id=f"{case.parent.name}-{number}")
    for case in sorted(HERE.glob("*/case.json"))
    for number, run in enumerate(json.loads(case.read_text()))
]

OWN = re.compile("\x1b\\[(?:[0-9;]*m|2K|1A|\\?25[lh])|\r(?=\n|\x1b)")
"""Colours, and how a progress bar is drawn over the one before."""
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f]")


def with_out(arguments, tmp_path):
    return [argument.replace("OUT", str(tmp_path / "out")) for argument in arguments]


def zeek_rows(text):
    """The records of a Zeek log: docs.zeek.org, "Zeek Log Formats and Inspection"."""

    def value(cell):
        if cell == "-":
            return None
        if cell == "(empty)":
            return ""
        data = re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), cell.encode())
        return data.decode()

    lines = text.splitlines()
    (names,) = (line.split("\t")[1:] for line in lines if line.startswith("#fields\t"))
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    assert {len(row) for row in rows} == {len(names)}
    return [dict(zip(names, map(value, row), strict=True)) for row in rows]


@pytest.mark.parametrize(("folder", "case"), CASES)
def test_an_input_that_once_went_wrong_is_read_as_expected(
    folder, case, run, run_in_terminal, tmp_path
):
    for before in case.get("before", []):
        assert run(*with_out(before, tmp_path), cwd=folder).returncode == 0
    arguments = with_out(case["run"], tmp_path)
    if case.get("terminal"):
        code, shown = run_in_terminal(*arguments, cwd=folder)
        stdout = stderr = shown.decode()
        assert UNSAFE.findall(OWN.sub("", stdout)) == []
    else:
        done = run(*arguments, cwd=folder)
        code, stdout, stderr = done.returncode, done.stdout, done.stderr
    assert code == case.get("exit", 0), stderr
    assert "Traceback" not in stderr
    if "report" in case:
        found = json.loads(stdout)
        assert {key: found[key] for key in case["report"]} == case["report"]
    if "records" in case:
        rows = [json.loads(line) for line in stdout.splitlines()]
        found = {name: sorted((row[name] for row in rows), key=str) for name in case["records"]}
        assert found == case["records"]
    if "zeek" in case:
        rows = zeek_rows(stdout)
        found = {name: sorted((row[name] for row in rows), key=str) for name in case["zeek"]}
        assert found == case["zeek"]
    for stream, text in (("stdout", stdout), ("stderr", stderr)):
        for pattern in case.get(stream, []):
            assert re.search(pattern, text), text
