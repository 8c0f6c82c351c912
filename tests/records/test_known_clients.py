import io
import struct
from ipaddress import ip_network
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from apptell.capture import PacketBatch, open_capture
from apptell.errors import UsageError
from apptell.names.client_names import ClientName, ClientNameReader
from apptell.packets import decode
from apptell.records.known_clients import ClientNames, read_clients
from apptell.records.record_filter import RecordFilter
from apptell.records.schema import RecordFields, Records
from apptell.records.stage import RecordStage
from apptell.testing import START_NS, Packet, pcap_bytes, udp_frame

SECOND = 10**9


def packet_batch(packets: list[Packet]) -> PacketBatch:
    """The packets as a capture gives them."""
    (batch,) = open_capture(io.BytesIO(pcap_bytes(packets)))
    return batch


MAC = bytes.fromhex("021a4f009c3e")


def dhcp_request(name: bytes, address: str, mac: bytes = MAC, kind: int = 3) -> bytes:
    """A DHCP message that asks for an address (RFC 2131, figure 1)."""
    fixed = struct.pack(">BBBBIHH16x", 1, 1, 6, 0, 7, 0, 0) + mac.ljust(16, b"\0") + bytes(192)
    asked = bytes(int(part) for part in address.split("."))
    options = bytes((53, 1, kind, 50, 4)) + asked + bytes((12, len(name))) + name + b"\xff"
    return fixed + bytes((99, 130, 83, 99)) + options


def dns_name(*labels: bytes) -> bytes:
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def mdns_response(host: bytes, address: bytes) -> bytes:
    """An mDNS announcement: a record of another kind, then the address by a compressed name (RFC 6762)."""
    first = dns_name(host, b"local")
    other = first + struct.pack(">HHIH", 16, 0x8001, 120, 3) + b"\2ab"
    kind = 1 if len(address) == 4 else 28
    record = b"\xc0\x0c" + struct.pack(">HHIH", kind, 0x8001, 120, len(address)) + address
    return struct.pack(">HHHHHH", 0, 0x8400, 0, 1, 0, 1) + other + record


def told(*frames: bytes) -> list[ClientName]:
    packets = [(START_NS + at * SECOND, frame) for at, frame in enumerate(frames)]
    return ClientNameReader()(decode(packet_batch(packets)))


DHCP = udp_frame(("0.0.0.0", 68), ("255.255.255.255", 67), dhcp_request(b"Pixel-7", "192.168.1.2"))
MDNS = udp_frame(
    ("192.168.1.3", 5353), ("224.0.0.251", 5353), mdns_response(b"Annas-iPhone", b"\xc0\xa8\1\3")
)


def test_names_are_read_from_dhcp_and_mdns() -> None:
    assert told(DHCP, MDNS) == [
        ClientName("192.168.1.2", "Pixel-7", START_NS, "02:1a:4f:00:9c:3e"),
        ClientName("192.168.1.3", "Annas-iPhone", START_NS + SECOND),
    ]


def test_an_ipv6_address_and_odd_bytes_in_a_name() -> None:
    address = bytes.fromhex("20010db8" + 22 * "0" + "01")
    frame = udp_frame(("fe80::1", 5353), ("ff02::fb", 5353), mdns_response(b"a\x1b[2J", address))
    (one,) = told(frame)
    assert one.address == "2001:db8::1"
    assert one.name == r"a\x1b[2J"


@pytest.mark.parametrize("n", [0, 1, 11, 12, 20, 40, 100, 235, 239, 241, 245])
def test_messages_that_are_cut_tell_nothing_and_do_no_harm(n: int) -> None:
    for frame, ports in ((DHCP, (68, 67)), (MDNS, (5353, 5353))):
        payload = frame[42:][:n]
        if len(payload) < len(frame[42:]) - 6:
            cut = udp_frame(("192.168.1.9", ports[0]), ("192.168.1.1", ports[1]), payload)
            assert told(cut) == []


