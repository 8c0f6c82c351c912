import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
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


def oracle_count(path):
    """Packets that capinfos counts, also before damage; None where it knows no such link type."""
    done = subprocess.run(
        ["capinfos", "-c", "-M", "-T", "-r", str(path)], capture_output=True, text=True
    )
    table = re.search(r"\t(\d+)$", done.stdout.strip())
    damaged = re.search(r"after reading (\d+) packets", done.stderr)
    if table:
        return int(table[1])
    if damaged:
        return int(damaged[1])
    return None if "record data that capinfos doesn't support" in done.stderr else 0


def test_patched_android_files_are_read_with_their_longer_headers():
    with open_capture(CAPTURES / "android" / "ma1") as reader:
        n_packets = sum(map(len, reader))
        assert reader.stats.formats == {"pcap (24-byte records)": 3, "pcap": 2}
        assert reader.stats.damage is None
    assert n_packets == 2477


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("capinfos") is None, reason="capinfos is not installed")
def test_packet_counts_equal_those_of_wireshark():
    paths = captures_in("android", "ndpi", "edge")
    with ThreadPoolExecutor(2) as pool:
        expected = list(pool.map(oracle_count, paths))
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
