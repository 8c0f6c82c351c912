"""PCAPdroid's capture with trailers, written bit by bit from its description, spoiled and read back."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apptell.capture import PacketBatch
from apptell.dataset import build
from apptell.encoding import images
from apptell.flows import FlowOptions
from apptell.flows.schema import GROUPS
from apptell.labels import CaptureFlows, LabelOptions, LabelSearch
from apptell.labels.formats import pcapdroid
from apptell.labels.formats.pcapdroid import TrailerReader
from apptell.names import read_flows
from apptell.testing import conversation, pcap_bytes

CLIENT, SERVER = ("10.215.173.1", 40001), ("192.0.2.7", 443)
TALK = [(True, b"hello there"), (False, b"general"), (True, b"more"), (False, b"and more")]


def with_trailer(ip, uid, name, *, fcs=True, crc=None, ethertype=0x0800):
    frame = bytes(12) + struct.pack(">H", ethertype) + ip
    frame += bytes(-len(frame) % 4)
    frame += struct.pack(">Ii20s", 0x01072021, uid, name)
    right = zlib.crc32(frame)
    return frame + (struct.pack("<I", right if crc is None else crc) if fcs else b"")


def batch_of(frames, link_type=1):
    n = len(frames)
    sizes = np.array([len(frame) for frame in frames], dtype=np.int32)
    return PacketBatch(
        np.frombuffer(b"".join(frames), dtype=np.uint8),
        np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64),
        sizes,
        sizes,
        np.zeros(n, dtype=np.int64),
        np.full(n, link_type, dtype=np.uint16),
        np.zeros(n, dtype=np.int32),
        np.zeros(n, dtype=np.uint8),
        np.full(n, -1, dtype=np.int32),
    )


def ip_packets(client=CLIENT, **options):
    return [(time, frame[14:]) for time, frame in conversation(client, SERVER, TALK, **options)]


IP_PACKETS = ip_packets()
IP = IP_PACKETS[0][1]


def owners(batch):
    return [batch.owners[i] if i >= 0 else None for i in batch.owner]


def test_uid_and_name_are_read_and_owners_are_shared_between_batches():
    reader = TrailerReader()
    first = reader(batch_of([with_trailer(IP, 10123, b"Chat"), with_trailer(IP, 10124, b"Mail")]))
    second = reader(batch_of([with_trailer(IP, 10123, b"Chat"), with_trailer(IP, -1, b"")]))
    assert [(o.uid, o.name) for o in owners(first)] == [(10123, "Chat"), (10124, "Mail")]
    assert [(o.uid, o.name) for o in owners(second)] == [(10123, "Chat"), (-1, None)]
    assert len(reader.owners) == 3
    assert (reader.n_trailers, reader.n_bad_fcs) == (4, 0)


def test_owners_stay_valid_after_a_batch_without_trailers():
    reader = TrailerReader()
    reader(batch_of([with_trailer(IP, 10123, b"Chat")]))
    assert [owner.uid for owner in reader(batch_of([IP])).owners] == [10123]


def test_a_name_cut_in_mid_character_loses_that_character():
    cut = "微信微信微信微信".encode()[:19]
    (owner,) = owners(TrailerReader()(batch_of([with_trailer(IP, 10001, cut)])))
    assert owner.name == "微信微信微信"


def test_a_wrong_checksum_is_counted_and_the_packet_kept():
    reader = TrailerReader()
    (owner,) = owners(reader(batch_of([with_trailer(IP, 10123, b"Chat", crc=1)])))
    assert owner.uid == 10123
    assert reader.n_bad_fcs == 1


def test_the_magic_is_found_also_where_the_checksum_was_dropped():
    reader = TrailerReader()
    (owner,) = owners(reader(batch_of([with_trailer(IP, 10123, b"Chat", fcs=False)])))
    assert owner.name == "Chat"
    assert reader.n_bad_fcs == 0


def test_bare_ip_in_a_file_that_says_ethernet_gets_its_link_type():
    reader = TrailerReader()
    batch = reader(batch_of([IP, with_trailer(IP, 10123, b"Chat")]))
    assert batch.link_type.tolist() == [101, 1]
    assert batch.owner.tolist() == [-1, 0]
    assert reader.n_bare == 1


@pytest.mark.parametrize("size", range(70))
def test_a_frame_cut_anywhere_is_read_without_harm(size):
    frame = with_trailer(IP, 10123, b"Chat")[:size]
    assert TrailerReader()(batch_of([frame])).owner.tolist() == [-1]


def test_other_link_types_are_left_alone():
    assert TrailerReader()(batch_of([with_trailer(IP, 1, b"x")], 101)).owner.tolist() == [-1]


def plain_twin(batch):
    """What a frame has, from the description: 1 a trailer, 2 one without checksum, 3 bare IP."""
    out = []
    for row in range(len(batch)):
        frame = batch.frame(row)
        if len(frame) >= 66 and frame[-32:-28] == b"\x01\x07\x20\x21":
            out.append(1)
        elif len(frame) >= 62 and frame[-28:-24] == b"\x01\x07\x20\x21":
            out.append(2)
        else:
            out.append(3 if len(frame) >= 20 and frame[0] >> 4 in (4, 6) else 0)
    return out


@given(
    st.lists(
        st.tuples(
            st.sampled_from([True, False]),
            st.integers(0, 140),
            st.binary(max_size=9),
            st.integers(0, 9),
        ),
        min_size=1,
    )
)
def test_the_kernel_finds_what_its_plain_twin_finds(cuts):
    frames = [
        (with_trailer(IP, uid, b"x" * uid, fcs=fcs)[:size] if fcs else IP[:size]) + tail
        for fcs, size, tail, uid in cuts
    ]
    reader, batch = TrailerReader(), batch_of(frames)
    read, kinds = reader(batch), plain_twin(batch)
    assert [owner >= 0 for owner in read.owner] == [kind in (1, 2) for kind in kinds]
    assert read.link_type.tolist() == [101 if kind == 3 else 1 for kind in kinds]
    for frame, kind, owner in zip(frames, kinds, owners(read), strict=True):
        if kind in (1, 2):
            key = frame[-28:-4] if kind == 1 else frame[-24:]
            assert owner.uid == int.from_bytes(key[:4], "big", signed=True)
    bad = [
        f
        for f, kind in zip(frames, kinds, strict=True)
        if kind == 1 and zlib.crc32(f[:-4]) != int.from_bytes(f[-4:], "little")
    ]
    assert reader.n_bad_fcs == len(bad)


@given(st.binary(max_size=300), st.integers(0, 20))
def test_the_checksum_is_zlibs(data, start):
    start = min(start, len(data))
    buffer = np.frombuffer(data, dtype=np.uint8)
    assert pcapdroid._crc32(buffer, start, len(data), pcapdroid._CRC) == zlib.crc32(data[start:])


def test_the_places_of_owners_in_the_table_cannot_be_chosen():
    """Else a capture with colliding uids would take time quadratic in their number."""
    places = set()
    for _ in range(2):
        reader = TrailerReader()
        reader(batch_of([with_trailer(IP, 10_000 + i, b"App") for i in range(40)]))
        places.add(reader._slots.tobytes())
    assert len(places) == 2


def test_hundreds_of_apps_keep_their_own_names():
    reader = TrailerReader()
    uids = [10_000 + i for i in range(700)] * 2
    for part in (uids[:100], uids[100:], uids[:50]):
        read = reader(batch_of([with_trailer(IP, uid, b"App %d" % uid) for uid in part]))
        assert [(o.uid, o.name) for o in owners(read)] == [(uid, f"App {uid}") for uid in part]
    assert len(reader.owners) == 700


def test_the_kernels_stay_within_bounds_on_spoiled_frames(bounds_checked):
    program = """
