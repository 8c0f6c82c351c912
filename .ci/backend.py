"""Builds apptell: Hatch's build backend, whose wheels also get the machine code of all kernels.

``pip install .`` and ``make build`` compile the kernels for a baseline processor while they build the wheel, so that
the first start compiles nothing. ``apptell.kernels.baseline`` says when that code is used. A wheel with it is one for
this Python and this platform. Where the kernels cannot be compiled, or with ``--config-settings kernels=off``,
the wheel has none and suits every platform, and kernels are compiled when they are first needed. An editable
installation never has any, because its sources change.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any, Final

from hatchling import build as hatch
from hatchling.build import *  # noqa: F403

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = "APPTELL_WHEEL_KERNELS"
"""Names the folder of compiled kernels for ``wheel_hook.py``."""
SUFFIXES: Final = (".nbi", ".nbc", ".mc")


def get_requires_for_build_wheel(config_settings: dict[str, Any] | None = None) -> list[str]:
    """What compiling needs: the package's own dependencies."""
    needed = list(hatch.get_requires_for_build_wheel(config_settings))
    if _is_wanted(config_settings):
        settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        needed += settings["project"]["dependencies"]
    return needed


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """A wheel, with compiled kernels where they can be made."""
    with tempfile.TemporaryDirectory() as folder:
        if _is_wanted(config_settings):
            compile_kernels(Path(folder))
        os.environ[FOLDER] = folder
        try:
            return hatch.build_wheel(wheel_directory, config_settings, metadata_directory)
        finally:
            del os.environ[FOLDER]


def compile_kernels(folder: Path) -> None:
    """Puts the machine code of all kernels into the folder, or says why there is none."""
    sys.path.insert(0, str(ROOT / "src"))
    try:
        from llvmlite import binding

        from apptell.kernels.baseline import PROCESSOR, is_able
    except ImportError as error:
        print(f"No kernels are compiled in advance: {error}", file=sys.stderr)
        return
    finally:
        sys.path.remove(str(ROOT / "src"))
    if not is_able(binding.get_host_cpu_features()):
        print(f"No kernels are compiled in advance: this is no {PROCESSOR}.", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as cache:
        path = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
        there = {
            **os.environ,
            "NUMBA_CPU_NAME": PROCESSOR,
            "NUMBA_CPU_FEATURES": "",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join(path),
        }
        command = [sys.executable, "-m", "apptell", "config", "compile", "--cache", cache]
        done = subprocess.run(command, check=False, env=there)
        if done.returncode:
            print("The kernels could not be compiled; the first start will.", file=sys.stderr)
            return
        for made in sorted(Path(cache).rglob("*")):
            if made.suffix in SUFFIXES:
                made.replace(folder / made.name)
    made = list(folder.iterdir())
    size = sum(each.stat().st_size for each in made)
    print(f"{len(made)} files of compiled kernels, {size / 1e6:.1f} MB")


def _is_wanted(config_settings: dict[str, Any] | None) -> bool:
    return (config_settings or {}).get("kernels", "on") != "off"
