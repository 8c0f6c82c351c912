from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from apptell.encoding import structure
from apptell.encoding.token_meanings import token_meanings
from apptell.encoding.token_sink import ByteSpan
from apptell.flows import FlowOptions
from apptell.learning.make_default import SAMPLES
from apptell.names import read_flows
from tests.encoding.crafted import CraftedFlow, Packet, batch, random_flow
from tests.encoding.test_structure import conversation


def spoiled(random: np.random.Generator) -> CraftedFlow:
    """A conversation with changed, cut and shifted bytes."""
    flow = [[side, bytearray(data)] for side, data in conversation(int(random.integers(99)))]
    for _ in range(int(random.integers(0, 6))):
        _, data = flow[int(random.integers(len(flow)))]
        kind = random.integers(3)
        if kind == 0:
            data[int(random.integers(len(data)))] = int(random.integers(256))
        elif kind == 1 and len(data) > 1:
            del data[int(random.integers(1, len(data))) :]
        else:
            data[0:0] = random.bytes(int(random.integers(1, 40)))
    return CraftedFlow([Packet(side, bytes(data), 0) for side, data in flow])


@pytest.mark.parametrize("names", ["on", "masked", "hashed"])
def test_every_token_of_a_flow_has_a_meaning_and_no_other(names):
    random = np.random.default_rng(0)
    made = batch([spoiled(random) for _ in range(60)] + [random_flow(random) for _ in range(40)])
    rows = structure(made, names=names, packets=12)
    for row, tokens in enumerate(rows):
        found = token_meanings(made, row, names=names, packets=12)
        assert set(found.meanings) == set(tokens[tokens > 0].tolist())


@pytest.mark.parametrize("name", ["xmpp", "irc", "mumble", "other"])
def test_flows_of_the_embedded_samples_are_read_alike(name):
    flows = read_flows(sorted(SAMPLES.glob(f"*/{name}.pcap.xz"))[0]).to_flows()
    flows = flows.filter(flows.payload_packets >= 2)
    rows = structure(flows)
    for row in range(min(len(flows), 12)):
        found = token_meanings(flows, row)
        assert set(rows[row][rows[row] > 0].tolist()) == set(found.meanings)


def test_a_capture_that_began_later_is_read_alike():
    made = batch([CraftedFlow([Packet(*each, 0) for each in conversation()])])
    assert set(token_meanings(made, skip=2).meanings) == set(structure(made, skip=2)[0]) - {0}
    assert not token_meanings(made, skip=3).meanings


def test_meanings_say_what_was_read_and_where():
    flow = conversation(name=b"chat.example.net")
    made = batch([CraftedFlow([Packet(*each, 0) for each in flow])])
    found = token_meanings(made)
    by_words = {meaning.words: meaning for meaning in found.meanings.values()}
    assert "cipher list order (2 ciphers)" in by_words
    assert "record of 53 bytes to the server" in by_words
    assert "domain example.net" in by_words
    assert "ALPN h2" in by_words
    (span,) = by_words["domain example.net"].spans
    assert flow[0][1][span.start : span.stop] == b"example.net"
    assert span.segment == 0
    (span,) = by_words["ALPN h2"].spans
    assert flow[0][1][span.start : span.stop].endswith(b"\x02h2")


def test_fields_lie_within_their_segments():
    flow = conversation()
    made = batch([CraftedFlow([Packet(*each, 0) for each in flow])])
    fields = token_meanings(made).fields
    for name, span in fields:
        assert name
        assert 0 <= span.start < span.stop <= len(flow[span.segment][1])
    names = [name for name, _ in fields]
    assert names[:2] == ["handshake record", "record header"]
    assert "cipher list" in names
    assert "extension server_name" in names


def test_a_field_that_was_cut_into_two_segments_has_two_spans():
    hello = conversation()[0][1]
    parts = [(True, hello[:60]), (True, hello[60:]), (False, b"\x15\x03\x03\0\x02\x02\x28")]
    made = batch([CraftedFlow([Packet(*each, 0) for each in parts])])
    record = next(field for field in token_meanings(made).fields if field.span.segment == 1)
    assert record.span == ByteSpan(1, 0, len(hello) - 60)


@pytest.mark.shared
@pytest.mark.parametrize("pattern", ["*quic*", "*dtls*"])
def test_hellos_in_datagrams_are_read_alike(pattern):
    shared = Path(os.environ.get("APPTELL_SHARED", Path(__file__).parents[2] / ".." / "shared"))
    captures = sorted((shared / "captures" / "ndpi").glob(pattern))[:8]
    if not captures:
        pytest.skip("the shared captures are not there")
    n_hellos = 0
    for capture in captures:
        flows = read_flows(capture, FlowOptions(transports=(17,))).to_flows()
        rows = structure(flows)
        for row in range(min(len(flows), 10)):
            found = token_meanings(flows, row).meanings
            assert set(rows[row][rows[row] > 0].tolist()) == set(found)
            n_hellos += any(meaning.field == "cipher list" for meaning in found.values())
    assert n_hellos > 3
