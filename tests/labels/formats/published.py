"""Small samples in the layouts in which public datasets are published."""

# ruff: noqa: E501

from __future__ import annotations

import csv
import gzip
import io
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

QUIC22 = (
    "ID", "SRC_IP", "DST_IP", "DST_ASN", "SRC_PORT", "DST_PORT", "PROTOCOL", "QUIC_VERSION", "QUIC_SNI",
    "QUIC_USER_AGENT", "TIME_FIRST", "TIME_LAST", "DURATION", "BYTES", "BYTES_REV", "PACKETS", "PACKETS_REV",
    "PPI", "PPI_LEN", "PPI_DURATION", "PPI_ROUNDTRIPS", "PHIST_SRC_SIZES", "PHIST_DST_SIZES", "PHIST_SRC_IPT",
    "PHIST_DST_IPT", "APP", "CATEGORY", "FLOW_ENDREASON_IDLE", "FLOW_ENDREASON_ACTIVE", "FLOW_ENDREASON_OTHER",
)  # fmt: skip
TLS_YEAR22 = (
    "ID", "SRC_IP", "DST_IP", "DST_ASN", "DST_PORT", "PROTOCOL", "TLS_SNI", "TLS_JA3", "TIME_FIRST", "TIME_LAST",
    "DURATION", "BYTES", "BYTES_REV", "PACKETS", "PACKETS_REV", "PPI_LEN", "PPI_DURATION", "PPI_ROUNDTRIPS",
    "APP", "CATEGORY", "FLAG_CWR", "FLAG_SYN", "FLOW_ENDREASON_IDLE", "PPI", "PHIST_SRC_SIZES",
)  # fmt: skip
PPI = ([0, 20, 5, 7], [1, -1, 1, -1], [1250, 1200, 80, 900])
"""Gaps in ms, directions, sizes."""


def cesnet_row(
    columns: Sequence[str], *, app: str = "zoom", ppi: Sequence[Sequence[int]] = PPI, host: int = 1
) -> list[str]:
    """A flow record, with the columns of a day's file."""
    known = {
        "ID": f"2022{host}", "SRC_IP": f"10.0.0.{host}", "DST_IP": "198.51.100.7", "SRC_PORT": "50123",
        "DST_PORT": "443", "PROTOCOL": "17" if "QUIC_SNI" in columns else "6", "QUIC_SNI": "zoom.example",
        "TLS_SNI": "zoom.example", "TIME_FIRST": "2022-10-31T08:15:30.250000", "PPI": json.dumps(ppi), "APP": app,
        "CATEGORY": "Videoconferencing", "PHIST_SRC_SIZES": "[0, 0, 0, 1, 0, 0, 0, 1]",
    }  # fmt: skip
    return [known.get(name, "0") for name in columns]


