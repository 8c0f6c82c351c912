"""A model on payload that learned from whole packets does not speak for flows whose payload was cut."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from apptell.flows import FlowOptions
from apptell.models import load_model
from apptell.models.model import MANY_CUT
from apptell.names import read_flows
from apptell.testing import START_NS, client_hello, conversation, flow_batch, pcap_bytes
from apptell.verdicts import identify
from apptell.verdicts.cut_payload import is_cut
from apptell.verdicts.identity import Found
from apptell.verdicts.pipeline import identify_flows, identify_found

if TYPE_CHECKING:
    from pathlib import Path

SERVER = ("203.0.113.10", 443)
LONG = [
    (True, client_hello("a.example")),
    (False, b"\x17\x03\x03\x05\x00" + bytes(1280)),
    (True, b"x" * 900),
]
SHORT = [(True, b"NICK a"), (False, b"PING b"), (True, b"PONG b")]


def cut_to(data: bytes, snap: int) -> bytes:
    """A capture as a snap length leaves it."""
    out, at = [data[:16], struct.pack("<I", snap), data[20:24]], 24
    while at < len(data):
        seconds, part, captured, wire = struct.unpack("<IIII", data[at : at + 16])
        kept = min(captured, snap)
        out += [struct.pack("<IIII", seconds, part, kept, wire), data[at + 16 : at + 16 + kept]]
        at += 16 + captured
    return b"".join(out)


@pytest.fixture
def captures(tmp_path: Path) -> dict[int, Path]:
    """A flow of long messages and one of short ones, whole (0) and cut."""
    frames = [
        frame
        for port, messages in ((40_001, LONG), (40_002, SHORT))
        for frame in conversation(("192.0.2.7", port), SERVER, messages)
    ]
    whole = pcap_bytes([(START_NS + i * 1_000_000, frame) for i, (_, frame) in enumerate(frames)])
    found = {}
    for snap in (0, 96, 1400):
        found[snap] = tmp_path / f"{snap}.pcap"
        found[snap].write_bytes(cut_to(whole, snap) if snap else whole)
    return found


def outcomes(path: Path, model: Any) -> list[str]:
    verdicts = identify(path, model, evidence="model")
    return [verdict.outcome for verdict in sorted(verdicts, key=lambda each: each.client_port)]


def test_whole_flows_lack_nothing_and_flows_without_payload_lack_all() -> None:
    flows = flow_batch(["zoom", "signal"])
    assert is_cut(flows, 5).tolist() == [False, False]
    none = flows.with_columns(segment_bytes=[[b""] * n for n in _counts(flows)])
    assert is_cut(none, 5).tolist() == [True, True]


def test_only_packets_that_the_model_looks_at_count() -> None:
    flows = flow_batch(["zoom"])
    pieces = flows.column("segment_bytes").to_pylist()[0]
    assert len(pieces) > 2
    late = flows.with_columns(segment_bytes=[[*pieces[:2], *(b"" for _ in pieces[2:])]])
    assert is_cut(late, 2).tolist() == [False]
    assert is_cut(late, 5).tolist() == [True]


def _counts(flows: Any) -> list[int]:
    return [len(each) for each in flows.column("segment_length").to_pylist()]


def test_the_embedded_model_declines_flows_that_a_snap_length_has_cut(
    captures: dict[int, Path],
) -> None:
    model = load_model()
    assert model.cut_share is not None
    assert model.needs_whole_packets
    assert "cut payload" not in outcomes(captures[0], model)
    long, short = outcomes(captures[96], model)
    assert long == "cut payload"
    assert short == outcomes(captures[0], model)[1]
    assert "cut payload" not in outcomes(captures[1400], model)  # little of it is missing


def test_live_decides_as_a_file_does(captures: dict[int, Path]) -> None:
    model = load_model()
    with read_flows(captures[96], FlowOptions(groups=("core", "segments", "names"))) as reader:
        flows = reader.to_flows()
    of_file = [v.outcome for batch in identify_flows([flows], model) for v in batch]
    found = Found.nothing(flows.with_columns(dns_name=[None] * len(flows)))
    of_live = [v.outcome for batch in identify_found(found, model) for v in batch]
    early = [v.outcome for batch in identify_found(found, model, early=True) for v in batch]
    assert sorted(of_file) == sorted(of_live) == sorted(early)
    assert of_live.count("cut payload") == 1


@pytest.mark.parametrize("share", [None, 2 * MANY_CUT, 1.0])
def test_a_model_that_learned_from_cut_packets_or_does_not_say_is_asked(
    captures: dict[int, Path], share: float | None
) -> None:
    model = load_model()
    model.info["learned"] = {**model.info["learned"], "cut_share": share}
    assert not model.needs_whole_packets
    assert "cut payload" not in outcomes(captures[96], model)


def test_what_a_name_tells_is_said_of_cut_flows_too(captures: dict[int, Path]) -> None:
    with read_flows(captures[96]) as reader:
        flows = reader.to_flows().with_columns(http_host=["web.whatsapp.com"] * 2)
    from apptell.catalogue import Catalogue
    from apptell.verdicts import Evidence

    evidence = Evidence(Catalogue.load())
    said = [v for batch in identify_flows([flows], load_model(), evidence=evidence) for v in batch]
    assert [v.app for v in said] == ["whatsapp", "whatsapp"]
    assert np.all([v.outcome == "named" for v in said])
