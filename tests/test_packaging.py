"""What the source distribution and the wheel contain, by their own builder, and that both can be tested."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
WHEEL_LIMIT_BYTES = 6_000_000
ADDED_BY_THE_BUILDER = {".gitignore", "pyproject.toml"}
"""In every source distribution, though not listed."""


def listed(target: str) -> dict[str, Path]:
    """Path in the distribution -> file, as the build backend lists them without writing anything."""
    hatchling = pytest.importorskip(f"hatchling.builders.{target}")
    builder = getattr(hatchling, f"{target.title()}Builder")(str(ROOT))
    return {file.distribution_path: Path(file.path) for file in builder.recurse_included_files()}


def tracked() -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).exists()]


def compressed(files: Iterator[Path]) -> int:
    return sum(len(zlib.compress(path.read_bytes(), 6)) for path in files)


def helpers() -> list[Path]:
    """Modules of the tests that hold no tests, relative to the root."""
    return [
        path.relative_to(ROOT)
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if not path.name.startswith(("test_", "__init__"))
    ]


def test_the_source_distribution_contains_every_tracked_file() -> None:
    assert not set(tracked()) - set(listed("sdist")) - ADDED_BY_THE_BUILDER


def test_the_source_distribution_contains_nothing_that_is_made() -> None:
    made = [
        name
        for name in listed("sdist")
        if re.search(r"\.(nb[ci]|pyc)$|__pycache__|^(dist|out|docs/_build)/", name)
    ]
    assert not made


@pytest.mark.parametrize(
    "name",
    [
        "apptell/py.typed",
        "apptell/catalogue/apps.csv",
        "apptell/catalogue/domains.csv",
        "apptell/catalogue/ranges.csv",
        "apptell/dataset/card.md",
        "apptell/learning/card.md",
        "apptell/models/default/model.json",
        "apptell/models/default/model.onnx",
        "apptell/reports/report.css",
        "apptell/reports/templates/page.html",
        "apptell/samples/named/named.pcap.xz",
        "apptell/samples/pcapdroid/phone.pcap",
    ],
)
def test_the_wheel_contains_data(name: str) -> None:
    assert name in listed("wheel")


def test_the_wheel_contains_every_tracked_file_of_the_package_and_no_other_package() -> None:
    package = {name.removeprefix("src/") for name in tracked() if name.startswith("src/")}
    assert set(listed("wheel")) >= package
    assert {name.split("/")[0] for name in listed("wheel")} == {"apptell"}


def test_the_wheel_is_smaller_than_its_limit_and_the_documents_say_what_the_samples_weigh() -> None:
    files = listed("wheel")
    wheel = compressed(iter(files.values()))
    samples = compressed(
        path for name, path in files.items() if name.startswith("apptell/samples/")
    )
    assert wheel < WHEEL_LIMIT_BYTES
    text = (ROOT / "src/apptell/samples/README.md").read_text(encoding="utf-8")
    said = re.search(r"They weigh ([\d.]+) MB of the wheel's ([\d.]+) MB", text)
    assert said
    assert float(said[1]) == pytest.approx(samples / 1e6, abs=0.1)
    assert float(said[2]) == pytest.approx(wheel / 1e6, abs=0.3)


def test_no_test_imports_from_the_benchmarks() -> None:
    benchmarks = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    found = set()
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            if any(name.split(".")[0] == "benchmarks" or name in benchmarks for name in names):
                found.add(path.relative_to(ROOT))
    assert not found


def test_every_helper_of_the_tests_is_type_checked() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    unchecked = [
        str(path)
        for path in helpers()
        if not any(path.is_relative_to(checked) for checked in settings["files"])
    ]
    assert not unchecked
    ignored = {
        name
        for override in settings["overrides"]
        if override.get("ignore_errors")
        for name in override["module"]
    }
    assert not ignored & {".".join(path.with_suffix("").parts) for path in helpers()}
