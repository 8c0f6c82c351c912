import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from apptell.capture import open_capture
from apptell.errors import CaptureError

SHARED = Path(
    os.environ.get("APPTELL_SHARED", Path(__file__).resolve().parents[2] / ".." / "shared")
)
CAPTURES = SHARED / "captures"

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not CAPTURES.is_dir(), reason="the shared captures are absent"),
]


def captures_in(*folders):
    return [
        path
        for folder in folders
        for path in sorted((CAPTURES / folder).rglob("*"))
        if path.is_file()
    ]


def our_count(path):
    n_packets = 0
    try:
        with open_capture(path) as reader:
            for batch in reader:
                n_packets += len(batch)
    except CaptureError:
        pass
    return n_packets


def oracle_counts(paths):
    """Packets that capinfos counts in each file, also before damage; None where it knows no such link type."""
    done = subprocess.run(
        ["capinfos", "-c", "-M", "-T", "-r", *paths], capture_output=True, text=True
    )
    counts = dict.fromkeys(map(str, paths), 0)
    counts |= {name: int(n) for name, n in re.findall(r"^(.+)\t(\d+)$", done.stdout, re.MULTILINE)}
    counts |= {
        name: int(n)
        for n, name in re.findall(r'after reading (\d+) packets from "(.+)"', done.stderr)
    }
    unknown = re.findall(
        r'file "(.+)" contains record data that capinfos doesn.t support', done.stderr
    )
    counts |= dict.fromkeys(unknown)
    assert len(counts) == len(paths)
    return list(counts.values())


def test_patched_android_files_are_read_with_their_longer_headers():
    with open_capture(CAPTURES / "android" / "ma1") as reader:
        n_packets = sum(map(len, reader))
        assert reader.stats.formats == {"pcap (24-byte records)": 3, "pcap": 2}
        assert reader.stats.damage is None
    assert n_packets == 2477


@pytest.mark.oracle
@pytest.mark.skipif(shutil.which("capinfos") is None, reason="capinfos is not installed")
def test_packet_counts_equal_those_of_wireshark():
    paths = captures_in("android", "ndpi", "edge")
    expected = oracle_counts(paths)
    assert sum(filter(None, expected)) > 100_000
    differ = {
        path.name
        for path, count in zip(paths, expected, strict=True)
        if count is not None and count != our_count(path)
    }
    # Wireshark shows files that break within their first section header as one "packet", the file itself.
    headers = {f"kh-addrfail-{n:03}.pcap" for n in range(1, 12)}
    headers |= {"pcapng-truncated-shb.pcapng", "pcapng-shb-len-insane.pcapng"}
    assert differ <= headers
    assert len(differ) <= 0.01 * len(paths)


def test_any_file_gives_packets_or_a_capture_error():
    for path in captures_in("android", "ndpi", "edge", "messengers"):
        our_count(path)
