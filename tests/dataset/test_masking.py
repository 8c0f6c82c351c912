"""Masks by construction: whatever an app says, only the framing of what is understood is kept."""

import struct
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apptell.dataset.masking import NAMES_ONLY, Policy, mask_payload, mask_server_names
from apptell.dataset.masking.board import _HOST, _hosts, join, masked
from apptell.flows import FlowOptions
from apptell.flows.schema import GROUPS, FlowBatch
from apptell.names import add_names, read_flows
from apptell.names.text import escape
from apptell.testing import client_hello, conversation, write_pcap
from tests.names.hellos import hello

STRICT = Policy()
PLAIN = Policy(keeps_unknown=True)
SECRET = b"s3cr3t-zone"
NAME = b"s3cr3t-zone.example"


def flow(segments, *, protocol=6, port=443, offsets=None):
    """One flow of (to server, bytes) segments, laid one behind the other unless offsets say otherwise."""
    if offsets is None:
        done = {True: 0, False: 0}
        offsets = []
        for way, blob in segments:
            offsets.append(done[way])
            done[way] += len(blob)
    return FlowBatch.from_columns(
        {
            "protocol": [protocol],
            "client_port": [40000],
            "server_port": [port],
            "segment_length": [[len(blob) for _, blob in segments]],
            "segment_to_server": [[way for way, _ in segments]],
            "segment_time_ns": [list(range(len(segments)))],
            "segment_offset": [offsets],
            "segment_bytes": [[blob for _, blob in segments]],
        }
    )


def blobs(flows):
    return flows.column("segment_bytes")[0].as_py()


def mask(segments, policy=STRICT, **how):
    """The masked segments, after what holds of every mask."""
    before = flow(segments, **how)
    after = blobs(mask_payload(before, policy))
    for (_, old), new in zip(segments, after, strict=True):
        assert len(old) == len(new)
        assert all(byte in (0, was) for was, byte in zip(old, new, strict=True))
    return after


def records(body, size):
    return b"".join(
        b"\x16\x03\x01" + struct.pack(">H", len(body[at : at + size])) + body[at : at + size]
        for at in range(0, len(body), size)
    )


HELLO = client_hello(NAME.decode())[5:]


@pytest.mark.parametrize("policy", [STRICT, PLAIN, NAMES_ONLY])
@pytest.mark.parametrize("size", [1, 2, 4, 50, 10_000])
@pytest.mark.parametrize("cut", [1, 5, 60, 117, 5000])
def test_a_name_split_over_records_and_segments_is_gone(policy, size, cut):
    stream = records(HELLO, size)
    pieces = [(True, stream[at : at + cut]) for at in range(0, len(stream), cut)]
    out = b"".join(mask(pieces, policy))
    for at in range(len(NAME) - 3):
        assert NAME[at : at + 4] not in out
    assert out[:3] == b"\x16\x03\x01"
    found = add_names(flow([(True, out)]))
    assert not (found.column("server_name")[0].as_py() or "").strip("\\x0")


def test_segments_out_of_order_resent_and_late_are_joined_by_their_places():
    stream = records(HELLO, 10_000)
    cut = stream.index(NAME) + 6
    first, second = stream[:cut], stream[cut:]
    for segments, offsets in (
        ([second, first], [cut, 0]),
        ([second, first], [0, -cut]),
        ([first, first, second], [0, 0, cut]),
        ([first, second[3:], second], [0, cut + 3, cut]),
    ):
        out = mask([(True, blob) for blob in segments], NAMES_ONLY, offsets=offsets)
        assert not any(
            part in blob for blob in out for part in (NAME[:6], NAME[6:], b"zone", b"s3c")
        )


def test_bytes_that_were_sent_in_two_versions_are_not_kept():
    stream = records(HELLO, 10_000)
    other = stream.replace(NAME, b"x" * len(NAME))
    out = mask([(True, stream), (True, other)], STRICT, offsets=[0, 0])
    assert SECRET not in b"".join(out)
    text = mask([(True, b"user alice"), (True, b"user carol")], PLAIN, offsets=[0, 0])
    assert text == [b"user \0l\0c\0"[:10].ljust(10, b"\0"), text[1]] or b"alice" not in text[0]


