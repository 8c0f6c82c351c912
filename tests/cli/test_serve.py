"""``apptell serve`` as a process: it answers, ends on SIGTERM, and refuses what is not safe."""

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.history.rows import mixed_records

for library in ("starlette", "uvicorn", "duckdb"):
    pytest.importorskip(library)


@pytest.mark.parametrize("records", [18, 0])
def test_it_answers_until_sigterm(tmp_path: Path, records: int) -> None:
    """The folder of records need not be there before the running live whose records these will be."""
    if records:
        mixed_records(tmp_path / "records")
    command = [
        sys.executable,
        "-m",
        "apptell.cli",
        "serve",
        "--records",
        "records",
        "--listen",
        "0",
        "--live",
        "now.sock",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if line.startswith("Open "))
        address = line.split()[1]
        with urllib.request.urlopen(f"{address}api/status", timeout=60) as answer:
            status = json.load(answer)
        assert (status["records"], status["source"]) == (records, "apptell live")
        assert (tmp_path / "now.sock").is_socket()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stderr.read() == ""
        assert not (tmp_path / "now.sock").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ("--listen", "0", "--upload-size", "0"),
            2,
            "nothing to show: name a source, --records FOLDER, --reports FOLDER or --models DIR",
        ),
        (("--records", "none", "--listen", "0"), 1, "none: no such folder of records"),
        (("--models", "none", "--listen", "0"), 1, "none: No such file or directory"),
        (("--live-metrics", "1", "--records", "."), 2, "--live-metrics: only with --live"),
        (
            ("--live", "x", "--replay", "none.pcap", "--listen", "0"),
            2,
            "--live: a running live is the source; name no other",
        ),
        (
            ("--records", ".", "--listen", "0.0.0.0:0"),
            2,
            "0.0.0.0 can be reached by other machines",
        ),
        (("--records", ".", "--listen", "x"), 2, "'x' does not have the form [HOST:]PORT"),
        (
            ("--records", ".", "--listen", "0", "--token-file", "none"),
            2,
            "none: No such file or directory",
        ),
        (
            ("--records", ".", "--listen", "0", "--keep-size", "much"),
            2,
            "'much' is not a size such as",
        ),
        (("--upload-size", "big", "--listen", "0"), 2, "'big' is not a size such as"),
        (("-m", "none", "--listen", "0"), 1, "none: no such model folder"),
        (("--captures", "none", "--listen", "0"), 1, "none: no such folder of captures"),
    ],
)
def test_what_it_refuses(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = run("serve", *arguments, cwd=tmp_path)
    assert done.returncode == code
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
