"""The right to capture of an interpreter whose file permits it, as in the container image."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from apptell.capture import file_capability
from apptell.capture.file_capability import use_permitted_capture

SETCAP = shutil.which("setcap")
PYTHON = Path("/usr/bin/python3")
CODE = """
import socket

def opens():
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except PermissionError:
        return False
    return True

print(opens(), use_permitted_capture(), opens())
"""


def _permitted() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("CapPrm:")[1].split()[0], 16)


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
def test_what_is_not_permitted_is_not_taken() -> None:
    assert use_permitted_capture() == bool(_permitted() & 1 << 13)


@pytest.mark.skipif(SETCAP is None, reason="needs setcap (libcap2-bin)")
@pytest.mark.skipif(not PYTHON.exists(), reason=f"needs {PYTHON}, which other users can run")
@pytest.mark.parametrize(
    ("capability", "expected"), [("cap_net_raw=p", "False True True"), (None, "False False False")]
)
def test_a_user_captures_with_an_interpreter_that_permits_it(
    capability: str | None, expected: str
) -> None:
    if not _permitted() & 1 << 31:
        pytest.skip("needs the right to set capabilities of files (root)")
    code = Path(file_capability.__file__).read_text(encoding="utf-8") + CODE
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        python = Path(place, "python3")
        shutil.copy(PYTHON.resolve(), python)
        if capability is not None:
            done = subprocess.run([str(SETCAP), capability, python], check=False)
            if done.returncode:
                pytest.skip("the file system keeps no capabilities")
        run = subprocess.run(
            [python, "-c", code],
            capture_output=True, text=True, check=True, cwd="/", env={"PYTHONHOME": "/usr"},
            user=65534, group=65534, extra_groups=[],
        )  # fmt: skip
    assert run.stdout.strip() == expected
