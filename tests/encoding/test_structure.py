from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest

from apptell.dataset.masking import mask_server_names
from apptell.encoding import structure
from apptell.encoding.structure import N_TOKENS
from apptell.encoding.tokens import size_class
from apptell.errors import UsageError
from apptell.learning.make_default import SAMPLES
from apptell.names import read_flows
from tests.encoding.crafted import CraftedFlow, Packet, batch
from tests.names.hellos import alpn, codes, hello, records, server_name, sized, versions


def tokens(*flows: list[tuple[bool, bytes]], **options) -> list[set[int]]:
    """The tokens of flows of (to server, payload)."""
    made = batch([CraftedFlow([Packet(side, data, 0) for side, data in flow]) for flow in flows])
    return [set(row[row > 0].tolist()) for row in structure(made, **options)]


def client_hello(name=b"chat.example.net", random=0, session=b"\x07" * 32, key=b"k" * 32, grease=0):
    share = sized(codes([0x001D]) + sized(key))
    odd = 0x0A0A + 0x1010 * grease
    extensions = [(odd, b""), server_name(name), alpn(b"h2"), versions(odd, 0x0304), (51, share)]
    message = bytearray(hello(extensions, [odd, 0x1301, 0x1302]))
    message[6:38] = np.random.default_rng(random).bytes(32)
    assert message[38] == 32
    message[39:71] = session
    return bytes(message)


def server_hello(cipher=0x1301, random=0):
    body = b"\3\3" + np.random.default_rng(random).bytes(32) + sized(b"\x07" * 32, 1)
    body += codes([cipher]) + b"\0" + sized(codes([43]) + sized(b"\3\4"))
    return b"\2" + sized(body, 3)


def data(size: int, fill: int = 0) -> bytes:
    return b"\x17\x03\x03" + sized(np.random.default_rng(fill).bytes(size))


def conversation(fill: int = 0, **fields) -> list[tuple[bool, bytes]]:
    return [
        (True, records(client_hello(random=fill, **fields))),
        (False, records(server_hello(random=fill)) + data(1200, fill)),
        (True, data(53, fill) + data(300, fill)),
        (False, data(900, fill)),
    ]


def cut(flow: list[tuple[bool, bytes]], most: int) -> list[tuple[bool, bytes]]:
    """The same streams in segments of at most ``most`` bytes."""
    return [
        (side, payload[at : at + most])
        for side, payload in flow
        for at in range(0, len(payload), most)
    ]


@pytest.mark.parametrize("most", [3, 99, 700, 1460])
def test_how_a_stream_is_cut_does_not_matter(most):
    flow = conversation()
    pieces = cut(flow, most)
    while len(pieces) > 12:  # a flow keeps no more: join neighbours of one side
        at = next(i for i in range(len(pieces) - 1) if pieces[i][0] == pieces[i + 1][0])
        joined = (pieces[at][0], pieces[at][1] + pieces[at + 1][1])
        pieces = [*pieces[:at], joined, *pieces[at + 2 :]]
        if all(a[0] != b[0] for a, b in itertools.pairwise(pieces)):
            break
    assert len(pieces) >= len(flow)
    whole, parts = tokens(flow, pieces, packets=12)
    assert parts == whole


def test_plain_streams_cut_anywhere_give_the_same_tokens():
    sent = b"GET /chat/v1 HTTP/1.1\r\nHost: a.example.net\r\nUser-Agent: Talker/2\r\n\r\n"
    flow = [(True, sent), (False, b"HTTP/1.1 200 OK\r\n\r\nwelcome"), (True, sent)]
    for most in (30, 40, 64):
        whole, parts = tokens(flow, cut(flow, most), packets=12)
        # The bytes a turn begins with are read from its first segment, at least four of them.
        assert parts == whole


def test_what_is_random_by_construction_is_no_input():
    one, other = tokens(
        conversation(1, session=b"\1" * 32, key=b"a" * 32, grease=1),
        conversation(2, session=b"\2" * 32, key=b"b" * 32, grease=7),
    )
    assert one == other


@pytest.mark.parametrize(
    "change",
    [
        {"name": b"chat.example.org"},
        {"session": b"\7" * 32, "name": b"longer.chat.example.net"},
    ],
)
def test_what_was_said_is_an_input(change):
    one, other = tokens(conversation(), conversation(**change))
    assert one != other


def test_sizes_of_records_are_an_input():
    flow = conversation()
    one, other = tokens(flow, [*flow[:3], (False, data(901))])
    assert len(one - other) >= 2
    assert len(other - one) >= 2


