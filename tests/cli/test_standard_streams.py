"""What reaches a terminal is cleaned at one place, and what cannot be written is one line and exit code 1."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from apptell.cli import main
from apptell.cli.app import app
from apptell.cli.standard_streams import StandardStream
from apptell.errors import OutputError
from apptell.records.terminal import TerminalConsole, clean, clean_line
from apptell.testing import app_capture, tiny_model, write_pcap

from .conftest import Run, RunInTerminal

HOSTILE = "a\x1b]0;title\x07\x1b[2J\x9b31m\u202egnp.exe\u200b\r[red]b:smile:"
OWN = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
"""Colours and cursor movements of tables and progress bars."""


def commands() -> list[str]:
    def walk(command: object, name: str) -> list[str]:
        inner = getattr(command, "commands", None)
        if inner is None:
            return [name]
        return [verb for each, sub in inner.items() for verb in walk(sub, f"{name} {each}".strip())]

    return walk(typer.main.get_command(app), "")


@pytest.mark.parametrize(
    "character",
    [
        "\x00",
        "\x07",
        "\x1b",
        "\x7f",
        "\x85",
        "\x9b",
        "\u200b",
        "\u200f",
        "\u2028",
        "\u202e",
        "\u2066",
    ]
    + ["\ufeff", "\udc9b", "\U000e0041", "\u00ad", "\u3164"],
)
def test_a_character_that_a_terminal_obeys_or_hides_is_shown_as_json_escapes_it(
    character: str,
) -> None:
    shown = clean(f"a{character}b")
    assert shown.isascii()
    assert shown.isprintable()
    assert json.loads(f'"{shown}"') == f"a{character}b"


def test_ordinary_text_and_lines_stay() -> None:
    text = "caf\u00e9 \u4e2d\u6587 \u0441\u043b\u043e\u0432\u043e \u0645\tx\ny"
    assert clean(text) == text
    assert clean_line("a\nb\tc") == "a\\u000ab\\u0009c"


def test_a_console_draws_its_own_colours_and_nothing_of_the_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from rich.table import Table

    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = io.StringIO()
    console = TerminalConsole(stream)
    table = Table(HOSTILE, title=HOSTILE, header_style="bold")
    table.add_row(HOSTILE, style="red")
    console.print(table, HOSTILE)
    drawn = stream.getvalue()
    assert "\x1b[" in drawn
    assert not (set(OWN.sub(b"", drawn.encode()).decode()) & set("\x1b\x07\x9b\r\u202e\u200b"))
    assert "[red]b:smile:" in drawn


def test_no_module_makes_a_console_that_does_not_clean() -> None:
    source = Path(__file__).parents[2] / "src/apptell"
    found = [
        path.name
        for path in source.rglob("*.py")
        if re.search(r"(?<![\w\"])Console\(", path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture, and a model with an app, all named by a stranger."""
    folder = tmp_path_factory.mktemp("hostile")
    write_pcap(folder / f"{HOSTILE}.pcap", app_capture(["signal", "zoom"], 3))
    tiny_model(folder / HOSTILE)
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ["identify", "CAPTURE", "-m", "MODEL"],
        ["identify", "CAPTURE", "-m", "MODEL", "--format", "jsonl"],
        ["identify", "CAPTURE", "-m", "MODEL", "--format", "csv"],
        ["flows", "CAPTURE"],
        ["inspect", "CAPTURE"],
        ["inspect", "CAPTURE", "--json"],
        ["dataset", "build", "CAPTURE", "-o", "DATASET"],
        ["top", "--replay", "CAPTURE", "--speed", "max", "-m", "MODEL"],
        ["identify", "MISSING"],
        ["identify", "--MISSING"],
        ["identify", "CAPTURE", "--format", "MISSING"],
        ["train", "MISSING", "-o", "MISSING"],
        ["MISSING"],
    ],
    ids=" ".join,
)
def test_no_byte_of_a_name_reaches_the_terminal(
    hostile: Path, run_in_terminal: RunInTerminal, tmp_path: Path, words: list[str]
) -> None:
    places = {
        "CAPTURE": str(hostile / f"{HOSTILE}.pcap"),
        "MODEL": str(hostile / HOSTILE),
        "DATASET": str(tmp_path / HOSTILE),
    }
    given = [places.get(word, word.replace("MISSING", HOSTILE)) for word in words]
    _, shown = run_in_terminal(*given)
    rest = OWN.sub(b"", shown)
    for hidden in ("\x1b", "\x07", "\x9b", "\u202e", "\u200b", "u200b\r"):
        assert hidden.encode() not in rest
    assert b"Traceback" not in shown


def test_json_in_a_terminal_is_the_same_data_as_in_a_pipe(
    hostile: Path, run: Run, run_in_terminal: RunInTerminal
) -> None:
    capture = hostile / f"{HOSTILE}.pcap"
    _, shown = run_in_terminal("flows", capture, "--format", "jsonl")
    lines = [line for line in shown.decode().splitlines() if line.startswith("{")]
    piped = run("flows", capture).stdout.splitlines()
    assert [json.loads(line) for line in lines] == [json.loads(line) for line in piped]
    assert {json.loads(line)["capture"] for line in piped} == {capture.name}


