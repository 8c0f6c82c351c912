"""Compiles all kernels for a baseline processor, into the folder of the package that a wheel takes them from.

    python .ci/prebuild.py

``apptell.kernels.baseline`` says when they are used. On a machine that cannot run them nothing is made, and an
installation of the wheel compiles at its first start.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from llvmlite import binding

from apptell.kernels.baseline import FOLDER, PROCESSOR, is_able


def main() -> None:
    """Fills the folder anew."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    if not is_able(binding.get_host_cpu_features()):
        print(f"No kernels are compiled in advance: this machine is not {PROCESSOR}.")
        return
    with tempfile.TemporaryDirectory() as cache:
        processor = {
            "NUMBA_CPU_NAME": PROCESSOR,
            "NUMBA_CPU_FEATURES": "",
            "NUMBA_CACHE_DIR": cache,
        }
        command = [sys.executable, "-m", "apptell.cli", "config", "compile"]
        subprocess.run(command, check=True, env={**os.environ, **processor})
        FOLDER.mkdir()
        for path in sorted(Path(cache).rglob("*.nb?")):
            shutil.copyfile(path, FOLDER / path.name)
    size = sum(path.stat().st_size for path in FOLDER.iterdir())
    print(f"{len(list(FOLDER.glob('*.nbc')))} compiled kernels, {size / 1e6:.1f} MB: {FOLDER}")


if __name__ == "__main__":
    main()
