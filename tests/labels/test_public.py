import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apptell.dataset import build
from apptell.errors import LabelError
from apptell.flows import FlowOptions
from apptell.flows.schema import GROUPS
from apptell.labels import LabelOptions, sources
from apptell.labels.nudt import ALIASES, read_app_list, read_users
from apptell.labels.public import PublicSource
from apptell.labels.source import flow_reader
from apptell.testing import START_NS, conversation, write_pcap


def built(path, folder, **options):
    reader = flow_reader(FlowOptions(groups=tuple(GROUPS)))
    return build(sources([path], reader, LabelOptions(**options)), folder)


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


def biflow(**changes):
    packets = {
        "L4_payload_bytes": [0, 517, 0, 1400, 90],
        "packet_dir": [0, 0, 1, 1, 0],
        "iat": [0.0, 0.1, 0.05, 0.05, 0.2],
        "timestamp": [1700000000.0, 0, 0, 0, 0],
    }
    return {"packet_data": {**packets, **changes}, "flow_metadata": {"BF_label": "com.Example"}}


def test_mirage_becomes_flows_of_lengths_and_gaps(tmp_path):
    path = tmp_path / "m.json"
    activity = biflow()
    activity["flow_metadata"]["BF_activity"] = "Video Call"
    path.write_text(json.dumps({"a,1,b,2,6": biflow(), "a,2,b,2,6": activity}))
    flows = built(path, tmp_path / "d").dataset.read()
    assert flows[0].sequence_length == [517, -1400, 90]
    assert flows[0].sequence_gap_us == [0, 100_000, 200_000]
    assert flows[0].start_ns == START_NS
    assert flows.column("label").to_pylist() == ["com.example", "com.example/video call"]


@pytest.mark.parametrize(
    "bad", ["{", "[]", '{"x": 1}', json.dumps({"a": biflow(iat=[0.0])}), json.dumps({"a": {}})]
)
def test_spoiled_mirage_is_said_in_one_line(tmp_path, bad):
    path = tmp_path / "m.json"
    path.write_text(bad)
    with pytest.raises(LabelError, match="not MIRAGE's JSON"):
        list(PublicSource(path, "m", "mirage").flows())


def nudt(folder, delimiter):
    day = folder / "outer" / "7" / "20210514"
    day.mkdir(parents=True)
    talk = [(True, b"hello"), (False, b"there")]
    ports = (40001, 40002, 40003)
    packets = [
        p for port in ports for p in conversation(("10.0.0.2", port), ("192.0.2.1", 443), talk)
    ]
    write_pcap(day / "netlog20210514_10_00_00.pcap", sorted(packets))
    names = ("微信", "猎豹安全", "微信")
    rows = [
        delimiter.join(
            (str(START_NS // 10**6), name, "TCP", "10.0.0.2", str(port), "192.0.2.1", "443")
        )
        for name, port in zip(names, ports, strict=True)
    ]
    (day / "netlog20210514_10_00_00.txt").write_text("\n".join(rows[:2]) + "\nrubbish\n")
    (day / "netlog20210514_11_00_00.txt").write_text(rows[2] + "\n")  # another log of the day
    (folder / "APPList.csv").write_text(
        "id,Chinese name,English name,category\n1,微信,WeChat,chat\n142,CM Security,CM Security,tool\n"
    )
    (folder / "userinfo.csv").write_text("user_id,brand,model,Android version\n7,Acme,X1,9\n")
    return folder


@pytest.mark.parametrize("delimiter", ["\t", ",", ";", "|", " "])
def test_nudts_folder_with_any_delimiter(tmp_path, delimiter):
    data = built(nudt(tmp_path / "n", delimiter), tmp_path / "d").dataset
    assert data.info["apps"] == {"cm security": 1, "wechat": 2}
    assert {name: list(values) for name, values in data.info["groups"].items()} == {
        "brand": ["Acme"], "day": ["20210514"], "device": ["Acme X1"], "source": ["7"], "user": ["7"],
        "version": ["9"],
    }  # fmt: skip
    assert data.info["sources"][0]["bad_log_lines"] == 1


def test_nudts_lists_in_the_other_encoding_and_without_names(tmp_path):
    path = tmp_path / "APPList.csv"
    path.write_bytes("no,a,b\n1,微信,WeChat\n".encode("gb18030"))
    assert read_app_list(path)["微信"] == "wechat"
    assert len(ALIASES) == 6
    path.write_text("no,a,b\n1,x,y\n")
    with pytest.raises(LabelError, match="no column of Chinese names"):
        read_app_list(path)
    (tmp_path / "u.csv").write_text("")
    assert read_users(tmp_path / "u.csv") == {}


def test_lengths_and_gaps_of_a_damaged_parquet_are_refused(tmp_path):
    path = fgnet(tmp_path / "x.parquet", 1000)
    raw = bytearray(path.read_bytes())
    raw[20:60] = bytes(np.random.default_rng(0).integers(0, 256, 40, dtype=np.uint8))
    path.write_bytes(raw)
    with pytest.raises(LabelError, match="not FG-Net's Parquet"):
        built(path, tmp_path / "d")
