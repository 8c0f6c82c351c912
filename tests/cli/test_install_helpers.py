"""Shell completion and man pages."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import typer.main
from llvmlite import binding

from apptell.cli.app import app
from apptell.kernels.baseline import PROCESSOR, is_able

ROOT = Path(__file__).parents[2]
MAN = shutil.which("man")
FISH = shutil.which("fish")
COMPILER = """
import os, sys
from pathlib import Path
assert sys.argv[1:4] == ["config", "compile", "--cache"]
place = Path(sys.argv[4]) / "place"
place.mkdir()
for suffix in ("nbi", "nbc", "mc", "lock"):
    (place / f"one.{suffix}").write_text(os.environ["NUMBA_CPU_NAME"])
"""
"""Stands in for apptell: writes what it would compile for."""


def _complete(*words: str) -> list[str]:
    """What bash is offered for the last word."""
    environment = {
        **os.environ,
        "_APPTELL_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(("apptell", *words)),
        "COMP_CWORD": str(len(words)),
    }
    command = [sys.executable, "-m", "apptell.cli"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.split()


def test_a_shell_completes_verbs_and_options() -> None:
    assert _complete("ident") == ["identify"]
    assert "--client-names" in _complete("identify", "--client")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_each_completion_is_one_line_with_its_whole_description(shell: str) -> None:
    """A description that is broken in the middle would be read as further completions."""
    environment = {
        **os.environ,
        "_APPTELL_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": "apptell identify --client",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "COLUMNS": "40",
    }
    command = [sys.executable, "-m", "apptell.cli"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 3
    for line, option in zip(lines, ("--client", "--clients", "--client-names"), strict=True):
        assert option in line
        assert len(line) > 60


@pytest.mark.skipif(FISH is None, reason="needs fish")
def test_fish_completes_by_the_script_that_is_installed(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "apptell"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m apptell.cli "$@"\n')
    program.chmod(0o755)
    home = {"HOME": str(tmp_path), "PATH": f"{program.parent}:{os.environ['PATH']}"}
    environment = {**os.environ, **home, "XDG_CONFIG_HOME": str(tmp_path / ".config")}
    script = "apptell --install-completion; complete -C 'apptell identify --client-n'"
    done = subprocess.run(
        [str(FISH), "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1].startswith("--client-names\t")


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return _module("man_pages", ROOT / "docs/make_man_pages.py")


def _module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_verb_has_a_man_page_with_its_options(maker: ModuleType) -> None:
    pages = maker.pages()
    assert {"apptell", "apptell-identify", "apptell-dataset-build"} <= pages.keys()
    verb = typer.main.get_command(app).commands["identify"]  # type: ignore[attr-defined]
    page = pages["apptell-identify"]
    for parameter in verb.params:
        for option in parameter.opts if parameter.param_type_name == "option" else ():
            assert option.replace("-", "\\-") in page


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What the wheel is built from, with hardly any code."""
    folder = tmp_path / "project"
    package = folder / "src" / "apptell"
    package.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, folder)
    shutil.copy(ROOT / "src/apptell/_version.py", package)
    (package / "__init__.py").touch()
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/wheel_hook.py", folder / ".ci")
    return folder


def _built(project: Path) -> Path:
    """Its wheel."""
    builder = pytest.importorskip("hatchling.builders.wheel").WheelBuilder(str(project))
    (wheel,) = builder.build(directory=str(project / "dist"))
    return Path(wheel)


