"""The flows of a capture are the same, whichever way it is cut: on real captures."""

from __future__ import annotations

import io
import os
import random
import struct
from dataclasses import replace
from pathlib import Path

import pytest

import apptell
from apptell.capture import open_capture
from apptell.errors import CaptureError
from apptell.flows import FlowOptions, FlowReader
from apptell.flows.schema import GROUPS
from apptell.names import add_names, read_flows
from tests.capture.crafted import pcap_header

SAMPLES = Path(apptell.__file__).parent / "samples"
SHARED = Path(
    os.environ.get("APPTELL_SHARED", Path(__file__).resolve().parents[2] / ".." / "shared")
)
CAPTURES = SHARED / "captures"
EVERYTHING = FlowOptions(transports=(6, 17), groups=tuple(GROUPS))
PARTS = replace(EVERYTHING, idle_timeout_s=2.0, active_timeout_s=3.0)
PAPER = FlowOptions(mode="paper", transports=(6, 17), groups=tuple(GROUPS))


class Dribble(io.RawIOBase):
    """A stream that gives its bytes a few at a time, as a pipe may."""

    def __init__(self, data: bytes, seed: int) -> None:
        self._data, self._rng = memoryview(data), random.Random(seed)

    def readable(self):
        return True

    def readinto(self, view):
        n = min(len(view), self._rng.choice([1, 7, 100, 5000]), len(self._data))
        view[:n] = self._data[:n]
        self._data = self._data[n:]
        return n


def records_of(path):
    """(time, link type, record of a pcap file in nanoseconds) of every packet before any damage."""
    records = []
    try:
        with open_capture(path) as reader:
            for batch in reader:
                for row in range(len(batch)):
                    frame, time_ns = batch.frame(row), int(batch.time_ns[row])
                    seconds, rest = divmod(time_ns, 10**9)
                    if not 0 <= seconds < 2**32:
                        return []  # a time that a pcap file cannot hold
                    head = struct.pack("<IIII", seconds, rest, len(frame), int(batch.wire[row]))
                    records.append((time_ns, int(batch.link_type[row]), head + frame))
    except CaptureError:
        pass
    return records


def write(path, records):
    header = pcap_header(magic=0xA1B23C4D, link_type=records[0][1], snap_length=262144)
    path.write_bytes(header + b"".join(record for _, _, record in records))
    return path


def rotate(folder, records, n_files, seed):
    """The same packets in files as a rotating tcpdump writes them, cut anywhere but where time steps back."""
    folder.mkdir()
    newest, places = 0, []
    for index, (time_ns, _, _) in enumerate(records):
        if index and time_ns >= newest:
            places.append(index)
        newest = max(newest, time_ns)
    cuts = sorted(random.Random(seed).sample(places, min(n_files - 1, len(places))))
    for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(records)], strict=True)):
        write(folder / f"part{number:02}.pcap", records[start:end])
    return folder


def rows(reader):
    """Flows as comparable rows, without the name of the file they begin in."""
    found = []
    for batch in reader:
        for row in batch.to_arrow().to_pylist():
            row.pop("capture")
            found.append(tuple(row.items()))
    return sorted(found, key=repr)


def same_however_cut(folder, path, options, seed=0, jobs=0):
    """Compares; returns how many flows there are."""
    records = records_of(path)
    if len(records) < 2 or len({link_type for _, link_type, _ in records}) != 1:
        return 0
    folder.mkdir(exist_ok=True)
    whole = write(folder / "whole.pcap", records)
    expected = rows(read_flows(whole, options))
    parts = rotate(folder / "parts", records, 10, seed)
    assert rows(read_flows(parts, options)) == expected, "ten files"
    rng = random.Random(seed)
    for block in (rng.randint(1, 20), rng.randint(21, 500)):
        capture = open_capture(whole, batch_packets=block)
        assert rows(FlowReader(capture, options, add_names=add_names)) == expected, (
            f"blocks of {block} packets"
        )
    dribbling = io.BufferedReader(Dribble(whole.read_bytes(), seed))
    assert rows(read_flows(dribbling, options)) == expected, "a stream"
    if jobs:
        assert rows(read_flows(whole, options, jobs=jobs)) == expected, f"{jobs} processes"
        assert rows(read_flows(parts, options, jobs=jobs)) == expected, "processes and files"
    return len(expected)


@pytest.mark.parametrize(
    "options", [EVERYTHING, PAPER, PARTS], ids=["clean", "paper", "short timeouts"]
)
def test_flows_of_the_samples_do_not_depend_on_how_they_are_cut(tmp_path, options):
    path = SAMPLES / "day1-cafe-openssl-default" / "other.pcap.xz"
    assert same_however_cut(tmp_path / "a", path, options, seed=1) > 40


def test_nor_on_eight_processes(tmp_path):
    path = SAMPLES / "day2-cafe-android-like" / "xmpp.pcap.xz"
    assert same_however_cut(tmp_path / "a", path, EVERYTHING, seed=2, jobs=8) > 20


@pytest.mark.shared
@pytest.mark.skipif(not CAPTURES.is_dir(), reason="the shared captures are absent")
@pytest.mark.parametrize(
    "options", [EVERYTHING, PAPER, PARTS], ids=["clean", "paper", "short timeouts"]
)
@pytest.mark.parametrize(
    "name",
    [
        "messengers/s07/whatsapp.pcap.gz",
        "messengers/s33/other.pcap.gz",
        "android/ma1/xz1_messenger.pcap",
        "ndpi/1kxun.pcap",
        "ndpi/opera-vpn.pcapng",
        "ndpi/teams.pcap",
        "ndpi/fuzz-2006-06-26-2594.pcap",
    ],
)
def test_nor_do_flows_of_real_captures(tmp_path, name, options):
    assert same_however_cut(tmp_path / "a", CAPTURES / name, options, seed=3) > 0


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.skipif(not CAPTURES.is_dir(), reason="the shared captures are absent")
@pytest.mark.parametrize("options", [EVERYTHING, PAPER], ids=["clean", "paper"])
@pytest.mark.parametrize("folder", ["android", "messengers", "ndpi", "edge"])
def test_nor_do_flows_of_any_capture(tmp_path, folder, options):
    paths = [path for path in sorted((CAPTURES / folder).rglob("*")) if path.is_file()]
    n_flows = sum(
        same_however_cut(tmp_path / str(number), path, options, seed=number)
        for number, path in enumerate(paths)
    )
    assert n_flows > 100
