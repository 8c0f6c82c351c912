"""The flows of a capture are the same, whichever way it is cut: on real captures."""

from __future__ import annotations

import io
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

import apptell
from apptell.capture import open_capture
from apptell.flows import FlowOptions, FlowReader
from apptell.flows.schema import GROUPS
from apptell.names import add_names, read_flows
from tests.whole_folders import are_same, joined, read_records, table_of, write_records

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
        write_records(folder / f"part{number:02}.pcap", records[start:end])
    return folder


def flows_of(reader):
    """Flows as a table in one order, without the name of the file they begin in."""
    return table_of((batch.to_arrow() for batch in reader), without=frozenset({"capture"}))


def same_however_cut(folder, records, *all_options, seed=0, jobs=0):
    """Compares; returns how many flows there are with the first options."""
    if len(records) < 2 or len({link_type for _, link_type, _ in records}) != 1:
        return 0
    folder.mkdir(exist_ok=True)
    whole = write_records(folder / "whole.pcap", records)
    parts = rotate(folder / "parts", records, 10, seed)
    rng = random.Random(seed)
    blocks = rng.randint(1, 20), rng.randint(21, 500)
    n_flows = []
    for options in all_options:
        expected = flows_of(read_flows(whole, options))

        def same(reader, expected=expected):
            return are_same(flows_of(reader), expected)

        assert same(read_flows(parts, options)), "ten files"
        for block in blocks:
            capture = open_capture(whole, batch_packets=block)
            reader = FlowReader(capture, options, add_names=add_names)
            assert same(reader), f"blocks of {block} packets"
        dribbling = io.BufferedReader(Dribble(whole.read_bytes(), seed))
        assert same(read_flows(dribbling, options)), "a stream"
        if jobs:
            assert same(read_flows(whole, options, jobs=jobs)), f"{jobs} processes"
            assert same(read_flows(parts, options, jobs=jobs)), "processes and files"
        n_flows.append(len(expected))
    return n_flows[0]


@pytest.mark.parametrize(
    "options", [EVERYTHING, PAPER, PARTS], ids=["clean", "paper", "short timeouts"]
)
def test_flows_of_the_samples_do_not_depend_on_how_they_are_cut(tmp_path, options):
    path = SAMPLES / "day1-cafe-openssl-default" / "other.pcap.xz"
    assert same_however_cut(tmp_path / "a", read_records(path)[0], options, seed=1) > 40


def test_nor_on_eight_processes(tmp_path):
    path = SAMPLES / "day2-cafe-android-like" / "xmpp.pcap.xz"
    assert same_however_cut(tmp_path / "a", read_records(path)[0], EVERYTHING, seed=2, jobs=8) > 20


@pytest.mark.shared
@pytest.mark.skipif(not CAPTURES.is_dir(), reason="the shared captures are absent")
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
def test_nor_do_flows_of_real_captures(tmp_path, name):
    records, _ = read_records(CAPTURES / name)
    assert same_however_cut(tmp_path / "a", records, EVERYTHING, PAPER, PARTS, seed=3) > 0


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.skipif(not CAPTURES.is_dir(), reason="the shared captures are absent")
@pytest.mark.parametrize("folder", ["android", "messengers", "ndpi", "edge"])
def test_nor_do_flows_of_any_capture(tmp_path, folder):
    paths = [path for path in sorted((CAPTURES / folder).rglob("*")) if path.is_file()]
    captures = (
        records
        for records, _ in map(read_records, paths)
        if len({each[1] for each in records}) == 1
    )
    modes = EVERYTHING, PAPER
    n_flows = sum(
        same_however_cut(tmp_path / str(number), records, modes[number % 2], seed=number)
        for number, records in enumerate(joined(captures))
    )
    assert n_flows > 100
