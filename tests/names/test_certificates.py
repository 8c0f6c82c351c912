"""Names in servers' certificates, from handshakes of OpenSSL and from captures that tshark reads as well."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apptell.flows import FlowOptions
from apptell.names import read_flows
from apptell.names.certificates import MOST_NAMES, certificate_names, names_of
from apptell.testing import conversation, write_pcap
from tests.names.hellos import flows
from tests.names.tls12 import NAMES, Message, cut, der, handshake, spoken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apptell.flows import FlowBatch

CAPTURES = Path(
    os.environ.get("APPTELL_SHARED", Path(__file__).resolve().parents[2] / ".." / "shared"),
    "captures",
    "messengers",
)


def offsets_of(messages: Sequence[Message]) -> list[int]:
    """Where each message begins in the stream of its side."""
    found, place = [], {True: 0, False: 0}
    for to_server, sent in messages:
        found.append(place[to_server])
        place[to_server] += len(sent)
    return found


def read(batch: FlowBatch) -> tuple[str, ...]:
    (found,) = certificate_names(batch)
    return found


def test_the_names_of_an_openssl_server_s_certificate_are_read() -> None:
    assert read(flows([list(spoken())])) == ("chat.example.org", "*.example.net")


@pytest.mark.parametrize("size", [97, 200, 1_400])
def test_a_certificate_over_several_segments_is_joined(size: int) -> None:
    assert read(flows([cut(spoken(), size)])) == ("chat.example.org", "*.example.net")


def test_a_certificate_after_starttls_is_read() -> None:
    said = [(False, b"* OK ready\r\n"), (True, b"1 STARTTLS\r\n"), (False, b"1 OK\r\n"), *spoken()]
    assert read(flows([said])) == ("chat.example.org", "*.example.net")


def test_tls_1_3_shows_no_certificate(tmp_path: Path) -> None:
    said = handshake(tmp_path, NAMES, ssl.TLSVersion.TLSv1_3)
    assert read(flows([said])) == ()


def test_a_certificate_is_not_read_across_a_gap() -> None:
    said = cut(spoken(), 200)
    second = [index for index, (to_server, _) in enumerate(said) if not to_server][1]
    offsets = offsets_of(said)
    whole = flows([said], offsets=[offsets])
    assert read(whole) == ("chat.example.org", "*.example.net")
    del said[second], offsets[second]
    assert read(flows([said], offsets=[offsets])) == ()


def test_bytes_that_were_sent_in_two_versions_give_no_name() -> None:
    said = list(spoken())
    index = next(i for i, (to_server, _) in enumerate(said) if not to_server)
    flight = said[index][1]
    place = flight.lower().index(b"chat.example.org")
    other = flight[:place] + b"evil" + flight[place + 4 :]
    offsets = [*offsets_of(said), 0]
    assert read(flows([[*said, (False, other)]], offsets=[offsets])) == ()
    again = flows([[*said, (False, flight)]], offsets=[offsets])
    assert read(again) == ("chat.example.org", "*.example.net")


def test_the_common_name_counts_where_there_are_no_alternative_names() -> None:
    assert names_of(der([])) == ("common.example",)
    assert names_of(der(["a.example"])) == ("a.example",)


def test_names_are_few_short_and_cannot_reach_a_terminal() -> None:
    assert len(names_of(der([f"n{number}.example" for number in range(60)]))) == MOST_NAMES
    assert names_of(der([], "\x1b[2J evil")) == ("\\x1b[2j\\x20evil",)
    assert names_of(der(["a,b.example", "c.example"])) == ("c.example",)
    assert names_of(der(["x" * 300])) == ()


def test_a_certificate_of_a_version_that_does_not_exist_gives_no_name() -> None:
    third = bytes.fromhex("a003020102")  # [0] EXPLICIT INTEGER 2: version 3 (RFC 5280, section 4.1)
    whole = der(["a.example"])
    assert whole.count(third) == 1
    assert names_of(whole.replace(third, bytes.fromhex("a003020105"))) == ()


@given(st.data())
def test_a_damaged_handshake_gives_names_or_none_and_never_fails(data: st.DataObject) -> None:
    said = list(spoken())
    index = next(i for i, (to_server, _) in enumerate(said) if not to_server)
    flight = bytearray(said[index][1])
    for _ in range(data.draw(st.integers(1, 4))):
        flight[data.draw(st.integers(0, len(flight) - 1))] = data.draw(st.integers(0, 255))
    said[index] = False, bytes(flight[: data.draw(st.integers(1, len(flight)))])
    names = read(flows([cut(said, 300)]))
    assert all(0 < len(name) <= 253 and name.isascii() and name.isprintable() for name in names)


def tshark(capture: Path) -> dict[tuple[str, int], set[str]]:
    """Names in servers' first certificates as tshark reads them, by client's address and port."""
    command = ["tshark", "-r", str(capture), "-n", "-Y", "tls.handshake.type == 11 && tcp"]
    command += ["-T", "fields", "-E", "aggregator=|", "-E", "occurrence=a"]
    for field in ("ip.dst", "tcp.dstport", "tls.handshake.certificates_length", "x509ce.dNSName"):
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    found: dict[tuple[str, int], set[str]] = {}
    for line in done.stdout.splitlines():
        address, port, lengths, names = line.split("\t")
        if address and names and "|" not in lengths:
            found[address, int(port)] = {name.lower() for name in names.split("|")}
    return found


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_tshark_reads_the_same_names(tmp_path: Path) -> None:
    packets = conversation(("192.0.2.9", 50_000), ("198.51.100.7", 443), cut(spoken(), 400))
    capture = write_pcap(tmp_path / "tls12.pcap", packets)
    with read_flows(capture, FlowOptions()) as reader:
        names = read(reader.to_flows())
    assert {("192.0.2.9", 50_000): set(names)} == tshark(capture)


@pytest.mark.shared
@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_tshark_reads_the_same_names_in_captures_of_messengers() -> None:
    captures = sorted(CAPTURES.rglob("zoom*.pcap*"))[:6]
    if not captures:
        pytest.skip("the shared captures are not here")
    compared = 0
    for capture in captures:
        theirs = tshark(capture)
        with read_flows(capture, FlowOptions()) as reader:
            batch = reader.to_flows()
        both = zip(
            *(batch.column(name).to_pylist() for name in ("client_address", "client_port")),
            strict=True,
        )
        for client, ours in zip(both, certificate_names(batch), strict=True):
            if ours and client in theirs:
                assert set(ours) <= theirs[client]
                compared += 1
    assert compared > 0
