import ipaddress
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apptell.dataset.anonymize import Anonymizer, CryptoPan
from apptell.errors import UsageError
from apptell.flows import FlowOptions
from apptell.flows.community_id import community_id
from apptell.flows.schema import GROUPS
from apptell.names import read_flows
from apptell.testing import client_hello, conversation, flow_batch, write_pcap

# The key and addresses of the sample that Crypto-PAn is published with.
KEY = bytes(
    [21, 34, 23, 141, 51, 164, 207, 128, 19, 10, 91, 22, 73, 144, 125, 16, 216, 152, 143, 131, 121]
    + [121, 101, 39, 98, 87, 76, 45, 42, 132, 34, 2]
)
VECTORS = {
    "128.11.68.132": "135.242.180.132",
    "129.118.74.4": "134.136.186.123",
    "130.132.252.244": "133.68.164.234",
    "141.223.7.43": "141.167.8.160",
    "152.163.225.39": "151.140.114.167",
    "192.102.249.13": "252.138.62.131",
    "198.36.213.5": "249.7.21.132",
    "::1": "78ff:f001:9fc0:20df:8380:b1f1:704:ed",
    "2001:db8::1": "4401:2bc:603f:d91d:27f:ff8e:e6f1:dc1e",
}


@pytest.mark.parametrize(("before", "after"), VECTORS.items())
def test_published_vectors(before, after):
    assert CryptoPan(KEY).address(before) == after


@pytest.mark.oracle
@given(st.ip_addresses(), st.binary(min_size=32, max_size=32))
@settings(max_examples=200)
def test_addresses_are_those_of_another_program(address, key):
    other = pytest.importorskip("yacryptopan").CryptoPAn(key)
    ours = CryptoPan(key).address(str(address))
    assert ipaddress.ip_address(other.anonymize(str(address))) == ipaddress.ip_address(ours)


@pytest.mark.oracle
@pytest.mark.parametrize(("before", "after"), VECTORS.items())
def test_the_vectors_are_those_of_another_program(before, after):
    assert pytest.importorskip("yacryptopan").CryptoPAn(KEY).anonymize(before) == after


@given(st.ip_addresses(), st.integers(0, 127))
def test_a_common_prefix_stays_exactly_as_long(address, bit):
    width = address.max_prefixlen
    other = type(address)(int(address) ^ (1 << bit % width))
    pan = CryptoPan(KEY)
    a, b = (int(ipaddress.ip_address(pan.address(str(x)))) for x in (address, other))
    assert (a ^ b).bit_length() == (int(address) ^ int(other)).bit_length()


def flows(tmp_path):
    hello = client_hello("chat.example.org")
    talk = [
        (True, hello),
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


def test_addresses_and_everything_made_of_them_change_together(tmp_path):
    before = flows(tmp_path)
    after = Anonymizer(KEY)(before)
    pan = CryptoPan(KEY)
    for old, new in zip(before, after, strict=True):
        assert new.client_address == pan.address(old.client_address)
        assert new.server_address == pan.address(old.server_address)
        ends = (new.client_address, new.client_port, new.server_address, new.server_port)
        assert new.community_id == community_id(6, *ends)
        assert new.connection_id != old.connection_id
    assert after.column("segment_bytes").equals(before.column("segment_bytes"))
    again = Anonymizer(KEY)(before)
    assert again.to_arrow().equals(after.to_arrow())


def key_file(path, content=KEY, mode=0o600):
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_key_file_holds_32_bytes_or_64_digits(tmp_path):
    path = tmp_path / "key"
    for content in (KEY, KEY.hex().encode() + b"\n"):
        anonymizer = Anonymizer.from_file(key_file(path, content))
        assert anonymizer._pan.address("128.11.68.132") == "135.242.180.132"
    for content in (b"short", b"z" * 64, b"0" * 5000):
        with pytest.raises(UsageError, match="key"):
            Anonymizer.from_file(key_file(path, content))
    with pytest.raises(UsageError, match="cannot be read"):
        Anonymizer.from_file(tmp_path / "none")


def test_a_name_that_is_an_address_goes_with_the_addresses(tmp_path):
    names = ["192.0.2.1:8080", "[2001:db8::1]:443", "1.2.0.192.in-addr.arpa.", "a.example", None]
    before = flow_batch(["chat"] * 5).with_columns(http_host=names, dns_name=names)
    after = Anonymizer(KEY)(before)
    for column in ("http_host", "dns_name"):
        assert after.column(column).to_pylist() == [None, None, None, "a.example", None]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o610])
def test_a_key_file_that_others_can_use_is_refused(tmp_path, mode):
    path = key_file(tmp_path / "key", mode=mode)
    with pytest.raises(UsageError, match=f"mode 0{mode:o}.*chmod 600"):
        Anonymizer.from_file(path)


def test_a_key_file_of_another_user_a_link_and_a_pipe_are_refused(tmp_path, monkeypatch):
    path = key_file(tmp_path / "key")
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(UsageError, match="cannot be read"):
        Anonymizer.from_file(tmp_path / "link")
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(UsageError, match="regular file"):
        Anonymizer.from_file(tmp_path / "pipe")
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with pytest.raises(UsageError, match="belongs to another user"):
        Anonymizer.from_file(path)
