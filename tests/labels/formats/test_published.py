"""Public datasets are read in the layouts in which they are published, with the commands of their pages."""

import gzip
import re
import shlex
from pathlib import Path

import pytest

from apptell.cli.labelling import pattern_of
from apptell.dataset import Dataset, build
from apptell.errors import LabelError
from apptell.flows import FlowOptions
from apptell.flows.schema import GROUPS
from apptell.labels import CaptureFlows, LabelOptions, LabelSearch
from apptell.labels.sequences import MALFORMED
from apptell.testing import conversation, write_pcap
from tests.cli.in_process import run_here
from tests.labels.formats.published import (
    FIRST,
    ISCX_NAMES,
    PHONE,
    QUIC22,
    RESOLVER,
    SERVER,
    TLS_YEAR22,
    cesnet_csv,
    cesnet_database,
    cesnet_quic22,
    cesnet_row,
    utmobilenet,
)

PAGES = Path(__file__).parents[3] / "docs/reference/datasets"


def talk(word):
    """A conversation of its own, because a capture whose content is in the dataset already adds nothing."""
    messages = [(True, f"hello {word}".encode()), (False, b"there")]
    return conversation(("192.168.137.5", 40_001), ("192.0.2.1", 443), messages)


def built(path, folder, **options):
    reader = CaptureFlows(FlowOptions(groups=tuple(GROUPS)))
    return build(LabelSearch([path], reader, LabelOptions(**options)), folder).dataset


def command(page, verb="dataset build"):
    """The first command of a page with a verb, without the program's name."""
    lines = (PAGES / page).read_text("utf-8").replace("\\\n", " ").splitlines()
    return shlex.split(next(x for x in lines if x.startswith(f"    apptell {verb} ")))[1:]


def test_cesnet_quic22_as_its_archive_is_unpacked(tmp_path):
    data = built(cesnet_quic22(tmp_path / "in"), tmp_path / "d", groups={"network": "cesnet2"})
    flow, other = data.read()
    assert data.info["dropped"] == {"fewer than two payload packets": 1}
    assert (flow.label, flow.label_from, other.label) == ("zoom", "cesnet", "other")
    assert flow.sequence_length == [1250, -1200, 80, -900]
    assert flow.sequence_gap_us == [0, 20_000, 5_000, 7_000]
    assert (flow.client_address, flow.client_port) == ("10.0.0.1", 50123)
    assert (flow.server_address, flow.server_port, flow.protocol) == ("198.51.100.7", 443, 17)
    assert flow.start_ns == 1_667_204_130_250_000_000  # 2022-10-31 08:15:30.25 UTC
    assert flow.server_name is None  # the labels were made from it
    assert dict(flow.groups) == {
        "day": "20221031",
        "category": "Videoconferencing",
        "network": "cesnet2",
    }


def test_cesnet_tls_year22_has_no_ports_of_clients_and_a_fourth_list(tmp_path):
    pushes = [1, 1, 0, 1]
    ppi = ([0, 0, 9, 1], [1, -1, 1, 1], [517, 146, 0, 51], pushes)
    rows = [cesnet_row(TLS_YEAR22, app="the-weather-channel", ppi=ppi)]
    path = tmp_path / "flows-20220101.csv"
    path.write_bytes(cesnet_csv(TLS_YEAR22, rows))
    (flow,) = built(path, tmp_path / "d").read()
    assert (flow.label, flow.client_port, flow.server_port) == ("the-weather-channel", None, 443)
    assert (flow.sequence_length, flow.sequence_gap_us) == ([517, -146, 51], [0, 0, 10_000])


