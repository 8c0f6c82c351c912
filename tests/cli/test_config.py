"""Settings from flags, environment and file: who wins, what is refused, where a value came from."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from apptell.cli.app import app

ROOT = Path(__file__).parents[2]
PHONE = ROOT / "src/apptell/samples/pcapdroid/phone.pcap"


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """A folder without settings, and none at home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    for name in list(os.environ):
        if name.startswith("APPTELL_"):
            monkeypatch.delenv(name)
    return tmp_path


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def shown(*words):
    done = run("config", "show", *words)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    return found["file"], {
        (row["verb"], row["option"]): (row["value"], row["from"]) for row in found["settings"]
    }


def test_flags_win_over_the_environment_and_it_over_the_file(nowhere, monkeypatch):
    (nowhere / "apptell.toml").write_text(
        '[live]\nthreshold = 0.1\ndecide-after = 1\nmetrics = 9109\nout = ["eve:a b", "csv:c"]\n'
    )
    monkeypatch.setenv("APPTELL_LIVE_THRESHOLD", "0.2")
    monkeypatch.setenv("APPTELL_LIVE_DECIDE_AFTER", "2")
    file, found = shown("live", "--threshold", "0.3")
    assert file == "apptell.toml"
    assert found["live", "threshold"] == (0.3, "flag")
    assert found["live", "decide-after"] == (2.0, "APPTELL_LIVE_DECIDE_AFTER")
    assert found["live", "metrics"] == ("9109", "apptell.toml")
    assert found["live", "out"] == (["eve:a b", "csv:c"], "apptell.toml")
    assert found["live", "speed"] == ("1x", "default")


def test_without_a_verb_every_verb_is_shown_those_of_groups_too(monkeypatch):
    monkeypatch.setenv("APPTELL_DATASET_BUILD_MASK_NAMES", "yes")
    done = run("config")
    found = json.loads(done.stdout)
    assert found["file"] is None
    rows = {(row["verb"], row["option"]): row for row in found["settings"]}
    assert rows["dataset build", "mask-names"]["value"] is True
    assert rows["dataset build", "mask-names"]["from"] == "APPTELL_DATASET_BUILD_MASK_NAMES"
    assert {row["from"] for row in found["settings"]} == {
        "default",
        "APPTELL_DATASET_BUILD_MASK_NAMES",
    }


def test_several_values_stand_in_the_environment_with_blanks_between(monkeypatch):
    monkeypatch.setenv("APPTELL_LIVE_OUT", "eve:/a  jsonl:-")
    assert shown("live")[1]["live", "out"] == (["eve:/a", "jsonl:-"], "APPTELL_LIVE_OUT")


def test_a_verb_runs_with_what_is_set(nowhere, monkeypatch):
    (nowhere / "apptell.toml").write_text('[identify]\nformat = "csv"\n')
    assert run("identify", PHONE).stdout.startswith("time,community_id,")
    monkeypatch.setenv("APPTELL_IDENTIFY_FORMAT", "jsonl")
    assert run("identify", PHONE).stdout.startswith("{")
    assert run("identify", PHONE, "--format", "csv").stdout.startswith("time,")


def test_the_file_is_looked_for_in_four_places(nowhere, monkeypatch):
    at_home = nowhere / "home/apptell/apptell.toml"
    at_home.parent.mkdir(parents=True)
    at_home.write_text("[live]\nsnap = 1\n")
    assert shown("live")[0] == str(at_home)
    (nowhere / "apptell.toml").write_text("[live]\nsnap = 2\n")
    assert shown("live")[1]["live", "snap"] == (2, "apptell.toml")
    (nowhere / "named.toml").write_text("[live]\nsnap = 3\n")
    monkeypatch.setenv("APPTELL_CONFIG", "named.toml")
    assert shown("live")[1]["live", "snap"] == (3, "named.toml")
    done = run("--config", "apptell.toml", "config", "live")
    assert json.loads(done.stdout)["file"] == "apptell.toml"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[live]\nmetrix = 1", "[live]: no option 'metrix'; available: interface, "),
        ("[liv]\n", "no verb 'liv'; available: identify, "),
        ("live = 3", "live is no section: write [live]"),
        ("[live]\nout = 'a:b'", "out: 'a:b' is not a list of values"),
        ("[live]\nspeed = ['1x']", "speed: ['1x'] is not one value"),
        ("[live]\ndecide-after = 'soon'", "decide-after: "),
        ("[live]\ndecide-after = -1", "decide-after: "),
        ("[live]\npromiscuous = 1", "promiscuous: 1 is neither true nor false"),
        ("[live]\ninterface = true", "interface: True is neither a text nor a number"),
        ("[live", "not TOML: "),
        ("x = " + "[" * 5000, "not TOML: nested too deeply"),
        ("x = " + "1" * 5000, "not TOML: "),
        ('[live]\nreplay = "a\\u0000b"', "replay: 'a\\x00b' has a NUL character"),
        ("#" * 70_000, "larger than 64 KiB"),
        ("[dataset]\njobs = 2", "[dataset]: no verb 'jobs'; available: build, "),
    ],
)
def test_what_does_not_fit_is_one_line_that_names_the_file(nowhere, text, words):
    (nowhere / "apptell.toml").write_text(text)
    done = run("live", "-")
    assert done.exit_code == 2
    assert done.stderr.startswith("apptell: apptell.toml: ")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_value_that_is_refused_later_is_traced_to_its_variable_or_section(nowhere, monkeypatch):
    (nowhere / "apptell.toml").write_text("[identify]\nthreshold = 7.5\n")
    done = run("identify", PHONE)
    assert done.exit_code == 2
    assert "threshold 7.5 is not between 0 and 1" in done.stderr
    assert "(threshold is set by apptell.toml: [identify])" in done.stderr
    monkeypatch.setenv("APPTELL_IDENTIFY_THRESHOLD", "8.5")
    assert "(threshold is set by APPTELL_IDENTIFY_THRESHOLD)" in run("identify", PHONE).stderr
    assert "is set by" not in run("identify", PHONE, "--threshold", "9.5").stderr