def cesnet_csv(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    """A day's file."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([columns, *rows])
    return out.getvalue().encode()


def cesnet_quic22(folder: Path) -> Path:
    """Two days of CESNET-QUIC22, one of them without flows, with the files of statistics beside them."""
    day = folder / "cesnet-quic22" / "W-2022-44" / "1_Mon"
    day.mkdir(parents=True)
    rows = [
        cesnet_row(QUIC22, app="zoom", host=1),
        cesnet_row(QUIC22, app="google-background", host=2),
        cesnet_row(QUIC22, app="discord", ppi=([0, 3], [1, -1], [0, 40]), host=3),
    ]
    (day / "flows-20221031.csv.gz").write_bytes(gzip.compress(cesnet_csv(QUIC22, rows)))
    (day / "stats-20221031.json").write_text('{"global": {"total-saved": 3}, "apps": {"zoom": 1}}')
    (day.parent / "flows-20221101.csv.gz").write_bytes(gzip.compress(b""))
    (day.parent.parent / "servicemap.csv").write_text("Tag,Service Provider\nzoom,Zoom\n")
    return folder


def cesnet_database(path: Path, days: Sequence[str] = ("20211004", "20211005")) -> Path:
    """A database of ``cesnet-datazoo``: a table for each day, with enumerations for words."""
    import h5py

    apps = h5py.enum_dtype({"zoom": 0, "default-background": 1}, basetype="u2")
    kinds = h5py.enum_dtype({"Videoconferencing": 0, "other": 1}, basetype="u1")
    row = [
        ("ID", "S20"),
        ("APP", apps),
        ("CATEGORY", kinds),
        ("PPI", "i2", (3, 30)),
        ("BYTES", "u8"),
    ]
    with h5py.File(path, "w") as file:
        for day in days:
            table = np.zeros(2, dtype=row)
            table["APP"] = (0, 1)
            table["PPI"][:, :, : len(PPI[0])] = np.array(PPI)
            file.create_dataset(f"/flows/D{day}", data=table, compression="gzip")
    return path


UTMOBILENET = (
    "", "frame.number", "frame.time", "frame.len", "frame.cap_len", "sll.pkttype", "sll.hatype", "sll.halen",
    "sll.src.eth", "sll.unused", "sll.etype", "ip.hdr_len", "ip.dsfield.ecn", "ip.len", "ip.id", "ip.frag_offset",
    "ip.ttl", "ip.proto", "ip.checksum", "ip.src", "ip.dst", "tcp.hdr_len", "tcp.len", "tcp.srcport", "tcp.dstport",
    "tcp.seq", "tcp.ack", "tcp.flags.ns", "tcp.flags.fin", "tcp.window_size_value", "tcp.checksum",
    "tcp.urgent_pointer", "tcp.option_kind", "tcp.option_len", "tcp.options.timestamp.tsval",
    "tcp.options.timestamp.tsecr", "udp.srcport", "udp.dstport", "udp.length", "udp.checksum",
    "gquic.puflags.rsv", "gquic.packet_number", "location",
)  # fmt: skip
PHONE, SERVER, RESOLVER = "10.145.31.196", "198.51.100.7", "198.51.100.53"
FIRST = datetime(2019, 5, 1, 0, 7, 17, 184823, tzinfo=UTC)  # 30 April, 19:07:17 CDT


def tshark_row(
    number: int,
    after_s: float,
    size: int,
    *,
    up: bool,
    seq: int | None = None,
    port: int = 59576,
    protocol: int = 6,
) -> list[str]:
    """A packet as tshark wrote it: numbers with a decimal point, the phone's zone by its letters."""
    time = FIRST + timedelta(seconds=after_s) - timedelta(hours=5)
    other, service = (SERVER, 443) if protocol == 6 else (RESOLVER, 53)
    ends = [(PHONE, port), (other, service)] if up else [(other, service), (PHONE, port)]
    known = {
        "": number - 1, "frame.number": number, "frame.len": size + 68, "frame.cap_len": 68,
        "frame.time": f"{time:%b %d, %Y %H:%M:%S}.{time.microsecond:06d}000 CDT", "sll.pkttype": 4 if up else 0,
        "ip.proto": f"{protocol}.0", "ip.src": ends[0][0], "ip.dst": ends[1][0], "location": "EER",
    }  # fmt: skip
    if protocol == 6:
        known |= {
            "tcp.len": f"{size}.0", "tcp.srcport": f"{ends[0][1]}.0", "tcp.dstport": f"{ends[1][1]}.0",
            "tcp.seq": f"{seq or 1}.0", "tcp.option_kind": "1,1,8",
        }  # fmt: skip
    else:
        known |= {
            "udp.srcport": f"{ends[0][1]}.0", "udp.dstport": f"{ends[1][1]}.0", "udp.length": f"{size + 8}.0",
        }  # fmt: skip
    return [str(known.get(name, "")) for name in UTMOBILENET]


def utmobilenet_csv(size: int = 700) -> bytes:
    """A connection that begins in the middle, with an acknowledgement and a retransmission; DNS; ICMP; a cut row."""
    packets = [
        tshark_row(1, 0.0, 818, up=True, seq=1),
        tshark_row(2, 0.02, 0, up=False),
        tshark_row(3, 0.15, 482, up=False, seq=1),
        tshark_row(4, 0.16, 34, up=False, seq=483),
        tshark_row(5, 0.20, 818, up=True, seq=1),
        tshark_row(6, 0.21, 36, up=True, protocol=17, port=56035),
        tshark_row(7, 0.22, 82, up=False, protocol=17, port=56035),
        ["7", "8", *tshark_row(8, 0.3, 0, up=True)[2:17], "1.0", *[""] * (len(UTMOBILENET) - 18)],
        tshark_row(9, 100.0, size, up=True, seq=819),
        tshark_row(10, 100.1, 500, up=False, seq=517),
    ]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([UTMOBILENET, *packets])
    return out.getvalue().encode() + b'10,11,"Apr 30, 2019 19:09\n'


def utmobilenet(folder: Path) -> Path:
    """The four partitions, with a file in two of them."""
    names = {
        "Action-Specific Wild Test Data": "dropbox_man-download_2019-04-30_19-07-09_4fd1c357.csv",
        "Deterministic Automated Data": "google-maps_explore_2019-03-05_11-00-00_d56097ed.csv",
        "Randomized Automated Data": None,
        "Wild Test Data": None,
    }
    for size, (partition, name) in enumerate(names.items(), 700):
        (folder / "csvs" / partition).mkdir(parents=True)
        if name:
            (folder / "csvs" / partition / name).write_bytes(utmobilenet_csv(size))
    return folder


ISCX_NAMES = [
    "AIMchat1",
    "AIMchat2",
    "ICQchat1",
    "ICQchat2",
    "Torrent01",
    "aim_chat_3a",
    "aim_chat_3b",
    "email1a",
    "email1b",
    "email2a",
    "email2b",
    "facebook_audio1a",
    "facebook_audio1b",
    "facebook_audio2a",
    "facebook_audio2b",
    "facebook_audio3",
    "facebook_audio4",
    "facebook_chat_4a",
    "facebook_chat_4b",
    "facebook_video1a",
    "facebook_video1b",
    "facebook_video2a",
    "facebook_video2b",
    "facebookchat1",
    "facebookchat2",
    "facebookchat3",
    "ftps_down_1a",
    "ftps_down_1b",
    "ftps_up_2a",
    "ftps_up_2b",
    "gmailchat1",
    "gmailchat2",
    "gmailchat3",
    "hangout_chat_4b",
    "hangouts_audio1a",
    "hangouts_audio1b",
    "hangouts_audio2a",
    "hangouts_audio2b",
    "hangouts_audio3",
    "hangouts_audio4",
    "hangouts_chat_4a",
    "hangouts_video1b",
    "hangouts_video2a",
    "hangouts_video2b",
    "icq_chat_3a",
    "icq_chat_3b",
    "netflix1",
    "netflix2",
    "netflix3",
    "netflix4",
    "scp1",
    "scpDown1",
    "scpDown2",
    "scpDown3",
    "scpDown4",
    "scpDown5",
    "scpDown6",
    "scpUp1",
    "scpUp2",
    "scpUp3",
    "scpUp5",
    "scpUp6",
    "sftp1",
    "sftpDown1",
    "sftpDown2",
    "sftpUp1",
    "sftp_down_3a",
    "sftp_down_3b",
    "sftp_up_2a",
    "sftp_up_2b",
    "skype_audio1a",
    "skype_audio1b",
    "skype_audio2a",
    "skype_audio2b",
    "skype_audio3",
    "skype_audio4",
    "skype_chat1a",
    "skype_chat1b",
    "skype_file1",
    "skype_file2",
    "skype_file3",
    "skype_file4",
    "skype_file5",
    "skype_file6",
    "skype_file7",
    "skype_file8",
    "skype_video1a",
    "skype_video1b",
    "skype_video2a",
    "skype_video2b",
    "spotify1",
    "spotify2",
    "spotify3",
    "spotify4",
    "torFacebook",
    "torGoogle",
    "torTwitter",
    "torVimeo1",
    "torVimeo2",
    "torVimeo3",
    "torYoutube1",
    "torYoutube2",
    "torYoutube3",
    "vimeo1",
    "vimeo2",
    "vimeo3",
    "vimeo4",
    "voipbuster1b",
    "voipbuster2b",
    "voipbuster3b",
    "voipbuster_4a",
    "voipbuster_4b",
    "vpn_aim_chat1a",
    "vpn_aim_chat1b",
    "vpn_bittorrent",
    "vpn_email2a",
    "vpn_email2b",
    "vpn_facebook_audio2",
    "vpn_facebook_chat1a",
    "vpn_facebook_chat1b",
    "vpn_ftps_A",
    "vpn_ftps_B",
    "vpn_hangouts_audio1",
    "vpn_hangouts_audio2",
    "vpn_hangouts_chat1a",
    "vpn_hangouts_chat1b",
    "vpn_icq_chat1a",
    "vpn_icq_chat1b",
    "vpn_netflix_A",
    "vpn_sftp_A",
    "vpn_sftp_B",
    "vpn_skype_audio1",
    "vpn_skype_audio2",
    "vpn_skype_chat1a",
    "vpn_skype_chat1b",
    "vpn_skype_files1a",
    "vpn_skype_files1b",
    "vpn_spotify_A",
    "vpn_vimeo_A",
    "vpn_vimeo_B",
    "vpn_voipbuster1a",
    "vpn_voipbuster1b",
    "vpn_youtube_A",
    "youtube1",
    "youtube2",
    "youtube3",
    "youtube4",
    "youtube5",
    "youtube6",
    "youtubeHTML5_1",
]
"""The names of the captures of ISCX VPN-nonVPN 2016, without their suffixes."""