@pytest.mark.parametrize(
    "ppi",
    [
        "[[0], [1], [1, 2]]",
        "[[0, -1], [1, 1], [5, 5]]",
        "[[0, 1], [1, 2], [5, 5]]",
        "[[0, 1], [1, 1], [5, -5]]",
        "[[0, 1]]",
        "[" * 5000,
        "x",
        "",
    ],
)
def test_a_row_of_cesnet_that_is_none_costs_that_row(tmp_path, ppi):
    bad = cesnet_row(QUIC22)
    bad[QUIC22.index("PPI")] = ppi
    path = tmp_path / "flows-20221031.csv"
    path.write_bytes(cesnet_csv(QUIC22, [bad, cesnet_row(QUIC22), ["1", "2"]]))
    data = built(path, tmp_path / "d")
    assert len(data) == 1
    assert data.info["dropped"] == {MALFORMED: 2}


def test_damaged_days_of_cesnet_are_said_in_one_line(tmp_path):
    path = tmp_path / "flows-20221031.csv.gz"
    path.write_bytes(b"\x1f\x8b no gzip")
    for kind in (None, "cesnet"):
        with pytest.raises(LabelError, match=r"flows-20221031\.csv\.gz: not a "):
            built(path, tmp_path / "d", kind=kind)
    lacking = tmp_path / "flows-20221101.csv.gz"
    lacking.write_bytes(gzip.compress(b"ID,APP\n1,zoom\n"))
    with pytest.raises(LabelError, match="no column 'PPI'"):
        built(lacking, tmp_path / "d", kind="cesnet")


def test_the_database_of_datazoo_has_days_and_words(tmp_path):
    pytest.importorskip("h5py", reason="HDF5 needs the extra hdf5")
    data = built(cesnet_database(tmp_path / "CESNET-TLS22-XS.h5"), tmp_path / "d")
    assert data.info["apps"] == {"other": 2, "zoom": 2}
    assert set(data.info["groups"]["day"]) == {"20211004", "20211005"}
    flow = data.read()[0]
    assert flow.sequence_length == [1250, -1200, 80, -900]  # padding is left out
    assert flow.sequence_gap_us == [0, 20_000, 5_000, 7_000]
    assert flow.start_ns == 1_633_305_600_000_000_000  # 2021-10-04
    assert len(set(data.read().column("connection_id").to_pylist())) == 4


def test_a_damaged_database_is_said_in_one_line(tmp_path):
    h5py = pytest.importorskip("h5py", reason="HDF5 needs the extra hdf5")
    path = cesnet_database(tmp_path / "x.h5")
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(LabelError, match=r"x\.h5: not a database of CESNET's flows"):
        built(path, tmp_path / "d")
    with h5py.File(path, "w") as file:
        file["other"] = [1]
    with pytest.raises(LabelError, match="no tables /flows/DYYYYMMDD"):
        built(path, tmp_path / "d")


def test_utmobilenets_packets_become_flows(tmp_path):
    data = built(utmobilenet(tmp_path / "UTMobileNet2021"), tmp_path / "d")
    assert data.info["apps"] == {"dropbox/download": 3, "google-maps/explore": 3}
    assert data.info["dropped"] == {MALFORMED: 2}
    flows = list(data.read())
    first, dns, later = (flow for flow in flows if flow.label == "dropbox/download")
    assert (first.client_address, first.client_port) == (PHONE, 59576)
    assert (first.server_address, first.server_port, first.protocol) == (SERVER, 443, 6)
    assert first.sequence_length == [818, -482, -34]  # the retransmission and the ACK are left out
    assert first.sequence_gap_us == [0, 150_000, 10_000]
    assert first.start_ns == int(FIRST.timestamp()) * 10**9 + 184_823_000
    assert (dns.server_address, dns.sequence_length) == (RESOLVER, [36, -82])
    assert later.sequence_length == [700, -500]  # after 90 s of silence
    assert dict(first.groups) == {
        "session": "dropbox_man-download_2019-04-30_19-07-09_4fd1c357",
        "partition": "Action-Specific Wild Test Data",
        "source": "Action-Specific Wild Test Data",
        "day": "2019-04-30",
        "device": "4fd1c357",
        "location": "EER",
    }