def test_a_wheel_that_make_build_builds_installs_the_man_pages(
    maker: ModuleType, project: Path, tmp_path: Path
) -> None:
    made = re.search(r"docs/make_man_pages.py -o (\S+)", (ROOT / "Makefile").read_text())
    assert made
    maker.write(project / made[1])
    wheel = _built(project)
    place = tmp_path / "environment"
    venv.create(place)
    # in an environment of its own: with --prefix pip would remove the installed apptell
    command = [sys.executable, "-m", "pip", "--python", place / "bin" / "python", "install"]
    subprocess.run([*command, "--quiet", "--no-index", "--no-deps", wheel], check=True)
    pages = {path.name: path.read_text() for path in (place / "share/man/man1").iterdir()}
    assert pages == {f"{name}.1": text for name, text in maker.pages().items()}
    if MAN is not None:
        found = subprocess.run(
            [MAN, "--path", "apptell-identify"], capture_output=True, text=True, check=True,
            env={"PATH": f"{place / 'bin'}:{os.environ['PATH']}"},
        )  # fmt: skip
        assert Path(found.stdout.strip()) == place / "share/man/man1/apptell-identify.1"


def test_a_wheel_is_also_built_where_no_man_pages_were_made(project: Path) -> None:
    with zipfile.ZipFile(_built(project)) as wheel:
        assert not [name for name in wheel.namelist() if ".data/" in name]


@pytest.fixture
def backend(project: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The build backend of the project, in its folder."""
    pytest.importorskip("hatchling")
    shutil.copy(ROOT / ".ci/backend.py", project / ".ci")
    monkeypatch.chdir(project)
    return _module("backend", project / ".ci/backend.py")


def test_a_wheel_with_compiled_kernels_is_one_of_this_python_and_platform(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def compile_kernels(folder: Path) -> None:
        (folder / "one.nbi").write_bytes(b"code")

    monkeypatch.setattr(backend, "compile_kernels", compile_kernels)
    name = backend.build_wheel(str(tmp_path))
    assert f"cp3{sys.version_info.minor}" in name
    with zipfile.ZipFile(tmp_path / name) as wheel:
        assert wheel.read("apptell/kernels/prebuilt/one.nbi") == b"code"


def test_a_wheel_without_compiled_kernels_is_one_of_every_platform(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(backend, "compile_kernels", lambda _: None)
    assert backend.build_wheel(str(tmp_path)).endswith("-py3-none-any.whl")
    monkeypatch.setattr(backend, "compile_kernels", lambda _: pytest.fail("not asked for"))
    assert backend.build_wheel(str(tmp_path), {"kernels": "off"}).endswith("-py3-none-any.whl")


def test_the_kernels_of_a_wheel_are_those_of_the_baseline_processor(
    backend: ModuleType, project: Path, tmp_path: Path
) -> None:
    if not is_able(binding.get_host_cpu_features()):
        pytest.skip(f"this processor is not {PROCESSOR}")
    (project / "src/apptell/__main__.py").write_text(COMPILER)
    (tmp_path / "made").mkdir()
    backend.compile_kernels(tmp_path / "made")
    made = {path.name: path.read_text() for path in (tmp_path / "made").iterdir()}
    assert made == {"one.nbi": PROCESSOR, "one.nbc": PROCESSOR, "one.mc": PROCESSOR}


def test_a_package_that_cannot_compile_is_still_built(
    backend: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # the project has hardly any code, so there is nothing that could compile
    assert backend.build_wheel(str(tmp_path)).endswith("-py3-none-any.whl")
    assert "ompiled" in capfd.readouterr().err


def test_only_a_wheel_needs_the_compiler_to_be_built(backend: ModuleType) -> None:
    def names(found: list[str]) -> set[str]:
        return {re.split(r"[<>=]", each)[0] for each in found}

    assert "numba" in names(backend.get_requires_for_build_wheel())
    assert "numba" not in names(backend.get_requires_for_build_wheel({"kernels": "off"}))
    assert "numba" not in names(backend.get_requires_for_build_editable())
    assert "numba" not in names(backend.get_requires_for_build_sdist())


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_groff_formats_the_pages_without_a_warning(maker: ModuleType) -> None:
    for name, text in maker.pages().items():
        words = ["groff", "-man", "-Tascii", "-P", "-cbou", "-ww", "-"]
        done = subprocess.run(words, input=text, capture_output=True, text=True, check=True)
        assert done.stderr == "", name
        assert "NAME" in done.stdout