@pytest.mark.parametrize("line", ["min-confidence = 3", "idle-timeout = 0"])
def test_a_value_is_traced_whose_message_does_not_spell_its_option(nowhere, line):
    (nowhere / "apptell.toml").write_text(f"[identify]\n{line}\n")
    done = run("identify", PHONE)
    assert done.exit_code == 2
    assert f"({line.split()[0]} is set by apptell.toml: [identify])" in done.stderr


def test_a_section_is_named_where_its_value_is_wrong(nowhere):
    (nowhere / "apptell.toml").write_text("[live]\ndecide-after = -1\n")
    assert "apptell.toml: [live]: decide-after: " in run("live", "-").stderr


def test_a_file_in_the_current_directory_may_not_extract_packets(nowhere):
    (nowhere / "apptell.toml").write_text("[identify]\nextract = 'x.pcapng'\n")
    done = run("identify", PHONE)
    assert (done.exit_code, "may not set 'extract'" in done.stderr) == (2, True)


def test_a_file_that_is_named_must_be_there():
    done = run("--config", "no.toml", "live", "-")
    assert (done.exit_code, done.stderr) == (2, "apptell: no.toml: No such file or directory\n")


def test_a_bad_variable_is_named_and_an_unknown_one_is_said(monkeypatch):
    monkeypatch.setenv("APPTELL_LIVE_PROMISCUOUS", "maybe")
    done = run("live", "-")
    assert done.exit_code == 2
    assert "APPTELL_LIVE_PROMISCUOUS: promiscuous: 'maybe' is neither yes nor no" in done.stderr
    monkeypatch.delenv("APPTELL_LIVE_PROMISCUOUS")
    monkeypatch.setenv("APPTELL_LIVE_TRESHOLD", "1")
    assert "APPTELL_LIVE_TRESHOLD: no verb knows this variable" in run("config").stderr


def test_a_broken_file_does_not_keep_from_reading_the_help(nowhere):
    (nowhere / "apptell.toml").write_text("[")
    assert run("live", "--help").exit_code == 0


def test_a_source_that_is_typed_puts_aside_the_one_that_is_set(nowhere):
    (nowhere / "apptell.toml").write_text('[live]\ninterface = "eth0"\nsnap = 96\n')
    done = run("live", "--replay", PHONE, "--speed", "max")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["event"] == "verdict"


def test_an_unknown_verb_is_refused():
    done = run("config", "show", "nix")
    assert done.exit_code == 2
    assert "no verb 'nix'; available: identify, " in done.stderr


_READ_ONLY = """
set -e
for folder in "$KERNELS" "$PACKAGE"; do
  mount --bind "$folder" "$folder"
  mount -o remount,ro,bind "$folder"
done
exec "$@"
"""