def test_names_share_their_endings():
    first, second, far = tokens(
        conversation(name=b"ab.example.net"),
        conversation(name=b"cd.example.net"),
        conversation(name=b"ab.elsewhere.org"),
    )
    assert len(first & second) > len(first & far)


def test_masked_names_say_no_more_than_their_length():
    one, other, longer = tokens(
        conversation(name=b"one.example.net"),
        conversation(name=b"two.another.org"),
        conversation(name=b"three.example.net"),
        names="masked",
    )
    assert one == other
    assert longer != one


def test_overwritten_names_are_as_masked_ones():
    made = batch(
        [CraftedFlow([Packet(side, payload, 0) for side, payload in conversation()])]
    ).with_columns(server_name=["chat.example.net"])
    np.testing.assert_array_equal(
        structure(mask_server_names(made)), structure(made, names="masked")
    )


def test_hashed_names_tell_equal_from_other_and_nothing_else():
    on, hashed = (tokens(conversation(), names=names)[0] for names in ("on", "hashed"))
    masked = tokens(conversation(), names="masked")[0]
    assert masked < hashed
    assert not (hashed - masked) & (on - masked)  # other tokens than those of names as they are
    same, other = tokens(conversation(), conversation(name=b"x.other.org"), names="hashed")
    assert same == hashed != other


def test_a_capture_that_began_later_sees_what_is_behind():
    flow = conversation()
    (skipped,) = tokens(flow, skip=2)
    (late,) = tokens(flow[2:])
    assert skipped == late
    assert tokens(flow, skip=3) == [set()]  # one payload packet says too little


def test_no_token_twice_and_zeros_behind():
    made = structure(batch([CraftedFlow([Packet(*each, 0) for each in conversation()])]))
    assert made.shape == (1, N_TOKENS)
    assert made.dtype == np.uint16
    count = int((made[0] > 0).sum())
    assert not made[0, count:].any()
    assert len(set(made[0, :count].tolist())) == count


def test_frames_with_a_length_before_them_are_seen():
    frames = b"".join(sized(bytes(n), 3) for n in (5, 90))
    with_prefix = b"WX\1\2" + frames
    one, other = tokens(
        [(True, with_prefix), (False, sized(bytes(40), 3))],
        [(True, with_prefix[:-1] + b"\0\0"), (False, sized(bytes(40), 3))],
    )
    assert one - other


def test_sizes_fall_into_steps():
    classes = [size_class.py_func(size) for size in range(70_000)]
    assert classes[:65] == list(range(65))
    assert classes == sorted(classes)
    assert set(np.diff(classes).tolist()) == {0, 1}  # no step is left out
    assert classes[128] - classes[65] == classes[256] - classes[128] == 4


def test_names_of_another_kind_are_said():
    with pytest.raises(UsageError, match=r"^names='off' is not one of on, masked, hashed$"):
        structure(batch([]), names="off")


@pytest.mark.slow
def test_any_bytes_are_read_within_bounds(bounds_checked):
    code = """
import numpy as np
from apptell.encoding import structure
from apptell.names import read_flows
from apptell.learning.make_default import SAMPLES
from tests.encoding.crafted import CraftedFlow, Packet, batch
from tests.encoding.test_structure import conversation

random = np.random.default_rng(0)
flows = []
for _ in range(300):
    flow = [[side, bytearray(data)] for side, data in conversation(int(random.integers(99)))]
    for _ in range(int(random.integers(1, 12))):
        side, data = flow[int(random.integers(len(flow)))]
        kind = random.integers(3)
        if kind == 0:
            data[int(random.integers(len(data)))] = int(random.integers(256))
        elif kind == 1 and len(data) > 1:
            del data[int(random.integers(1, len(data))):]
        else:
            data[0:0] = random.bytes(int(random.integers(1, 40)))
    flows.append(CraftedFlow([Packet(side, bytes(data), 0) for side, data in flow]))
made = batch(flows)
for names in ("on", "masked", "hashed"):
    for skip in (0, 1):
        structure(made, names=names, skip=skip, packets=12)
structure(read_flows(sorted(SAMPLES.glob("*/other.pcap.xz"))[0]).to_flows())
print("read")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=bounds_checked,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "read\n", done.stderr


def test_real_flows_have_tokens_by_the_dozen():
    flows = read_flows(sorted(SAMPLES.glob("*/xmpp.pcap.xz"))[0]).to_flows()
    flows = flows.filter(flows.payload_packets >= 2)
    count = (structure(flows) > 0).sum(axis=1)
    assert count.min() > 5
    assert count.max() < N_TOKENS
