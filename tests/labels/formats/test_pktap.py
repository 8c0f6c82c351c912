"""PKTAP headers and PCAPdroid's pcapng, written from their layouts, and the datasets they give."""

import os
import struct
from pathlib import Path

import pytest

from apptell.capture import open_capture
from apptell.dataset import build
from apptell.flows import FlowOptions
from apptell.flows.schema import GROUPS
from apptell.labels import CaptureFlows, LabelOptions, LabelSearch
from apptell.labels.formats.pktap import PktapReader
from apptell.testing import conversation, pcap_bytes, write_pcap

SHARED = Path(
    os.environ.get("APPTELL_SHARED", Path(__file__).resolve().parents[3] / ".." / "shared")
)
TALK = [(True, b"hello there"), (False, b"general"), (True, b"more")]


def head(pid=812, name=b"Chat", epid=-1, ename=b"", length=108):
    out = struct.pack("<III24sIIIIi17s3x", length, 1, 1, b"en0", 2, 2, 14, 0, pid, name)
    return out + struct.pack("<IHHi17s3x", 0, 6, 0, epid, ename)


def packets(header, port=40001):
    return [
        (time, header + frame)
        for time, frame in conversation(("10.0.0.2", port), ("192.0.2.1", 443), TALK)
    ]


def built(path, folder):
    reader = CaptureFlows(FlowOptions(groups=tuple(GROUPS)))
    return build(LabelSearch([path], reader, LabelOptions()), folder).dataset


@pytest.mark.parametrize("link_type", [149, 258])
def test_process_names_are_labels_and_the_effective_process_wins(tmp_path, link_type):
    rows = packets(head()) + packets(head(99, b"nsurlsessiond", 812, b"Mail"), 40002)
    rows += packets(head(-1, b""), 40003)
    path = write_pcap(tmp_path / "x.pcap", sorted(rows), link_type=link_type)
    data = built(path, tmp_path / "d")
    assert data.info["apps"] == {"chat": 1, "mail": 1}
    assert data.info["label_from"] == {"pktap": 2}
    assert data.info["dropped"] == {"no app known": 1}


@pytest.mark.parametrize("size", [0, 11, 52, 107])
def test_cut_and_short_headers_name_nobody(tmp_path, size):
    rows = [(0, head()[:size]), (1, head(length=100) + bytes(40)), (2, head())]
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap_bytes(rows, link_type=258))
    reader = PktapReader()
    with open_capture(path) as capture:
        owners = [int(i) for batch in capture for i in reader(batch).owner]
    assert owners == [-1, -1, 0]


def block(kind, body):
    body += bytes(-len(body) % 4)
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size


def test_pcapdroids_pcapng_gives_packages(tmp_path):
    data = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    data += block(1, struct.pack("<HHI", 101, 0, 0))
    names = (b"org.example.Chat", b"Chat")
    fixed = struct.pack("<IHBBiBB", 62652, 1, 1, 0, 10123, *map(len, names))
    data += block(0x00000BAD, fixed + b"".join(names))
    for uid, port in ((10123, 40001), (1051, 40002), (-1, 40003)):
        comment = f"u-{uid}".encode()
        for time, frame in conversation(("10.0.0.2", port), ("192.0.2.1", 443), TALK):
            ip, ticks = frame[14:], time // 1000
            body = struct.pack("<IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, len(ip), len(ip)) + ip
            body += bytes(-len(body) % 4) + struct.pack("<HH", 1, len(comment)) + comment
            data += block(6, body + bytes(-len(body) % 4) + bytes(4))
    (tmp_path / "phone.pcapng").write_bytes(data)
    dataset = built(tmp_path / "phone.pcapng", tmp_path / "d")
    assert dataset.info["apps"] == {"org.example.chat": 1, "system": 1}
    assert dataset.info["label_from"] == {"pcapdroid": 2}
    assert dataset.info["dropped"] == {"no app known": 1}


@pytest.mark.shared
def test_a_header_that_macos_wrote_is_read_at_the_right_places():
    path = SHARED / "captures/edge/the-tcpdump-group_tcpdump/tests/LINKTYPE_PKTAP.pcap"
    if not path.is_file():
        pytest.skip("shared captures are absent")
    with open_capture(path) as capture:
        (batch,) = capture
        assert PktapReader()(batch).owner.tolist() == [-1]  # its process is 0 without a name
        frame = batch.frame(0)
    assert struct.unpack_from("<III24sIII", frame)[:3] == (108, 1, 1)
    assert struct.unpack_from("<I", frame, 44)[0] == 14  # bytes of Ethernet before IP