import numpy as np, sys
sys.path.insert(0, sys.argv[1])
from test_pcapdroid import *
noise = np.random.default_rng(1)
for _ in range(300):
    frame = bytearray(with_trailer(IP, 10123, b"Chat"))
    for at in noise.integers(0, len(frame), 3):
        frame[at] = noise.integers(0, 256)
    batch = batch_of([bytes(frame[: noise.integers(0, len(frame) + 1)]), bytes(frame)])
    batch.captured[1] += noise.integers(0, 3)
    TrailerReader()(batch)
"""
    subprocess.run(
        [sys.executable, "-c", program, Path(__file__).parent], check=True, env=bounds_checked
    )


def phone(path, names=(b"Chat", b"Mail"), uids=(10123, 10124), flip=()):
    packets = []
    for i, (name, uid) in enumerate(zip(names, uids, strict=True)):
        for time, ip in ip_packets((CLIENT[0], 41000 + i)):
            packets.append((time + i, with_trailer(ip, uid, name)))
    for time, ip in ip_packets((CLIENT[0], 43000)):  # one whose trailer was dropped
        packets.append((time, ip))
    packets.sort(key=lambda packet: packet[0])
    path.write_bytes(pcap_bytes(packets))
    return path


def built(path, folder, **options):
    reader = CaptureFlows(FlowOptions(groups=tuple(GROUPS)))
    return build(LabelSearch([path], reader, LabelOptions(**options)), folder)


def test_a_capture_with_trailers_is_recognised_and_labelled(tmp_path):
    report = built(phone(tmp_path / "phone.pcap"), tmp_path / "d")
    assert report.dataset.info["apps"] == {"chat": 1, "mail": 1}
    (source,) = report.dataset.info["sources"]
    assert source["labels"] == "pcapdroid"
    assert source["dropped"] == {"no app known": 1}
    assert source["bad_fcs"] == 0


def test_system_uids_are_system_and_two_owners_in_one_flow_are_dropped(tmp_path):
    path = phone(tmp_path / "phone.pcap", (b"netd", b"Mail"), (1051, 10124))
    assert built(path, tmp_path / "d").dataset.info["apps"] == {"mail": 1, "system": 1}
    packets = [
        (time, with_trailer(ip, 10001 + i % 2, b"ab"[i % 2 : i % 2 + 1]))
        for i, (time, ip) in enumerate(ip_packets())
    ]
    (tmp_path / "two.pcap").write_bytes(pcap_bytes(packets))
    report = built(tmp_path / "two.pcap", tmp_path / "e")
    assert report.dataset.info["dropped"] == {"two apps in one flow": 1}


def test_the_trailer_never_reaches_payload_or_image(tmp_path):
    """The same packets under two names, and without any: the same segments, the same pictures."""
    pictures, payloads = [], []
    for i, names in enumerate([(b"Chat", b"Mail"), (b"ZZZZZZZZZZZZZZZZZZZ", b"YYYYYYYYYY")]):
        path = phone(tmp_path / f"{i}.pcap", names)
        flows = read_flows(path, annotate=TrailerReader()).to_flows()
        pictures.append(images(flows))
        payloads.append(flows.column("segment_bytes").to_pylist())
    assert np.array_equal(pictures[0], pictures[1])
    assert payloads[0] == payloads[1]
    assert [blob for flow in payloads[0] for blob in flow].count(b"hello there") == 3


def test_no_byte_of_a_trailer_reaches_the_images_of_a_dataset_whose_labels_differ(tmp_path):
    """Labels by folder against trailers that say otherwise, against the same packets without any."""
    path = phone(tmp_path / "bank.pcap", (b"Chat", b"Secretmail"))
    trailed = built(path, tmp_path / "d", kind="folders").dataset
    assert trailed.info["apps"] == {"bank": 2}
    plain = tmp_path / "plain" / "bank.pcap"
    plain.parent.mkdir()
    packets = [(t + i, ip) for i in range(2) for t, ip in ip_packets((CLIENT[0], 41000 + i))]
    plain.write_bytes(pcap_bytes(sorted(packets), link_type=101))
    bare = built(plain, tmp_path / "e", kind="folders").dataset
    one, other = trailed.read(), bare.read()
    assert np.array_equal(images(one), images(other))
    blobs = b"".join(blob for flow in one.column("segment_bytes").to_pylist() for blob in flow)
    assert one.column("segment_bytes").equals(other.column("segment_bytes"))
    assert b"Secretmail" not in blobs
    assert b"\x01\x07\x20\x21" not in blobs


def test_a_list_of_another_phone_gives_no_packages(tmp_path):
    (tmp_path / "p").mkdir()
    path = phone(tmp_path / "p" / "phone.pcap")
    (tmp_path / "p" / "other.csv").write_text(
        "IPProto,SrcIP,SrcPort,DstIp,DstPort,UID,App,PackageName,Proto,Status,Info,BytesSent,BytesRcvd,"
        "PktsSent,PktsRcvd,FirstSeen,LastSeen\n"
        "6,10.215.173.1,41000,192.0.2.7,443,10123,Maps,org.example.maps,TLS,Closed,,1,1,1,1,"
        "2023-11-14T22:13:20.000Z,2023-11-14T22:13:21.000Z\n"
        "6,10.215.173.1,41000,192.0.2.7,443,10124,Mail,org.example.mail,TLS,Closed,,1,1,1,1,"
        "2023-11-14T22:13:20.000Z,2023-11-14T22:13:21.000Z\n"
    )
    assert built(path, tmp_path / "d").dataset.info["apps"] == {"chat": 1, "org.example.mail": 1}


def test_packages_of_the_list_beside_the_capture_win(tmp_path):
    (tmp_path / "p").mkdir()
    path = phone(tmp_path / "p" / "phone.pcap")
    (tmp_path / "p" / "phone.csv").write_text(
        "IPProto,SrcIP,SrcPort,DstIp,DstPort,UID,App,PackageName,Proto,Status,Info,BytesSent,BytesRcvd,"
        "PktsSent,PktsRcvd,FirstSeen,LastSeen\n"
        "6,10.215.173.1,41000,192.0.2.7,443,10123,Chat,org.example.chat,TLS,Closed,,1,1,1,1,"
        "2023-11-14T22:13:20.000Z,2023-11-14T22:13:21.000Z\n"
    )
    assert built(path, tmp_path / "d").dataset.info["apps"] == {"mail": 1, "org.example.chat": 1}
    renamed = built(path, tmp_path / "e", rename={"org.example.chat": "chat"})
    assert renamed.dataset.info["apps"] == {"chat": 1, "mail": 1}


def test_the_sample_capture_gives_the_labels_of_its_list(tmp_path):
    folder = Path(pcapdroid.__file__).parents[2] / "samples" / "pcapdroid"
    if not (folder / "phone.pcap").is_file():
        pytest.skip("the sample is not built")
    by_trailer = built(folder, tmp_path / "a").dataset
    by_list = built(folder, tmp_path / "b", kind="pcapdroid-csv").dataset
    assert by_trailer.info["apps"] == by_list.info["apps"]
    assert len(by_list.apps) >= 6
    assert by_list.info["sources"][0]["joinable_share"] == 1.0