def _may_mount() -> bool:
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        return False
    return (
        subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.slow
def test_every_kernel_that_a_capture_may_need_is_compiled(kernels):
    import apptell.service.prepare  # noqa: F401 (its imports declare the kernels)
    from apptell.kernels.compiled import KERNELS

    found = json.loads(kernels.with_suffix(".json").read_text())
    assert found["compiled"] > 20
    assert found["cached"] == 0
    assert all(each.startswith(str(kernels)) for each in found["folders"])
    declared = {f"{each.py_func.__module__}.{each.__name__}" for each in KERNELS}
    needed = {name for name in declared if re.match(r"apptell\.(?!learning\.)", name) is not None}
    assert len(needed) > 30
    assert needed - {file.name.partition("-")[0] for file in kernels.rglob("*.nbi")} == set()


@pytest.mark.slow
@pytest.mark.skipif(not _may_mount(), reason="a read-only mount needs root and unshare")
def test_what_was_compiled_serves_an_install_that_may_only_be_read(kernels):
    told = {
        **os.environ,
        "KERNELS": str(kernels),
        "PACKAGE": str(ROOT / "src/apptell"),
        "HOME": "/proc/none",
        "XDG_CACHE_HOME": "/proc/none",
        "NUMBA_CACHE_DIR": str(kernels),
        "NUMBA_DEBUG_CACHE": "1",
    }
    for words in (
        ["identify", PHONE, "--transport", "tcp,udp", "-o", os.devnull, "--format", "jsonl"],
        ["inspect", PHONE],
        ["live", "--replay", PHONE, "--speed", "max", "--decide-after", "1", "--out", "csv:/dev/null"],
    ):  # fmt: skip
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", _READ_ONLY, "sh", sys.executable, "-m", "apptell.cli", *words],
            env=told, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (words, done.stderr)
        assert "data loaded from" in done.stdout, words
        assert "data saved to" not in done.stdout, words


@pytest.mark.parametrize("name", ["out", "metrics", "on-verdict", "user"])
def test_a_file_in_the_current_directory_may_not_run_write_or_listen(nowhere, name):
    value = '["jsonl:stolen"]' if name == "out" else '"9109"'
    (nowhere / "apptell.toml").write_text(f"[live]\n{name} = {value}\n")
    done = run("live", "--replay", "nothing.pcap")
    assert done.exit_code == 2
    assert f"a file in the current directory may not set '{name}'" in done.stderr
    done = run("--config", "apptell.toml", "live", "--replay", "nothing.pcap")
    assert "may not set" not in done.stderr


HARMFUL = [
    ("train", "replace", "true", ["train", "d", "-o", "m"]),
    ("learn", "dataset", '"flows"', ["learn", "c", "-o", "m"]),
    ("compare", "cache", '"c"', ["compare", "d"]),
    ("dataset.services", "shared", '"drop"', ["dataset", "services", "d"]),
    ("dataset.build", "keep-plain", "true", ["dataset", "build", "c", "-o", "d"]),
    ("identify", "raw-csv", "true", ["identify", "nothing.pcap"]),
    ("flows", "columns", '"segments"', ["flows", "nothing.pcap"]),
]


@pytest.mark.parametrize(("section", "name", "value", "words"), HARMFUL, ids=lambda each: str(each))
def test_it_may_not_change_what_is_the_users_or_give_up_a_protection_either(
    nowhere, section, name, value, words
):
    (nowhere / "apptell.toml").write_text(f"[{section}]\n{name} = {value}\n")
    done = run(*words)
    assert done.exit_code == 2
    assert f"a file in the current directory may not set '{name}'" in done.stderr
    done = run("--config", "apptell.toml", *words)
    assert "may not set" not in done.stderr


@pytest.mark.parametrize(
    "line",
    ["[flows]\njobs = 1000000", "[flows]\nmax-flows = 1000000000000", "[live]\nworkers = 9999"],
)
def test_numbers_that_would_take_all_of_the_machine_are_refused(nowhere, line):
    (nowhere / "apptell.toml").write_text(line + "\n")
    done = run(line[1 : line.index("]")], "nothing.pcap")
    assert (done.exit_code, "less than or equal to" in done.stderr) == (2, True)


def test_a_file_in_the_current_directory_is_named_on_standard_error_when_it_is_read(nowhere):
    (nowhere / "apptell.toml").write_text("[identify]\nthreshold = 0.5\n")
    done = run("identify", "nothing.pcap")
    assert f"Settings are read from {nowhere / 'apptell.toml'}" in done.stderr


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_a_file_of_another_user_in_the_current_directory_is_refused(nowhere):
    file = nowhere / "apptell.toml"
    file.write_text("[identify]\nthreshold = 0.5\n")
    os.chown(file, 12_345, -1)
    done = run("identify", "nothing.pcap")
    assert done.exit_code == 2
    assert "belongs to another user (uid 12345)" in done.stderr


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_a_settings_folder_that_cannot_be_entered_is_passed_over(nowhere):
    home = nowhere / "home/apptell"
    home.mkdir(parents=True)
    home.chmod(0)
    try:
        assert shown("live")[0] is None
    finally:
        home.chmod(0o700)


def test_no_home_folder_is_no_error(nowhere, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", "~nobody-of-that-name/config")
    assert shown("live")[0] is None