def full(*words: object) -> tuple[int, str]:
    """The exit code and the standard error of ``apptell ... > /dev/full``."""
    with Path("/dev/full").open("w") as sink:
        done = subprocess.run(
            [sys.executable, "-m", "apptell.cli", *map(str, words)],
            stdout=sink,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    return done.returncode, done.stderr


def full_here(monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[int, str]:
    """The same in this process, which is quicker."""
    said = io.StringIO()
    monkeypatch.setattr(sys, "argv", ["apptell", *map(str, words)])
    monkeypatch.setattr(sys, "stderr", said)
    with Path("/dev/full").open("w") as sink:
        monkeypatch.setattr(sys, "stdout", StandardStream("standard output", sink.fileno()))
        with pytest.raises(SystemExit) as end:
            main()
    return end.value.code, said.getvalue()


def is_one_line(code: int, said: str) -> bool:
    """Whether the last line says what could not be written, and nothing else looks like an error."""
    errors = [line for line in said.splitlines() if re.match(r"apptell: (?!compiling)", line)]
    told = "standard output: No space left on device", "records could not be written"
    return (
        code == 1
        and len(errors) == 1
        and said.splitlines()[-1] == errors[0]
        and errors[0].endswith(told)
        and "Traceback" not in said
        and "Exception ignored" not in said
    )


@pytest.mark.parametrize("command", ["", *commands()])
def test_help_that_cannot_be_written_is_one_line(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = full_here(monkeypatch, *command.split(), "--help")
    assert (code, said) == (1, "apptell: standard output: No space left on device\n")


@pytest.mark.parametrize(
    "words",
    [
        ["identify", "CAPTURE", "-m", "MODEL"],
        ["identify", "CAPTURE", "-m", "MODEL", "--format", "table"],
        ["identify", "CAPTURE", "-m", "MODEL", "--format", "csv"],
        ["identify", "CAPTURE", "-m", "MODEL", "--summary"],
        ["identify", "CAPTURE", "-m", "MODEL", "--out", "zeek:-"],
        ["flows", "CAPTURE"],
        ["flows", "CAPTURE", "--format", "eve"],
        ["inspect", "CAPTURE", "--json"],
        ["dataset", "build", "RECORDINGS", "-o", "NEW", "--labels", "folders"],
        ["dataset", "info", "DATASET"],
        ["dataset", "validate", "DATASET"],
        ["dataset", "services", "DATASET"],
        ["evaluate", "MODEL", "DATASET"],
        ["audit", "DATASET", "-o", "NEW"],
        ["train", "DATASET", "-o", "NEW", "--model", "paper-rf"],
        ["config", "show"],
    ],
    ids=" ".join,
)
def test_a_result_that_cannot_be_written_is_one_line(
    capture: Path,
    model: Path,
    dataset: Path,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
) -> None:
    places = {
        "CAPTURE": capture, "MODEL": model, "DATASET": dataset, "RECORDINGS": recordings,
        "NEW": tmp_path / "new",
    }  # fmt: skip
    code, said = full_here(monkeypatch, *(places.get(word, word) for word in words))
    assert is_one_line(code, said), said


@pytest.mark.parametrize("words", [["flows"], ["top", "--speed", "max", "--replay"]], ids=" ".join)
def test_a_full_standard_output_leaves_no_complaint_of_the_interpreter(
    capture: Path, words: list[str]
) -> None:
    code, said = full(*words, capture)
    assert is_one_line(code, said), said


def test_live_says_how_many_records_it_dropped_and_ends_with_1(
    capture: Path, model: Path, run: Run
) -> None:
    done = run(
        *("live", "--replay", capture, "--speed", "max", "-m", model, "--out", "jsonl:/dev/full")
    )
    assert done.returncode == 1
    assert "jsonl:/dev/full: 16 records dropped" in done.stderr
    assert done.stderr.splitlines()[-1] == "apptell: 16 records could not be written"


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_full_disk_leaves_the_old_file(
    capture: Path, model: Path, tmp_path: Path, form: str
) -> None:
    """The limit on a file's size stands for the disk."""
    old = tmp_path / "out"
    old.write_text("old")
    command = f"ulimit -f 1; exec {sys.executable} -m apptell.cli identify {capture} -m {model}"
    command += f" -o {old} --format {form}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"apptell: {old}: File too large"
    assert "Traceback" not in done.stderr
    assert old.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_a_closed_standard_output_is_one_line_and_only_where_it_is_needed(
    capture: Path, tmp_path: Path
) -> None:
    command = f"exec {sys.executable} -m apptell.cli flows {capture}"
    done = subprocess.run(["bash", "-c", f"{command} >&-"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1,
        "apptell: standard output: is closed",
    )
    done = subprocess.run(["bash", "-c", f"{command} -o {tmp_path}/a.csv >&-"], capture_output=True)
    assert done.returncode == 0
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 9


def test_a_standard_stream_takes_back_what_it_could_not_write_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    with path.open("wb") as file:
        stream = StandardStream("standard output", file.fileno())
        stream.write("first\n")
        stream.flush()
        write, calls = os.write, []

        def fails(descriptor: int, data: bytes) -> int:
            calls.append(data)
            if len(calls) > 1:
                raise OSError(28, "No space left on device")
            return write(descriptor, bytes(data)[:3])

        monkeypatch.setattr(os, "write", fails)
        stream.write("second\n")
        with pytest.raises(OutputError, match="standard output: No space left on device"):
            stream.flush()
        monkeypatch.undo()
        stream.write("third\n")
        stream.flush()
    assert path.read_text() == "first\nthird\n"