def test_a_discover_and_a_server_s_answer_tell_no_name() -> None:
    discover = dhcp_request(b"Pixel-7", "192.168.1.2", kind=1)
    answer = bytes((2,)) + dhcp_request(b"Pixel-7", "192.168.1.2")[1:]
    for payload in (discover, answer):
        assert told(udp_frame(("0.0.0.0", 68), ("255.255.255.255", 67), payload)) == []


def _names(clients: ClientNames, *asked: tuple[str, int]) -> list[str | None]:
    addresses = [address for address, _ in asked]
    times = [START_NS + seconds * SECOND for _, seconds in asked]
    return clients.names(addresses, times) or [None] * len(asked)


def test_a_client_has_the_newest_name_up_to_the_record_s_end() -> None:
    clients = ClientNames()
    other = udp_frame(("0.0.0.0", 68), ("255.255.255.255", 67), dhcp_request(b"tv", "192.168.1.2"))
    packets = [(START_NS, DHCP), (START_NS + 10 * SECOND, other)]
    clients.watch(decode(packet_batch(packets)))
    asked = [("192.168.1.2", -1), ("192.168.1.2", 0), ("192.168.1.2", 9), ("192.168.1.2", 10)]
    assert _names(clients, *asked, ("192.168.1.4", 9)) == [None, "Pixel-7", "Pixel-7", "tv", None]


def test_the_operator_s_file_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "clients.csv"
    path.write_text(
        '# ours\n192.168.1.0/24,house\n192.168.1.3,anna\n\n02-1A-4F-00-9C-3E,"tablet, kitchen"\n'
    )
    clients = ClientNames(read_clients(path), reads_packets=False)
    assert _names(clients, ("192.168.1.2", 0), ("192.168.1.3", 0), ("10.0.0.1", 0)) == [
        "house",
        "anna",
        None,
    ]
    by_mac = ClientNames([("02:1a:4f:00:9c:3e", "tablet")], reads_packets=False)
    by_mac.watch(decode(packet_batch([(START_NS, DHCP), (START_NS, MDNS)])))
    assert _names(by_mac, ("192.168.1.2", 0), ("192.168.1.3", 0)) == ["tablet", None]


@pytest.mark.parametrize("line", ["192.168.1.2", "home,anna", "192.168.1.2,", "1,2,3"])
def test_a_line_without_a_network_and_a_name_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "clients.csv"
    path.write_text(f"10.0.0.1,ok\n{line}\n")
    with pytest.raises(UsageError, match="line 2 is not NETWORK,NAME or MAC,NAME"):
        read_clients(path)


def test_the_stage_adds_columns_only_where_they_are_asked_for() -> None:
    batch = pa.record_batch(
        {
            "client_address": ["192.168.1.3"],
            "end_time": pa.array([START_NS], pa.timestamp("ns", "UTC")),
        }
    )
    assert RecordStage()(batch) is batch
    stage = RecordStage(clients=ClientNames(), sensor="attic")
    found = stage(batch)
    assert found.schema == stage.schema(batch.schema)
    assert found.to_pylist()[0]["sensor"] == "attic"
    assert found.to_pylist()[0]["client_name"] is None


def test_plain_records_get_what_record_batches_get() -> None:
    batch = pa.record_batch(
        {
            "client_address": ["192.168.1.3", "10.0.0.1"],
            "end_time": pa.array([START_NS, START_NS], pa.timestamp("ns", "UTC")),
        }
    )
    columns = [["192.168.1.3", "10.0.0.1"], np.array([START_NS, START_NS])]
    plain = Records(RecordFields(batch.schema), columns, 2)
    assert RecordStage()(plain) is plain
    names = [(ip_network("10.0.0.0/8"), "desk")]
    for wanted in (RecordFilter(), RecordFilter(clients=(ip_network("10.0.0.0/8"),))):
        stage = RecordStage(wanted, ClientNames(names), "attic")
        found = stage(plain)
        found = found.to_arrow() if isinstance(found, Records) else found
        assert found.equals(stage(batch))
        assert found.column("client_name").to_pylist()[-1] == "desk"
