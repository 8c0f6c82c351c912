import json
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apptell.dataset import build
from apptell.errors import LabelError
from apptell.flows import FlowOptions
from apptell.flows.schema import GROUPS
from apptell.labels import CaptureFlows, LabelOptions, LabelSearch
from apptell.labels.formats import nudt as nudt_format
from apptell.labels.formats.mirage import is_mirage, read_mirage
from apptell.labels.formats.nudt import read_app_list, read_users
from apptell.labels.sequences import SequenceFile
from apptell.testing import START_NS, conversation, write_pcap


def built(path, folder, **options):
    reader = CaptureFlows(FlowOptions(groups=tuple(GROUPS)))
    return build(LabelSearch([path], reader, LabelOptions(**options)), folder)


def fgnet(path, n=3):
    table = {
        "period": ["D1"] * n,
        "app": ["Org.Example"] * n,
        "app_version": ["1.0"] * n,
        "session": [str(i) for i in range(n)],
        "start_ns": [START_NS + i for i in range(n)],
        "packet_length": pa.array([[100, -200, -300]] * (n - 1) + [[5]], pa.list_(pa.int16())),
        "gap_us": pa.array([[0, 10, 20]] * (n - 1) + [[0]], pa.list_(pa.int32())),
    }
    pq.write_table(pa.table(table), path)
    return path


def test_fgnet_becomes_flows_of_lengths_and_gaps(tmp_path):
    data = built(fgnet(tmp_path / "month-0.parquet"), tmp_path / "d").dataset
    flows = data.read()
    assert data.info["dropped"] == {"fewer than two payload packets": 1}
    flow = flows[0]
    assert (flow.label, flow.label_from, flow.sequence_length) == (
        "org.example",
        "fgnet",
        [100, -200, -300],
    )
    assert flow.sequence_gap_us == [0, 10, 20]
    assert dict(flow.groups) == {"session": "org.example/0", "version": "1.0", "period": "D1"}
    assert (flow.payload_packets_to_server, flow.payload_bytes_to_client) == (1, 500)
    assert flow.end_ns - flow.start_ns == 30_000
    assert len(set(flows.column("connection_id").to_pylist())) == 2


NAME_2019 = "1494419517_com.twitter.android_MIRAGE-2019_traffic_dataset_labeled_biflows.json"
NAME_2022 = (
    "1619005750_1e:65:95:7e:34:0b_com.microsoft.teams_mirage2020dataset_labeled_biflows_all_packets_"
    "encryption_metadata.json"
)
KEY = "192.168.20.101,51221,216.58.205.42,443,6"


def biflow(**changes):
    """A biflow as MIRAGE-2019 has it: no times but the gaps, payload as lists of numbers."""
    packets = {
        "src_port": [51221, 51221, 443, 443, 51221],
        "dst_port": [443, 443, 51221, 51221, 443],
        "packet_dir": [0, 0, 1, 1, 0],
        "L4_payload_bytes": [0, 517, 0, 1400, 90],
        "iat": [0.0, 0.1, 0.05, 0.05, 0.2],
        "TCP_win_size": [1544, 725, 725, 725, 725],
        "L4_raw_payload": [[], [22, 3, 1], [], [22, 3, 3], [23, 3, 3]],
    }
    return {
        "packet_data": {**packets, **changes},
        "flow_features": {"packet_length": {"biflow": {"min": 52.0, "max": 1420.0}}},
        "flow_metadata": {
            "BF_label": "com.Twitter.android",
            "BF_labeling_type": "exact",
            "BF_num_packets": 5.0,
            "BF_L4_payload_bytes": 2007.0,
            "BF_duration": 0.4,
        },
    }


def biflow_2022(**facts):
    """A biflow as MIRAGE-COVID-CCMA-2022 has it: times, activity, device, version."""
    found = biflow(
        timestamp=[1700000000.0, 1700000000.1, 1700000000.15, 1700000000.2, 1700000000.4]
    )
    found["flow_metadata"] |= {
        "BF_activity": "Video Call",
        "BF_device": "1e:65:95:7e:34:0b",
        "BF_label_version_name": "1416/1.0.0",
        **facts,
    }
    return found