def test_the_framing_of_a_hello_stays():
    whole = records(HELLO, 10_000)
    (out,) = mask([(True, whole)])
    assert out[:11] == whole[:11]  # record, message, version
    assert out[11:43] == bytes(32)  # random
    at = 44 + whole[43]
    size = 2 + int.from_bytes(whole[at : at + 2], "big")
    assert out[at : at + size] == whole[at : at + size]  # cipher suites
    name = whole.index(NAME)
    assert out[name - 9 : name] == whole[name - 9 : name]  # type and lengths of the name


def test_certificates_and_ciphertext_go_and_headers_stay():
    certificate = (
        b"\x0b" + struct.pack(">I", 300)[1:] + b"\0\0\x10" + NAME + bytes(range(256)) + b"x" * 22
    )
    server = b"\x16\x03\x03" + struct.pack(">H", len(certificate)) + certificate
    server += b"\x17\x03\x03\0\x14" + SECRET + b"123456789"
    (out,) = mask([(False, server)])
    assert SECRET not in out
    assert out[:9] == server[:9]
    assert b"\x17\x03\x03\0\x14" in out
    (names,) = mask([(False, server)], NAMES_ONLY)
    assert NAME not in names
    assert names.endswith(b"123456789")


def dtls(body, fragments):
    out = []
    for number, (at, n) in enumerate(fragments):
        fragment = b"\x01" + struct.pack(">I", len(body))[1:] + b"\0\0" + struct.pack(">I", at)[1:]
        fragment += struct.pack(">I", n)[1:] + body[at : at + n]
        out.append(b"\x16\xfe\xfd" + struct.pack(">HIHH", 0, 0, number, len(fragment)) + fragment)
    return out


def dtls_hello():
    body = HELLO[4:]
    at = 34 + 1 + body[34]
    return body[:at] + b"\x08" + b"cookie42" + body[at:]


@pytest.mark.parametrize("policy", [STRICT, NAMES_ONLY])
def test_dtls_fragments_overlapping_and_out_of_order_are_masked_as_one_hello(policy):
    body = dtls_hello()
    middle = body.index(NAME) + 4
    for fragments in (
        [(0, len(body))],
        [(middle, len(body) - middle), (0, middle)],
        [(0, middle + 3), (middle - 5, len(body) - middle + 5)],
    ):
        datagrams = [(True, blob) for blob in dtls(body, fragments)]
        out = mask(datagrams, policy, protocol=17)
        assert not any(part in blob for blob in out for part in (b"s3c", b"zone", b"r3t-"))
        assert all(blob[:3] == b"\x16\xfe\xfd" for blob in out)
    assert (b"cookie42" in b"".join(out)) == (policy is NAMES_ONLY)


@pytest.mark.parametrize("first", [0xC3, 0x83])
@pytest.mark.parametrize("policy", [STRICT, PLAIN, NAMES_ONLY])
def test_quics_initial_packets_are_zeroed_because_anyone_can_decrypt_them(first, policy):
    initial = bytes([first]) + struct.pack(">I", 1) + b"\x08" + bytes(range(1, 60))
    (out,) = mask([(True, initial)], policy, protocol=17)
    assert out == initial[:5] + bytes(len(initial) - 5)


def test_short_packets_of_quic_stay_only_where_ciphertext_is_kept():
    short = b"\x43" + bytes(range(1, 60))
    assert mask([(True, short)], STRICT, protocol=17) == [bytes(60)]
    assert mask([(True, short)], NAMES_ONLY, protocol=17) == [short]


def dns_name(text):
    return b"".join(bytes([len(part)]) + part for part in text.split(b".")) + b"\0"


