"""From hand-made packets to verdicts: what evidence says on disk, by several processes, and live."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from apptell.catalogue import Catalogue
from apptell.flows import FlowOptions
from apptell.names import read_flows
from apptell.service import LiveOptions, LivePipeline, QueuedOutput, ReplaySource
from apptell.testing import (
    START_NS,
    conversation,
    udp_frame,
    write_pcap,
)
from apptell.verdicts import Evidence, identify_flows
from tests.names.dns_twin import record, response, wire_name
from tests.names.hellos import alpn, hello, records, server_name
from tests.names.test_quic import crypto, initial

if TYPE_CHECKING:
    from pathlib import Path

    from apptell.testing import Packet
    from apptell.verdicts import Verdict

SECOND = 1_000_000_000
PHONE, TABLET, RESOLVER = "192.168.1.2", "192.168.1.3", "192.168.1.1"
SERVERS = [f"203.0.113.{i}" for i in range(10, 30)]
ROWS = """domain,app
chat.example,Chat
tube.example,Tube
bücher.example,Bücher
"""
BOTH = FlowOptions(transports=(6, 17), groups=("core", "segments", "names"))


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    path = tmp_path_factory.mktemp("catalogue") / "apps.csv"
    path.write_text(ROWS, encoding="utf-8")
    return Catalogue.load([path])


class Capture:
    """Packets of a phone, in the order in which they are added."""

    def __init__(self) -> None:
        self.packets: list[Packet] = []
        self._port = 40_000

    def answer(
        self, at: float, name: str, *addresses: str, to: str = PHONE, ttl: int = 60, **how: Any
    ) -> None:
        """A DNS response, over UDP, or with ``tcp`` over TCP; with ``alias`` through a CNAME."""
        self._port += 1
        alias = how.get("alias")
        owner = b"\xc0\x0c" if alias is None else wire_name(alias)
        found = [
            record(1, bytes(map(int, address.split("."))), owner, ttl=ttl) for address in addresses
        ]
        if alias is not None:
            found.insert(0, record(5, wire_name(alias), ttl=ttl))
        message = response(name.encode(), *found)
        client, server = (to, self._port), (RESOLVER, 53)
        if how.get("tcp"):
            message = len(message).to_bytes(2, "big") + message
            half = len(message) // 2
            messages = [(True, b"query"), (False, message[:half]), (False, message[half:])]
            self._add(at, conversation(client, server, messages, gap_ns=1000))
            return
        self._add(
            at,
            [(0, udp_frame(client, server, b"query")), (1000, udp_frame(server, client, message))],
        )

    def connection(
        self, at: float, server: str, first: bytes = b"?" * 40, *, by: str = PHONE, n: int = 6
    ) -> None:
        """A TCP connection of some packets with payload."""
        self._port += 1
        messages = [(i % 2 == 0, first if i == 0 else b"x" * (50 + i)) for i in range(n)]
        self._add(at, conversation((by, self._port), (server, 443), messages))

    def quic(self, at: float, server: str, first: bytes = b"\x40" + b"?" * 60) -> None:
        """A QUIC connection of some datagrams."""
        self._port += 1
        client, target = (PHONE, self._port), (server, 443)
        said = [first] + [b"\x40" + b"x" * (50 + i) for i in range(5)]
        self._add(
            at,
            [
                (i * 1000, udp_frame(*((client, target) if i % 2 == 0 else (target, client)), data))
                for i, data in enumerate(said)
            ],
        )

    def _add(self, at: float, packets: list[Packet]) -> None:
        first_ns = packets[0][0]
        start_ns = START_NS + int(at * SECOND)
        self.packets += [(start_ns + time_ns - first_ns, frame) for time_ns, frame in packets]

    def write(self, path: Path) -> Path:
        return write_pcap(path, sorted(self.packets, key=lambda packet: packet[0]))


def _verdicts(
    path: Path, catalogue: Catalogue, options: FlowOptions = BOTH, jobs: int = 1
) -> list[Verdict]:
    """Verdicts on all flows but those of DNS, by their start."""
    evidence = Evidence(catalogue)
    with read_flows(path, options, jobs=jobs, observer=evidence) as flows:
        found = [v for batch in identify_flows(flows, evidence=evidence) for v in batch]
    return sorted(
        (v for v in found if v.server_port != 53), key=lambda v: (v.start_ns, v.client_port)
    )


def _apps(capture: Capture, tmp_path: Path, catalogue: Catalogue) -> list[tuple[str, str]]:
    return [
        (v.app, v.evidence) for v in _verdicts(capture.write(tmp_path / "phone.pcap"), catalogue)
    ]


def _hello(name: bytes) -> bytes:
    return records(hello([server_name(name), alpn(b"h2")]))


def test_names_in_upper_case_and_in_idna_name_the_app(tmp_path: Path, catalogue: Catalogue) -> None:
    capture = Capture()
    capture.connection(0, SERVERS[0], _hello(b"WWW.Chat.EXAMPLE"))
    capture.connection(1, SERVERS[1], _hello(b"xn--bcher-kva.example"))
    capture.connection(2, SERVERS[2], b"GET / HTTP/1.1\r\nHost: TUBE.example:80\r\n\r\n")
    capture.answer(3, "XN--Bcher-kva.Example", SERVERS[3])
    capture.connection(4, SERVERS[3])
    assert _apps(capture, tmp_path, catalogue) == [
        ("chat", "name"),
        ("bücher", "name"),
        ("tube", "name"),
        ("bücher", "dns"),
    ]


def test_an_address_as_a_name_is_no_name_and_dns_is_asked(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    capture = Capture()
    capture.answer(0, "a.chat.example", SERVERS[0])
    capture.connection(1, SERVERS[0], _hello(SERVERS[0].encode()))
    capture.connection(2, SERVERS[1], b"GET / HTTP/1.1\r\nHost: 203.0.113.11:80\r\n\r\n")
    assert _apps(capture, tmp_path, catalogue) == [("chat", "dns"), (None, None)]


def test_the_asked_name_counts_and_not_the_alias_that_it_leads_to(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    capture = Capture()
    capture.answer(0, "a.chat.example", SERVERS[0], alias=b"edge.tube.example")
    capture.connection(1, SERVERS[0])
    assert _apps(capture, tmp_path, catalogue) == [("chat", "dns")]


def test_an_answer_over_tcp_counts_and_one_after_the_connection_began_does_not(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    capture = Capture()
    capture.answer(0, "a.chat.example", SERVERS[0], tcp=True)
    capture.connection(1, SERVERS[0])
    capture.connection(2, SERVERS[1])
    capture.answer(2.02, "a.tube.example", SERVERS[1])
    assert _apps(capture, tmp_path, catalogue) == [("chat", "dns"), (None, None)]


def test_an_answer_outlives_a_ttl_of_a_second_by_hours_and_not_by_a_day(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    capture = Capture()
    capture.answer(0, "a.chat.example", SERVERS[0], ttl=1)
    capture.connection(5 * 3600, SERVERS[0])
    capture.answer(5 * 3600, "a.tube.example", SERVERS[1], ttl=1)
    capture.connection(29 * 3600, SERVERS[1])
    assert _apps(capture, tmp_path, catalogue) == [("chat", "dns"), (None, None)]


def test_two_clients_and_one_server_address(tmp_path: Path, catalogue: Catalogue) -> None:
    capture = Capture()
    capture.answer(0, "a.chat.example", SERVERS[0])
    capture.answer(0, "a.tube.example", SERVERS[0], to=TABLET)
    capture.connection(1, SERVERS[0])
    capture.connection(2, SERVERS[0], by=TABLET)
    capture.connection(3, SERVERS[0], by="192.168.1.4")
    assert _apps(capture, tmp_path, catalogue) == [("chat", "dns"), ("tube", "dns"), (None, None)]


def test_an_address_of_two_apps_decides_nothing(tmp_path: Path, catalogue: Catalogue) -> None:
    capture = Capture()
    capture.answer(0, "a.chat.example", SERVERS[0])
    capture.answer(0, "a.tube.example", SERVERS[0])
    capture.connection(1, SERVERS[0])
    capture.connection(2, SERVERS[1], _hello(b"a.chat.example"))
    capture.connection(3, SERVERS[1], _hello(b"a.tube.example"))
    capture.connection(9, SERVERS[1])
    apps = _apps(capture, tmp_path, catalogue)
    assert [app for app, _ in apps] == [None, "chat", "tube", None]


def test_the_outer_name_of_encrypted_client_hello_leaves_the_word_to_dns(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    capture = Capture()
    capture.answer(0, "a.chat.example", SERVERS[0])
    capture.connection(1, SERVERS[0], _hello(b"cloudflare-ech.com"))
    capture.connection(2, SERVERS[1], _hello(b"cloudflare-ech.com"))
    assert _apps(capture, tmp_path, catalogue) == [("chat", "dns"), (None, None)]


def test_quic_flows_are_named_by_their_hello_by_dns_and_by_address(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    capture = Capture()
    hello_message = hello([server_name(b"a.chat.example"), alpn(b"h3")])
    capture.quic(0, SERVERS[0], initial(crypto(0, hello_message)))
    capture.answer(1, "a.tube.example", SERVERS[1])
    capture.quic(2, SERVERS[1])
    capture.quic(9, SERVERS[0])
    assert _apps(capture, tmp_path, catalogue) == [
        ("chat", "name"),
        ("tube", "dns"),
        ("chat", "address"),
    ]


def test_a_range_names_the_app_on_its_published_ports_alone(tmp_path: Path) -> None:
    rows = tmp_path / "calls.csv"
    rows.write_text("domain,app,transport,ports\n203.0.113.0/24,Calls,udp,3478-3481\n", "utf-8")
    capture = Capture()
    capture.connection(0, SERVERS[0])
    for at, port in ((1, 3478), (2, 3481), (3, 3482)):
        client, server = (PHONE, 50_000 + port), (SERVERS[0], port)
        capture._add(
            at, [(i * 1000, udp_frame(client, server, b"\x80" * (60 + i))) for i in range(6)]
        )
    assert _apps(capture, tmp_path, Catalogue.load([rows])) == [
        (None, None),
        ("calls", "range"),
        ("calls", "range"),
        (None, None),
    ]


def test_dns_is_read_where_tcp_flows_alone_are_made(tmp_path: Path, catalogue: Catalogue) -> None:
    capture = Capture()
    capture.answer(0, "a.chat.example", SERVERS[0])
    capture.connection(1, SERVERS[0])
    options = FlowOptions(groups=("core", "segments", "names"))
    (verdict,) = _verdicts(capture.write(tmp_path / "phone.pcap"), catalogue, options)
    assert (verdict.app, verdict.dns_name) == ("chat", "a.chat.example")


@pytest.fixture
def busy() -> Capture:
    """A capture in which flows that last long teach what short ones need."""
    capture = Capture()
    for i, server in enumerate(SERVERS):
        name = (b"a.chat.example", b"a.tube.example", b"www.elsewhere.test")[i % 3]
        capture.connection(i, server, _hello(name), n=200 if i % 2 else 6)
        capture.connection(i + 20, server)
        capture.connection(i + 300, server, by=TABLET)
        capture.answer(i + 310, "b.chat.example", server)
        capture.connection(i + 330, server)
        capture.connection(i + 700, server)
    capture.connection(800, "203.0.113.99")
    return capture


class _Kept:
    """An output that keeps what verdicts and ends say."""

    def __init__(self) -> None:
        self.extra: dict[str, int] = {}
        self.rows: list[tuple[Any, ...]] = []

    def write(self, batch: Any) -> None:
        rows = batch.to_pylist()
        self.rows += [
            (row["client_port"], row["server_port"], row["app"], row["service"], row["evidence"])
            for row in rows
            if row["event"] == "end"
        ]

    def tick(self) -> None: ...

    def close(self) -> None: ...


def test_a_file_several_processes_a_stream_and_a_replay_give_the_same(
    tmp_path: Path, catalogue: Catalogue, busy: Capture
) -> None:
    path = busy.write(tmp_path / "phone.pcap")
    expected = [v.to_dict() for v in _verdicts(path, catalogue)]
    assert {row["evidence"] for row in expected} == {"name", "dns", "address", None}
    assert [v.to_dict() for v in _verdicts(path, catalogue, jobs=3)] == expected
    kept = _Kept()
    output = QueuedOutput("kept", kept, is_lossless=True)
    options = LiveOptions(
        FlowOptions(BOTH.mode, BOTH.transports, groups=BOTH.groups, lists_decided=True),
        evidence=Evidence(catalogue),
    )
    LivePipeline([ReplaySource(path)], None, [output], options).run(threading.Event())
    live = sorted(row for row in kept.rows if row[1] != 53)
    assert live == sorted(
        (row["client_port"], row["server_port"], row["app"], row["service"], row["evidence"])
        for row in expected
    )


def test_open_flows_are_shown_after_so_many_that_ended_and_nothing_changes(
    tmp_path: Path, catalogue: Catalogue, busy: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = busy.write(tmp_path / "phone.pcap")
    expected = [v.to_dict() for v in _verdicts(path, catalogue)]
    monkeypatch.setattr("apptell.flows.stages.LOOK_FLOWS", 8)
    monkeypatch.setattr("apptell.flows.stages.HAND_OUT_PACKETS", 1)
    assert [v.to_dict() for v in _verdicts(path, catalogue)] == expected
