"""Capture filters: what libpcap compiles is what tcpdump compiles."""

import ctypes
import ctypes.util
import shutil
import struct
import subprocess

import pytest

from apptell.capture.filter import compile_filter, take
from apptell.errors import MissingError, UsageError

needs_libpcap = pytest.mark.skipif(ctypes.util.find_library("pcap") is None, reason="needs libpcap")
TCPDUMP = shutil.which("tcpdump", path="/usr/sbin:/usr/bin")


@needs_libpcap
@pytest.mark.skipif(TCPDUMP is None, reason="needs tcpdump to compare with")
@pytest.mark.parametrize(("link_type", "name"), [(1, "EN10MB"), (101, "RAW"), (105, "IEEE802_11")])
@pytest.mark.parametrize("expression", ["tcp port 443", "host 10.0.0.1 and not udp", "ip6"])
def test_a_filter_is_compiled_as_tcpdump_does(link_type, name, expression) -> None:
    command = [TCPDUMP, "-ddd", "-s", "2048", "-y", name, "--", expression]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    expected = [tuple(map(int, line.split())) for line in lines[1:]]
    assert (
        list(struct.iter_unpack("=HBBI", compile_filter(expression, link_type, 2048))) == expected
    )


@needs_libpcap
def test_a_filter_that_does_not_compile_is_quoted_with_the_reason() -> None:
    with pytest.raises(UsageError, match=r"filter 'tcpp port 1': .*syntax error"):
        compile_filter("tcpp port 1", 1, 2048)


def test_a_program_without_a_filter_takes_so_many_bytes() -> None:
    assert struct.unpack("=HBBI", take(96)) == (6, 0, 0, 96)


def test_without_libpcap_a_filter_says_how_to_get_it(monkeypatch) -> None:
    def refuse(_name):
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    with pytest.raises(MissingError, match=r"sudo apt install libpcap0\.8") as error:
        compile_filter("tcp", 1, 2048)
    assert error.value.exit_code == 3