def test_mirage_2019_becomes_flows_of_lengths_gaps_and_addresses(tmp_path):
    folder = tmp_path / "Xiaomi_Mi5"
    folder.mkdir()
    udp = biflow()
    udp["flow_metadata"]["BF_labeling_type"] = "most-common"
    unknown = biflow()
    unknown["flow_metadata"]["BF_label"] = "Unknown"
    content = {KEY: biflow(), KEY[:-1] + "17": udp, KEY.replace("51221", "51222"): unknown}
    (folder / NAME_2019).write_text(json.dumps(content))
    data = built(tmp_path, tmp_path / "d", groups={"network": "lab"}).dataset
    assert data.info["dropped"] == {"no app known": 1}
    flow, other = data.read()
    assert (flow.label, flow.label_from) == ("com.twitter.android", "mirage")
    assert flow.sequence_length == [517, -1400, 90]
    assert flow.sequence_gap_us == [0, 100_000, 200_000]
    assert flow.start_ns == 1_494_419_517 * 10**9  # from the file's name
    assert (flow.client_address, flow.client_port) == ("192.168.20.101", 51221)
    assert (flow.server_address, flow.server_port) == ("216.58.205.42", 443)
    assert (flow.protocol, other.protocol) == (6, 17)
    assert dict(flow.groups) == {
        "session": NAME_2019.removesuffix(".json"),
        "device": "Xiaomi_Mi5",
        "labelling": "exact",
        "network": "lab",
    }
    assert dict(other.groups)["labelling"] == "most-common"


def test_mirage_2022_has_times_activities_devices_and_versions(tmp_path):
    content = {
        KEY: biflow_2022(),
        KEY.replace("20.101", "20.102"): biflow_2022(BF_device=None, BF_label_version_name=""),
    }
    (tmp_path / NAME_2022).write_text(json.dumps(content))
    rename = {"com.twitter.android/video call": "twitter/call"}
    first, second = built(tmp_path / NAME_2022, tmp_path / "d", rename=rename).dataset.read()
    assert first.start_ns == START_NS
    assert first.label == "twitter/call"
    assert dict(first.groups)["version"] == "1416/1.0.0"
    assert "version" not in dict(second.groups)
    assert dict(second.groups)["device"] == "1e:65:95:7e:34:0b"  # from the file's name


def test_mirage_is_told_by_its_beginning_whichever_part_comes_first(tmp_path):
    for key in ("packet_data", "flow_features", "flow_metadata"):
        assert is_mirage(json.dumps({KEY: {key: {}}}))
    assert not is_mirage('{"ts": 1, "id.orig_h": "x"}')


@pytest.mark.parametrize(
    "bad",
    [
        "{",
        "[]",
        '{"x": 1}',
        json.dumps({KEY: biflow(iat=[0.0])}),
        json.dumps({KEY: {}}),
        json.dumps({"a,b": biflow()}),
    ],
)
def test_spoiled_mirage_is_said_in_one_line(tmp_path, bad):
    path = tmp_path / "m.json"
    path.write_text(bad)
    with pytest.raises(
        LabelError, match=r"not MIRAGE's JSON|none of its 1 records is in the format mirage"
    ):
        list(SequenceFile(path, "m", "mirage", read_mirage).flows())


PORTS = range(40_001, 40_008)
NAMES = ("微信", "猎豹安全(CM)", "【Dropbox】", "贪吃蛇®", "宾果消消-消", "QQ", "没有的")


