"""Shell completion, man pages and the container image."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from itertools import chain
from pathlib import Path
from types import ModuleType

import pytest
import typer.main

from apptell.cli.app import app

ROOT = Path(__file__).parents[2]
MAN = shutil.which("man")
BUILDER = shutil.which("podman") or shutil.which("docker")
ASKED = "APPTELL_TEST_CONTAINER"
"""Set by who wants the image to be built, which downloads a base image and packages."""


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


def test_the_image_is_light_and_not_run_as_root() -> None:
    lines = (ROOT / "Containerfile").read_text().splitlines()
    assert [line.split()[1] for line in lines if line.startswith("USER ")] == ["apptell"]
    copied = [
        line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line
    ]
    assert ["src"] in copied
    for name in chain.from_iterable(copied):
        assert (ROOT / name).exists()
        assert f"!{name}" in (ROOT / ".containerignore").read_text().splitlines()
    assert (ROOT / ".containerignore").read_text() == (ROOT / ".dockerignore").read_text()


@pytest.mark.skipif(BUILDER is None, reason="needs podman or docker")
@pytest.mark.skipif(ASKED not in os.environ, reason=f"downloads packages: set {ASKED}=1 to run it")
def test_the_image_is_built_and_identifies_a_capture() -> None:
    assert BUILDER is not None
    if subprocess.run([BUILDER, "info"], capture_output=True, check=False).returncode:
        pytest.skip(f"{BUILDER} does not run")
    subprocess.run(
        [BUILDER, "build", "-f", "Containerfile", "-t", "apptell-test", "."], cwd=ROOT, check=True
    )
    samples = ROOT / "src/apptell/samples/named"
    run = [
        BUILDER,
        "run",
        "--rm",
        "--cap-add",
        "NET_RAW",
        "-v",
        f"{samples}:/data:ro",
        "apptell-test",
    ]
    done = subprocess.run([*run, "identify", "/data"], capture_output=True, text=True, check=True)
    assert '"outcome": "named"' in done.stdout
    assert "compiling" not in done.stderr