def test_the_partitions_of_utmobilenet_are_sides_of_a_split(tmp_path):
    data = built(utmobilenet(tmp_path / "UTMobileNet2021"), tmp_path / "d")
    sides = [
        {dict(flow.groups)["partition"] for flow in side.flows}
        for side in data.split("group:partition")
    ]
    assert sorted(map(len, sides)) == [1, 1]
    assert not sides[0] & sides[1]


def test_the_pattern_of_the_page_fits_every_capture_of_iscx():
    words = command("iscx.md")
    pattern = pattern_of(words[words.index("--pattern") + 1])
    found = {name: pattern.fullmatch(name) for name in ISCX_NAMES}
    assert [name for name, match in found.items() if match is None] == []
    apps = {match["app"].lower() for match in found.values()}
    assert apps == {
        "aim", "email", "facebook", "ftps", "gmail", "google", "hangout", "icq",
        "netflix", "scp", "sftp", "skype", "spotify", "torrent", "twitter", "vimeo", "voipbuster", "youtube",
    }  # fmt: skip
    said = {name: match.groupdict() for name, match in found.items()}
    assert said["vpn_skype_files1a"] == {
        "encapsulation": "vpn", "app": "skype", "activity": "file", "session": "files1",
    }  # fmt: skip
    assert (
        said["skype_chat1a"]["session"] == said["skype_chat1b"]["session"]
    )  # both ends of one chat
    assert said["torVimeo1"]["encapsulation"] == "tor"
    assert said["youtubeHTML5_1"]["app"] == "youtube"


def test_iscx_is_built_by_the_command_of_its_page(tmp_path, monkeypatch):
    for name in ("NonVPN/skype_chat1a.pcap", "NonVPN/hangout_chat_4b.pcap", "VPN/vpn_ftps_A.pcap"):
        path = tmp_path / "ISCX" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_pcap(path, talk(name))
    monkeypatch.chdir(tmp_path)
    assert run_here(monkeypatch, *command("iscx.md"))[0] == 0
    data = Dataset.open("iscx-dataset")
    assert data.info["apps"] == {"ftps": 1, "hangout/chat": 1, "skype/chat": 1}
    assert data.info["groups"]["encapsulation"] == {"vpn": 1}


def test_itc_net_blend_60_is_built_by_the_command_of_its_page(tmp_path, monkeypatch):
    for scenario in "AB":
        for run_of in (1, 2):
            name = f"Scenario_{scenario}/WhatsApp Messenger/WhatsApp Messenger_{scenario}_{run_of}_Final.pcap"
            path = tmp_path / "ITC-Net-Blend-60" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_pcap(path, talk(name))
    monkeypatch.chdir(tmp_path)
    assert run_here(monkeypatch, *command("itc-net-blend-60.md"))[0] == 0
    data = Dataset.open("itc-dataset")
    assert data.info["apps"] == {"whatsapp messenger": 4}
    assert data.info["groups"]["scenario"] == {"A": 2, "B": 2}
    assert len(data.info["groups"]["session"]) == 4


@pytest.mark.parametrize(
    ("page", "folder", "make"),
    [("cesnet.md", "cesnet-quic22", cesnet_quic22), ("utmobilenet.md", "csvs", utmobilenet)],
)
def test_the_commands_of_the_pages_run(tmp_path, monkeypatch, page, folder, make):
    make(tmp_path)
    words = command(page)
    assert folder in words[2]
    monkeypatch.chdir(tmp_path)
    assert run_here(monkeypatch, *words)[0] == 0


def test_every_page_says_where_the_data_is_and_under_which_terms():
    for page in ("mirage", "utmobilenet", "itc-net-blend-60", "cesnet", "iscx", "nudt"):
        text = (PAGES / f"{page}.md").read_text("utf-8")
        for part in ("**Licence**", "**Get it**", "**A fair figure.**"):
            assert part in text, (page, part)
        assert re.search(r"    apptell (compare|train) \S+ .*--split", text), page