def nudt(folder, delimiter, stamp=lambda port: str(START_NS // 10**6), *, head=True):
    """The data set's folder by its authors' description, two users, IPv4 and IPv6 beside each other."""
    talk = [(True, b"hello"), (False, b"there")]
    for user, host in (("7", 7), ("12", 12)):
        day = folder / "data1" / user / "20210514"
        day.mkdir(parents=True)
        packets = [
            p
            for port in PORTS
            for p in conversation((f"10.0.0.{host}", port), ("192.0.2.1", 443), talk)
        ]
        write_pcap(day / "netlog20210514_10_00_00.pcap", sorted(packets))
        six = conversation((f"2001:db8::{host}", 50_001), ("2001:db8::1", 443), talk)
        write_pcap(day / "netlog20210514_10_00_00_ipv6.pcap", sorted(six))
        ends = [(f"10.0.0.{host}", str(port), "192.0.2.1", "443") for port in PORTS]
        ends.append((f"2001:DB8:0::{host}", "50001", "2001:db8::1", "443"))
        rows = [
            delimiter.join((stamp(at), name, "TCP", *end))
            for at, (name, end) in enumerate(zip((*NAMES, "微信"), ends, strict=True))
        ]
        (day / "netlog20210514_10_00_00.txt").write_text("\n".join(rows[:4]) + "\nrubbish\n")
        (day / "netlog20210514_10_07_31.txt").write_text("\n".join(rows[4:]) + "\n")
    titles = "No.,App(Chinese),App(English),Category(Chinese),Category(English),Description\n"
    rows = [
        "1,微信,WeChat,聊天,Chat,一个聊天的应用",
        "83,多宝箱,Dropbox,工具,Tool,把文件放在网上的应用",
        "142,CM安全大师,CM Security,工具,Tool,手机的安全应用",
        "9,QQ,QQ,聊天,Chat,另一个聊天的应用",
    ]
    (folder / "APPList.csv").write_text((titles if head else "") + "\n".join(rows) + "\n")
    users = "user_id,Phone brand,Phone model,Android OS version\n7,Acme,X1,9\n12,Bolt,Z,10\n"
    (folder / "userinfo.csv").write_text(users)
    return folder


@pytest.mark.parametrize("delimiter", ["\t", ",", ";", "|", " "])
def test_nudts_folder_with_any_delimiter(tmp_path, delimiter):
    data = built(nudt(tmp_path / "n", delimiter), tmp_path / "d", groups={"network": "x"}).dataset
    assert data.info["apps"] == {
        "bingo xiaoxiaoxiao": 2, "cm security": 2, "dropbox": 2, "qq": 2, "snake": 2, "wechat": 4,
        "没有的": 2,
    }  # fmt: skip
    assert {name: list(values) for name, values in data.info["groups"].items()} == {
        "brand": ["Acme", "Bolt"], "day": ["20210514"], "device": ["Acme X1", "Bolt Z"],
        "network": ["x"], "source": ["12", "7"], "user": ["12", "7"], "version": ["10", "9"],
    }  # fmt: skip
    assert len(data.info["sources"]) == 4
    assert data.info["sources"][0]["bad_log_lines"] == 1
    assert all(source["joinable_share"] == 1 for source in data.info["sources"])


@pytest.mark.parametrize("delimiter", [",", " "])
def test_nudts_times_may_be_dates_in_the_phones_zone(tmp_path, delimiter):
    """The clock offset finds the zone; --zone names it; one user's folder is enough."""

    def stamp(at):
        return f"2023-11-15 06:13:{20 + at % 2}"  # UTC+8

    folder = nudt(tmp_path / "n", delimiter, stamp)
    found = built(folder / "data1" / "7", tmp_path / "d").dataset
    assert sum(found.info["apps"].values()) == 8
    assert found.info["sources"][0]["clock_offset_s"] == pytest.approx(8 * 3600, abs=2)
    zone = ZoneInfo("Asia/Shanghai")
    said = built(folder / "data1" / "7", tmp_path / "e", zone=zone).dataset
    assert said.info["apps"] == found.info["apps"]
    assert said.info["sources"][0]["clock_offset_s"] == pytest.approx(0, abs=2)


def test_nudts_lists_in_the_other_encoding_and_without_heads(tmp_path):
    path = tmp_path / "APPList.csv"
    rows = "no,a,b,c,d,e\n1,微信,WeChat,聊天,Chat,很长的一段话\n2,美团,Meituan,聊天,Chat,又一段很长的话\n"
    path.write_bytes(rows.encode("gb18030"))
    assert read_app_list(path) == {
        "微信": "wechat", "wechat": "wechat", "美团": "meituan", "meituan": "meituan",
    }  # fmt: skip
    path.write_text("no,a,b\n1,x,y\n")
    with pytest.raises(LabelError, match="no column of Chinese names"):
        read_app_list(path)
    (tmp_path / "u.csv").write_text("")
    assert read_users(tmp_path / "u.csv") == {}


def test_a_days_logs_are_read_once_and_a_day_without_any_is_said(tmp_path, monkeypatch):
    folder = nudt(tmp_path / "n", ",")
    read = []
    real = nudt_format.read_nudt_log
    monkeypatch.setattr(
        nudt_format,
        "read_nudt_log",
        lambda path, *rest: (read.append(path.name), real(path, *rest)),
    )
    built(folder, tmp_path / "d")
    assert len(read) == 4  # two days of two logs, two captures each
    for log in folder.rglob("*.txt"):
        log.unlink()
    with pytest.raises(LabelError, match="no nudt log"):
        built(folder, tmp_path / "e")


def test_lengths_and_gaps_of_a_damaged_parquet_are_refused(tmp_path):
    path = fgnet(tmp_path / "x.parquet", 1000)
    raw = bytearray(path.read_bytes())
    raw[20:60] = bytes(np.random.default_rng(0).integers(0, 256, 40, dtype=np.uint8))
    path.write_bytes(raw)
    with pytest.raises(LabelError, match="not FG-Net's Parquet"):
        built(path, tmp_path / "d")
