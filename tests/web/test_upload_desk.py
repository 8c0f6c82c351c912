"""What is kept of captures: few, for a while, in a folder that goes away, under names that mean nothing."""

import stat
import time
from pathlib import Path

import pytest

pytest.importorskip("duckdb")
from apptell.errors import MissingError, OutputError
from apptell.web import upload_desk
from apptell.web.capture_jobs import CaptureSettings
from apptell.web.upload_desk import FAILED, MOST_UPLOADS, UploadDesk, safe_name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("phone.pcapng.gz", "phone.pcapng.gz"),
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\<b>.pcap", "_b_.pcap"),
        ("..", "capture"),
        ("-", "capture"),
        ("", "capture"),
        (".hidden", "hidden"),
        ("a\0\n\x1b[31m*?.pcap", "a____31m__.pcap"),
        ("s3://bucket/x", "x"),
        ("\ud800x", "_x"),
        ("größe (2).pcap", "größe (2).pcap"),
        ("\u202egnp.exe", "_gnp.exe"),
    ],
)
def test_names_of_files_lead_nowhere(name: str, shown: str) -> None:
    assert safe_name(name) == shown


def test_long_names_keep_their_end() -> None:
    found = safe_name("é" * 300 + ".pcap")
    assert len(found.encode()) <= 100
    assert found.endswith("é.pcap")


def test_the_oldest_result_makes_room_and_unfinished_ones_do_not() -> None:
    with UploadDesk(CaptureSettings()) as desk:
        uploads = [desk.begin(f"{i}.pcap") for i in range(MOST_UPLOADS)]
        with pytest.raises(OutputError, match="8 captures are being sent or read"):
            desk.begin("more.pcap")
        for each in uploads[3:5]:
            each.state = FAILED
        desk.find(uploads[3].id)
        desk.begin("more.pcap")
        assert not uploads[4].folder.exists()
        assert uploads[3].folder.exists()
        with pytest.raises(MissingError, match="there is no such result"):
            desk.find(uploads[4].id)


def test_results_expire_and_everything_goes_with_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upload_desk, "_REAP_S", 0.01)
    with UploadDesk(CaptureSettings(), keep_s=0.05) as desk:
        assert stat.S_IMODE(desk.folder.stat().st_mode) == 0o700
        gone, kept = desk.begin("a.pcap"), desk.begin("b.pcap")
        with desk.open(gone) as file:
            file.write(b"x")
        assert stat.S_IMODE(gone.capture.stat().st_mode) == 0o600
        gone.state = FAILED
        until = time.monotonic() + 60
        while gone.folder.exists() and time.monotonic() < until:
            time.sleep(0.01)
        assert not gone.folder.exists()
        assert kept.folder.exists(), "it has not been read"
        folder = desk.folder
    assert not folder.exists()


def test_a_capture_is_never_written_through_a_link(tmp_path: Path) -> None:
    with UploadDesk(CaptureSettings()) as desk:
        upload = desk.begin("a.pcap")
        upload.capture.symlink_to(tmp_path / "other")
        with pytest.raises(OutputError, match="is a symbolic link"):
            desk.open(upload)
    assert not (tmp_path / "other").exists()


def test_a_defect_is_said_and_others_are_still_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(upload_desk, "run_job", broken)
    said: list[str] = []
    with UploadDesk(CaptureSettings(), say=said.append) as desk:
        uploads = [desk.begin(name) for name in ("a.pcap", "b.pcap")]
        for each in uploads:
            desk.submit(each)
        until = time.monotonic() + 60
        while not all(each.is_over for each in uploads) and time.monotonic() < until:
            time.sleep(0.01)
        assert [each.state for each in uploads] == [FAILED, FAILED]
        assert "there is a fault in apptell" in uploads[1].fault
    assert ["ZeroDivisionError: ours" in text for text in said] == [True, True]