QUESTION = dns_name(b"www." + NAME) + b"\0\1\0\1"
ANSWER = (
    b"\x12\x34\x81\x80\0\1\0\2\0\0\0\0"
    + QUESTION
    + b"\xc0\x0c\0\5\0\1\0\0\0\x3c"
    + struct.pack(">H", len(dns_name(NAME)))
    + dns_name(NAME)
    + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc6\x33\x64\x07"
)


@pytest.mark.parametrize("policy", [STRICT, PLAIN, Policy(masks_names=False)])
def test_of_dns_neither_names_nor_addresses_are_kept(policy):
    for protocol, message in ((17, ANSWER), (6, struct.pack(">H", len(ANSWER)) + ANSWER)):
        (out,) = mask([(False, message)], policy, protocol=protocol, port=53)
        assert SECRET not in out
        assert b"\xc6\x33\x64\x07" not in out
        assert b"\0\1\0\1\0\0\0\x3c\0\4" in out  # type, class, time to live, length
        assert b"\x81\x80\0\1\0\2" in out


def test_what_is_not_one_dns_message_is_not_understood_on_port_53():
    for spoiled in (ANSWER + b"user alice", ANSWER[:-3], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"):
        (out,) = mask([(False, spoiled)], STRICT, protocol=17, port=53)
        assert out == bytes(len(spoiled))


REQUEST = (
    b"POST /private/alice?token=abc HTTP/1.1\r\nHost: "
    + NAME
    + b":8080\r\nCookie: sid=deadbeef\r\n"
    b"X-Forwarded-For: 203.0.113.77\r\nX-Alice: alice\r\nAuthorization: Basic YWxpY2U6aHVudGVyMg==\r\n"
    b"User-Agent: Alice/1.0\r\nContent-Length: 11\r\n\r\npass=hunterGET /alice HTTP/1.1\r\nHost: alice\r\n\r\n"
)
REPLY = b"HTTP/1.1 302 Found alice\r\nLocation: http://alice/\r\nSet-Cookie: alice\r\n\r\nalice 203.0.113.77"


@pytest.mark.parametrize("policy", [STRICT, PLAIN, Policy(masks_names=False)])
@pytest.mark.parametrize("cut", [7, 40, 1000])
def test_of_http_only_framing_is_kept(policy, cut):
    segments = [(True, REQUEST[at : at + cut]) for at in range(0, len(REQUEST), cut)]
    out = b"".join(mask(segments, policy, port=80))
    (reply,) = mask([(False, REPLY)], policy, port=80)
    for word in (b"lice", b"s3cr3t", b"deadbeef", b"203", b"Basic", b"hunt", b"token"):
        assert word not in out
        assert word not in reply
    assert out.startswith(b"POST \0")
    assert b" HTTP/1.1\r\nHost:\0" in out
    assert b"Content-Length: 11\r\n\r\n\0" in out
    assert b"GET \0" in out
    assert reply.startswith(b"HTTP/1.1 302\0")


MAIL = {
    25: (
        (
            b"EHLO laptop.alice.example\r\nAUTH PLAIN AGFsaWNlAGh1bnRlcjI=\r\nMAIL FROM:<alice@x.example>\r\n"
            b"RCPT TO:<bob@y.example>\r\nDATA\r\nSubject: hunter2\r\n\r\nhunter2\r\n.\r\n"
        ),
        b"220 mx.alice.example ESMTP\r\n250-mx.alice.example hello [203.0.113.77]\r\n250 OK alice\r\n",
        b"EHLO\0",
    ),
    110: (
        b"USER alice\r\nPASS hunter2\r\nLIST\r\n",
        b"+OK alice has mail\r\n-ERR hunter2\r\n",
        b"USER\0",
    ),
    143: (
        b"a1 LOGIN alice hunter2\r\na2 SELECT alice\r\n",
        b"* OK alice\r\na1 OK alice\r\n",
        b"\0\0\0LOGIN\0",
    ),
}


@pytest.mark.parametrize("port", MAIL)
@pytest.mark.parametrize("policy", [STRICT, PLAIN])
def test_of_mail_only_the_protocols_words_are_kept(port, policy):
    client, server, begin = MAIL[port]
    out = mask([(True, client), (False, server)], policy, port=port)
    for word in (b"lice", b"hunter", b"203.0", b"AGFs", b"bob"):
        assert word not in b"".join(out)
    assert out[0].startswith(begin)


@pytest.mark.parametrize(
    ("port", "way", "said", "kept"),
    [
        # the text of a message that a server sends
        (
            110,
            False,
            b"+OK 60 octets\r\n123\r\n555 0199\r\nLIST of QUIT\r\n.\r\n+OK\r\n",
            b"+OK\r\n+OK\r\n",
        ),
        (143, False, b"* 1 FETCH (BODY[] {16}\r\nx OK me\r\n123 45)\r\na1 OK\r\n", b"OK\r\n"),
        (143, False, b'* LIST () "/" home\r\n123\r\n', b"LIST\r\n"),
        # and one that a client sends, or its name and password
        (143, True, b"a APPEND x {14}\r\na LOGIN QUIT\r\nb LOGOUT\r\n", b"APPEND\r\nLOGOUT\r\n"),
        (143, True, b"a LOGIN {4+}\r\nLIST {4}\r\nQUIT\r\nb NOOP\r\n", b"LOGIN\r\nNOOP\r\n"),
        (25, True, b"BDAT 9\r\nQUIT 123\r\n", b"BDAT\r\n"),
        (25, True, b"AUTH LOGIN\r\n123\r\n456-7\r\nQUIT\r\n", b"AUTH\r\nQUIT\r\n"),
        (110, True, b"USER LIST\r\nPASS QUIT\r\n", b"USER\r\nPASS\r\n"),
        (110, True, b"USER x\r\n-ERR y\r\n+OK z\r\n", b"USER\r\n"),
        (25, False, b"250-x\r\nQUIT\r\n+OK\r\n12345\r\n354 go\r\n", b"250\r\n354\r\n"),
    ],
)
@pytest.mark.parametrize("policy", [STRICT, PLAIN])
def test_of_mail_nothing_of_a_message_is_kept_whatever_its_lines_begin_with(
    port, way, said, kept, policy
):
    for cut in (len(said), 3):
        parts = [(way, said[at : at + cut]) for at in range(0, len(said), cut)]
        out = b"".join(mask(parts, policy, port=port))
        words = [word for word in out.replace(b"\r\n", b"\0").split(b"\0") if word]
        assert words == kept.split(b"\r\n")[:-1]


@pytest.mark.parametrize("cut", [7, 10_000])
def test_of_extensions_that_can_name_someone_nothing_is_kept(cut):
    """A server's SCTs tell its certificate (RFC 6962), responder ids its issuer; padding may be anything."""
    extensions = [
        (18, SECRET),
        (21, SECRET),
        (5, b"\1" + SECRET),
        (16, b"\0\3\2h2"),
        (65037, SECRET),
    ]
    coded = b"".join(struct.pack(">HH", kind, len(body)) + body for kind, body in extensions)
    server = b"\3\3" + bytes(32) + b"\0\x13\1\0" + struct.pack(">H", len(coded)) + coded
    message = b"\2" + len(server).to_bytes(3, "big") + server
    for said in (records(message, cut), records(hello(extensions), cut)):
        (out,) = mask([(False, said)])
        assert SECRET not in out
        assert SECRET[:7] not in out
        assert b"\0\x12\0" + bytes([len(SECRET)]) in out or cut == 7


def test_after_starttls_the_hello_is_masked():
    client = b"EHLO alice\r\nSTARTTLS\r\n" + records(HELLO, 10_000)
    (out,) = mask([(True, client)], STRICT, port=587)
    assert SECRET not in out
    assert b"alice" not in out
    assert b"STARTTLS\r\n\x16\x03\x01" in out


@given(
    st.lists(st.tuples(st.booleans(), st.text().map(str.encode)), max_size=5),
    st.sampled_from([6, 17]),
)
@settings(max_examples=150)
def test_text_that_is_not_understood_is_zeroed(said, protocol):
    for blob in mask(said, STRICT, protocol=protocol, port=5222):
        assert not set(blob) - {0}


SHAPES = [
    b"\x16\x03\x01",
    b"GET / HTTP/1.1\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"220 x\r\n",
    ANSWER,
    b"\x16\xfe\xfd",
    HELLO,
    b"\xc3\0\0\0\1",
]


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.one_of(
                st.binary(max_size=80),
                st.sampled_from(SHAPES),
                st.binary(max_size=9).map(lambda b: records(HELLO, 60)[len(b) :]),
            ),
            st.integers(-300, 300),
        ),
        max_size=6,
    ),
    st.sampled_from([STRICT, PLAIN, NAMES_ONLY, Policy(masks_names=False)]),
    st.sampled_from([6, 17]),
    st.sampled_from([53, 25, 80, 443]),
)
@settings(max_examples=300)
def test_any_bytes_in_any_order_are_masked_without_an_error(said, policy, protocol, port):
    segments = [(way, blob) for way, blob, _ in said]
    mask(segments, policy, protocol=protocol, port=port, offsets=[at for *_, at in said])


