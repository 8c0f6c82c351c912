"""docs/explanation/dependencies.md lists every library that can be installed with apptell."""

from __future__ import annotations

import re
import tomllib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from apptell.reports.png import png

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/explanation/dependencies.md").read_text("utf-8")
FOR_DEVELOPERS = {"test", "dev", "docs"}


def test_every_library_has_a_row_in_its_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = {("", re.split(r"[\[<>=]", each)[0].strip()) for each in project["dependencies"]}
    for extra, needed in project["optional-dependencies"].items():
        if extra not in FOR_DEVELOPERS:
            wanted |= {(extra, re.split(r"[\[<>=]", each)[0].strip()) for each in needed}
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines()
            if line.startswith("| `")]  # fmt: skip
    listed = {
        ("", re.findall(r"`([^`]+)`", row[0])[0])
        if len(row) == 6
        else (row[0].strip("`"), re.findall(r"`([^`]+)`", row[1])[0])
        for row in rows
    }
    assert listed - {("", "llvmlite")} == wanted


@pytest.mark.parametrize("shape", [(87, 87), (5, 9, 3), (1, 1)])
def test_pillow_reads_the_pictures_that_we_write(shape: tuple[int, ...]) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(image.open(BytesIO(png(pixels)))), pixels)
