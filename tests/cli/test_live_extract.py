"""``live --extract``: packets of chosen flows from the ring, held against ``identify --extract`` and tshark."""

import json
import lzma
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import apptell
from apptell.testing import START_NS, client_hello, conversation, udp_frame, write_pcap

from .conftest import Run
from .in_process import run_here

NAMED = Path(apptell.__file__).parent / "samples/named/named.pcap.xz"
NEEDS_TSHARK = pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark")
CLIENT, SERVER = ("192.168.1.2", 50000), ("203.0.113.1", 443)


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("named") / "named.pcap"
    path.write_bytes(lzma.decompress(NAMED.read_bytes()))
    return path


def files_of(path: Path) -> list[Path]:
    """The files of an extraction, oldest first."""
    return sorted(path.parent.glob(f"{path.stem}_*{path.suffix}"))


def comments(path: Path) -> list[str]:
    """What tshark says of each packet's comment; empty for none."""
    words = ["tshark", "-n", "-r", str(path), "-T", "fields", "-e", "frame.comment"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@NEEDS_TSHARK
def test_a_large_ring_gives_the_packets_of_the_file(run: Run, named: Path, tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.pcapng", tmp_path / "named.pcapng"
    assert run("identify", named, "--only-named", "--extract", whole).returncode == 0
    words = ["live", "--replay", named, "--speed", "max", "--only-named", "--extract", path]
    done = run(*words)
    assert done.returncode == 0, done.stderr
    (file,) = files_of(path)
    assert re.fullmatch(r"named_00001_\d{14}\.pcapng", file.name)
    assert file.read_bytes() == whole.read_bytes()
    assert file.stat().st_mode & 0o007 == 0
    flows = {json.loads(line)["community_id"] for line in done.stdout.splitlines()}
    said = [text for text in comments(file) if text]
    assert len(said) == len(flows)
    assert {re.search(r"community_id=(\S+)", text)[1] for text in said} == flows  # type: ignore[index]
    assert f"packets of {len(flows)} flows were extracted" in done.stderr
    assert "no longer in the ring" not in done.stderr


def test_packets_that_left_a_small_ring_are_counted(run: Run, tmp_path: Path) -> None:
    """The whole capture is read before the first verdict, so the ring has its last packets."""
    flow = conversation(
        CLIENT, SERVER, [(True, client_hello("signal.org")), *[(False, bytes(100))] * 6]
    )
    cut = 5
    between = [
        (flow[cut - 1][0] + i, udp_frame(("192.168.1.9", 4000), ("192.0.2.1", 4000), bytes(1000)))
        for i in range(100)
    ]
    capture = write_pcap(tmp_path / "phone.pcap", [*flow[:cut], *between, *flow[cut:]])
    path = tmp_path / "signal.pcapng"
    words = ["live", "--replay", capture, "--speed", "max", "--app", "signal", "--extract", path]
    done = run(*words, "--extract-ring", "64KB")
    assert done.returncode == 0, done.stderr
    assert f"{len(flow) - cut} packets of 1 flows were extracted" in done.stderr
    assert f"Of these flows, {cut} packets were no longer in the ring, 0 exceeded" in done.stderr
    (file,) = files_of(path)
    rows = [
        json.loads(line) for line in run("flows", file, "--format", "jsonl").stdout.splitlines()
    ]
    assert sum(row["packets_to_server"] + row["packets_to_client"] for row in rows) == (
        len(flow) - cut
    )
    done = run(*words)  # by default the ring has room
    assert f"{len(flow)} packets of 1 flows were extracted" in done.stderr


@NEEDS_TSHARK
def test_files_are_rotated_and_nothing_of_the_user_is_replaced_or_deleted(
    run: Run, named: Path, tmp_path: Path
) -> None:
    path = tmp_path / "named.pcapng"
    old = tmp_path / "named_00001_20200101000000.pcapng"
    old.write_text("the user's")
    words = ["live", "--replay", named, "--speed", "max", "--only-named", "--extract", path]
    done = run(*words, "--extract-size", "64KB", "--extract-files", "2")
    assert done.returncode == 0, done.stderr
    assert old.read_text() == "the user's"
    files = [file for file in files_of(path) if file != old]
    begun = int(re.search(r"\((\d+) begun\)", done.stderr)[1])  # type: ignore[index]
    assert begun > 2
    assert [int(file.name.split("_")[1]) for file in files] == [begun - 1, begun]
    for file in files:
        assert file.stat().st_size <= 64_000
        said = comments(file)
        assert said[0].startswith("apptell: ")  # each file says it again
        ids = [re.search(r"community_id=(\S+)", text)[1] for text in said if text]  # type: ignore[index]
        assert len(ids) == len(set(ids))
        rows = run("flows", file, "--format", "jsonl").stdout.splitlines()
        assert {json.loads(row)["community_id"] for row in rows} <= set(ids)


def test_a_flow_has_a_bound(run: Run, named: Path, tmp_path: Path) -> None:
    path = tmp_path / "named.pcapng"
    words = ["live", "--replay", named, "--speed", "max", "--only-named", "--extract", path]
    done = run(*words, "--extract-flow", "4KB")
    (file,) = files_of(path)
    rows = [
        json.loads(line) for line in run("flows", file, "--format", "jsonl").stdout.splitlines()
    ]
    assert all(row["bytes_to_server"] + row["bytes_to_client"] <= 4000 for row in rows)
    left_out = int(re.search(r"([\d,]+) exceeded the bound", done.stderr)[1])  # type: ignore[index]
    written = int(re.search(r"([\d,]+) packets of", done.stderr)[1])  # type: ignore[index]
    whole = run(*words)
    assert f"{left_out + written} packets of" in whole.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on a file's size")
def test_a_full_disk_loses_packets_and_no_record(
    named: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, records = tmp_path / "named.pcapng", (tmp_path / "1.jsonl", tmp_path / "2.jsonl")
    words = ["live", "--replay", named, "--speed", "max", "--only-named"]
    run_here(monkeypatch, *words, "--out", f"jsonl:{records[0]}")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # importlib would keep half a file
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        code, said = run_here(
            monkeypatch, *words, "--extract", path, "--out", f"jsonl:{records[1]}"
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert records[0].read_text() == records[1].read_text() != ""
    assert code == 1
    assert said.count("File too large") == 1
    assert "packets could not be written" in said
    assert not files_of(path)  # no file that was begun and has nothing


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--extract-ring", "1MB"], 2, "--extract-ring is for --extract FILE"),
        (["--extract", "x.pcapng", "--extract-ring", "much"], 2, "is not a size"),
        (["--extract", "x.pcapng", "--extract-ring", "1KB"], 2, "the least is 64,000"),
        (["--extract", "/"], 2, "is a folder"),
        (["--extract", "/nowhere/x.pcapng"], 1, "there is no folder /nowhere"),
    ],
)
def test_what_cannot_be_extracted_is_refused(
    run: Run, tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    packets = conversation(CLIENT, SERVER, [(True, b"x")], start_ns=START_NS)
    capture = write_pcap(tmp_path / "phone.pcap", packets)
    done = run("live", "--replay", capture, *words, cwd=tmp_path)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
