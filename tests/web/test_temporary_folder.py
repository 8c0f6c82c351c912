"""What a killed server leaves is deleted by the next one; what another server uses stays."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from apptell.web import temporary_folder
from apptell.web.temporary_folder import LOCK, PREFIX, TemporaryFolder

PROGRAM = """
import sys
from apptell.web.temporary_folder import TemporaryFolder
folder = TemporaryFolder()
print(folder.path, flush=True)
sys.stdin.read()
"""


def test_only_what_a_killed_server_left_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporary_folder, "_BEGIN_S", -1.0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    others = tmp_path / "others"
    others.mkdir()
    (others / LOCK).write_text("")
    (tmp_path / f"{PREFIX}link").symlink_to(others)
    (tmp_path / f"{PREFIX}mine").mkdir()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        for _ in range(2)
    ]
    killed, running = started
    places = []
    for each in started:
        assert each.stdout is not None
        places.append(Path(each.stdout.readline().strip()))
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert all(place.is_dir() for place in places)
    folder = TemporaryFolder()
    assert [place.exists() for place in places] == [False, True]
    assert (others / LOCK).exists()
    assert (tmp_path / f"{PREFIX}mine").is_dir(), "nothing says that it is a server's"
    folder.delete()
    running.communicate("")
    assert not folder.path.exists()
    assert not places[1].exists()