def test_segments_far_apart_take_no_memory():
    streams = join([0, 2**31 - 10, 5], [b"a" * 10, b"b", b"a" * 9])
    assert sum(len(stream) for stream, _ in streams) < 100
    for stream, places in streams:
        stream.set(0, len(stream), kept=True)
        assert all(masked(stream, at, (b"a" * 10, b"b", b"a" * 9)[i]) for i, at in places)


def flows(tmp_path):
    talk = [
        (True, client_hello("chat.example.org")),
        (False, b"cert: *.cdn.example.net, ok"),
        (True, b"\x04chat\x07example\x03org\0"),
    ]
    web = [
        (True, b"GET / HTTP/1.1\r\nHost: intranet\r\nX: www.example.com\r\n\r\n"),
        (False, b"200"),
    ]
    packets = conversation(("10.0.0.2", 40001), ("192.0.2.1", 443), talk)
    packets += conversation(("10.0.0.2", 40002), ("192.0.2.9", 80), web)
    path = write_pcap(tmp_path / "x.pcap", sorted(packets))
    return read_flows(path, FlowOptions(groups=tuple(GROUPS))).to_flows()


def test_names_alone_are_masked_for_measuring_and_no_length_changes(tmp_path):
    before = flows(tmp_path)
    after = mask_server_names(before)
    for name in ("server_name", "http_host", "dns_name"):
        assert after.column(name).null_count == 2
    old, new = (f.column("segment_bytes").to_pylist() for f in (before, after))
    for a, b in zip(chain(*old), chain(*new), strict=True):
        assert len(a) == len(b)
        for word in (b"chat", b"example", b"intranet"):
            assert word not in b
        kept = np.frombuffer(b, np.uint8) != 0
        assert (np.frombuffer(a, np.uint8)[kept] == np.frombuffer(b, np.uint8)[kept]).all()
    assert b"cert: *" in b"".join(chain(*new))
    assert b"GET / HTTP/1.1\r\nHost: " in b"".join(chain(*new))


def test_a_name_with_odd_bytes_is_masked_where_it_was_sent():
    sent = b"odd\0host \xff"
    batch = flow([(True, b"<" + sent + b">")]).with_columns(server_name=[escape(sent)])
    assert blobs(mask_server_names(batch)) == [b"<" + bytes(len(sent)) + b">"]


def test_flows_without_payload_can_be_masked():
    batch = FlowBatch.from_columns({"protocol": [6], "server_name": ["x.y"]})
    assert mask_server_names(batch).column("server_name").null_count == 1


@settings(max_examples=500)
@given(st.text(alphabet="a-_.Z0 /\x00", max_size=120).map(str.encode))
def test_host_names_around_full_stops_are_all_that_a_search_of_the_whole_finds(part):
    assert list(_hosts(part)) == [found.span() for found in _HOST.finditer(part)]
