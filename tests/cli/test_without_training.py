"""Verbs that train, where the extra ``train`` is not installed: one line with the command that installs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import apptell
from apptell.testing import app_capture, write_pcap

VERBS = (
    ["train", "DATASET", "-o", "NEW"],
    ["train", "DATASET", "-o", "NEW", "--model", "paper-cnn"],
    ["train", "DATASET", "-o", "NEW", "--keep-rows"],
    ["learn", "NAMED", "-o", "NEW", "--least", "1"],
    ["compare", "DATASET", "-o", "NEW", "--split", "paper"],
    ["reproduce", "paper", "--data", "DATASET", "-o", "NEW"],
    ["audit", "DATASET"],
    ["demo", "-o", "NEW"],
)
NAMED = Path(apptell.__file__).parent / "samples" / "named" / "named.pcap.xz"
PROGRAM = """
import importlib.abc, io, json, sys
from contextlib import redirect_stderr, redirect_stdout

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "sklearn", "scipy", "onnx", "skl2onnx", "threadpoolctl"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from apptell.cli import main
for words in json.loads(sys.argv[1]):
    sys.argv, said = ["apptell", *words], io.StringIO()
    code = 0
    with redirect_stderr(said), redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as end:
            code = end.code
        except Exception as error:
            code = repr(error)
    print(json.dumps([code, said.getvalue()]))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[list[object]]:
    root = tmp_path_factory.mktemp("light")
    (root / "captures").mkdir()
    for app in ("signal", "zoom"):
        write_pcap(root / "captures" / f"{app}.pcap", app_capture([app], 30))
    verbs = [
        [str(root / f"{word.lower()}-{number}") if word == "NEW" else word for word in words]
        for number, words in enumerate(VERBS)
    ]
    there = {"DATASET": str(root / "dataset"), "NAMED": str(NAMED)}
    verbs = [[there.get(word, word) for word in words] for words in verbs]
    build = ["dataset", "build", str(root / "captures"), "-o", str(root / "dataset")]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([build, *verbs])],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    built, *found = map(json.loads, done.stdout.splitlines())
    assert built[0] == 0, built
    return found


@pytest.mark.parametrize("at", range(len(VERBS)), ids=[" ".join(words) for words in VERBS])
def test_a_missing_extra_is_one_line_with_the_command_that_installs_it(
    answers: list[list[object]], at: int
) -> None:
    code, said = answers[at]
    assert code == 3, said
    assert str(said).splitlines()[-1].endswith("is not installed: pip install 'apptell[train]'")
    assert "Traceback" not in str(said)
