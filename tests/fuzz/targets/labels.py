"""Label logs of every format: lines, fields and JSON values are spoiled as well as bytes."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from apptell.labels.formats.cesnet import read_day
from apptell.labels.formats.fgnet import read_fgnet
from apptell.labels.formats.mirage import read_mirage
from apptell.labels.formats.nudt import APP_LIST, USER_INFO, Nudt, read_users
from apptell.labels.formats.utmobilenet import read_utmobilenet
from apptell.labels.log_files import LogFiles
from apptell.labels.options import LabelOptions
from apptell.labels.registry import formats
from apptell.labels.sequences import SequenceFile
from apptell.testing import START_NS
from tests.fuzz.mutators import spoil
from tests.fuzz.target import Files, Target
from tests.labels.formats.published import QUIC22, cesnet_csv, cesnet_row, utmobilenet_csv

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence
    from pathlib import Path

MS = START_NS // 1_000_000
ENDS = "10.0.0.2,40001,192.0.2.1,443"
LIST_HEAD = (
    "IPProto,SrcIP,SrcPort,DstIp,DstPort,UID,App,PackageName,Proto,Status,Info,BytesSent,BytesRcvd,"
    "PktsSent,PktsRcvd,FirstSeen,LastSeen"
)
ISO = "2023-11-14T22:13:20.000+01:00"
EXPORT_HEAD = (
    "Timestamp,AppName,AppPackage,AppUid,In interface,Out interface,Source,Source Port,Destination,"
    "Destination Port,Length"
)
COLUMNS = {name: name for name in ("time", "source", "source_port", "target", "target_port", "app")}
VALUES = (
    "", "-1", "²", "٤٤٣", "256", "70000", "9223372036854775808", "1e9999999", "1e-9999999", "nan", "inf",
    "null", '"', "\x00", "\ud83d", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59+14:00",
    "::1%eth0", "1" * 5000,
)  # fmt: skip
"""Fields that went wrong, or might."""
DEEP = ("[" * 100_000, '{"a":' * 50_000)


def _mirage() -> bytes:
    packets = {
        "L4_payload_bytes": [0, 517, 1400, 90],
        "packet_dir": [0, 0, 1, 0],
        "iat": [0.0, 0.1, 0.05, 0.2],
        "timestamp": [1.7e9, 1.7e9, 1.7e9, 1.7e9],
    }
    facts = {
        "BF_label": "Chat",
        "BF_activity": "call",
        "BF_device": "a",
        "BF_label_version_name": "1",
    }
    key = "192.168.20.101,51221,216.58.205.42,443,6"
    return json.dumps({key: {"packet_data": packets, "flow_metadata": facts}}).encode()


def _fgnet() -> bytes:
    table = {
        "period": ["D1"] * 3,
        "app": ["Org.Example"] * 3,
        "app_version": ["1.0"] * 3,
        "session": ["1", "2", "3"],
        "start_ns": [START_NS + i for i in range(3)],
        "packet_length": pa.array([[100, -200], [5], []], pa.list_(pa.int16())),
        "gap_us": pa.array([[0, 10], [0], []], pa.list_(pa.int32())),
    }
    out = io.BytesIO()
    pq.write_table(pa.table(table), out)
    return out.getvalue()


PUBLISHED: dict[str, tuple[Any, str]] = {
    "fgnet": (read_fgnet, "x.parquet"),
    "mirage": (read_mirage, "x.json"),
    "cesnet": (read_day, "flows-20221031.csv"),
    "utmobilenet": (read_utmobilenet, "x.csv"),
}


class Labels(Target):
    """A log, or a file of a public data set; the name of the file says which."""

    name: ClassVar[str] = "labels"

    def seeds(self) -> dict[str, Files]:
        """One good file of each format."""
        lines = {
            "pcapdroid-csv": (
                LIST_HEAD,
                *(f"6,{ENDS},{uid},A, B,org.a,TLS,Closed,x,y,1,2,3,4,{ISO},{ISO}" for uid in (10123, 1000, -1)),
            ),
            "networklog": (
                *(f"{MS},wlan0,null,{uid},{ENDS},60,TCP" for uid in (10123, 1000)),
                f"{MS},,wlan0,-1,{ENDS},60",
            ),
            "networklog-export": (
                EXPORT_HEAD,
                f'2023-11-14 23:13:20.000,"Chat, the app",org.chat,10123,wlan0,,{ENDS},60',
                f"2023-11-14 23:13:20.000,Uninstalled App,,10999,wlan0,,{ENDS},60",
            ),
            "table": (",".join(COLUMNS), f"{MS},{ENDS},Chat/Call", f"{ISO},{ENDS},mail"),
            "table-json": (
                json.dumps(dict(zip(COLUMNS, (1.7e9, "10.0.0.2", 1, "::1", 2, "chat"), strict=True))),
            ) * 2,
            "zeek": (
                "#separator \\x09",
                "#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tduration\tapp",
                "1700000000.0\t10.0.0.2\t40001\t192.0.2.1\t443\ttcp\t0.5\tChat",
                "1700000000.0\t10.0.0.2\t40002\t192.0.2.1\t443\tudp\t-\t-",
            ),
            "nudt": (f"{MS},微信,TCP,{ENDS}", f"2023-11-15 06:13:20,QQ,TCP,{ENDS}"),
            "nudt-apps": ("No.,App(Chinese),App(English)", "1,微信,WeChat", "9,QQ,QQ"),
        }  # fmt: skip
        files = {name: "\n".join(each).encode() + b"\n" for name, each in lines.items()}
        files |= {"mirage": _mirage(), "fgnet": _fgnet()}
        files |= {
            "cesnet": cesnet_csv(QUIC22, [cesnet_row(QUIC22)] * 3),
            "utmobilenet": utmobilenet_csv(),
        }
        return {name: {name: data} for name, data in files.items()}

    def mutate(self, files: Files, rng: random.Random) -> Files:
        """One field, line or JSON value changed, or bytes as of any file."""
        ((name, data),) = files.items()
        if name == "fgnet" or rng.random() < 0.3:
            return {name: spoil(data, rng)}
        text = data.decode("utf-8", "replace")
        if name == "mirage" and rng.random() < 0.8:
            return {name: _spoil_json(text, rng)}
        lines = text.split("\n")
        at = rng.randrange(len(lines))
        kind = rng.randrange(5)
        if kind == 0:
            lines.insert(at, rng.choice((*DEEP, lines[rng.randrange(len(lines))][:30])))
        elif kind == 1:
            del lines[at]
        elif kind == 2 and "{" in lines[at]:
            lines[at] = _spoil_json(lines[at], rng).decode("utf-8", "replace")
        else:
            delimiter = "\t" if "\t" in lines[at] else ","
            cells = lines[at].split(delimiter)
            cells[rng.randrange(len(cells))] = rng.choice(VALUES)
            lines[at] = delimiter.join(cells[: rng.randint(1, len(cells))] if kind == 4 else cells)
        return {name: "\n".join(lines).encode("utf-8", "surrogatepass")}

    def run(self, inputs: Sequence[Files], scratch: Path) -> None:
        """Reads the file by its format, and joins what a log has to nothing."""
        for files in inputs:
            ((name, data),) = files.items()
            read, file_name = PUBLISHED.get(name, (None, "x.txt"))
            path = scratch / file_name
            path.write_bytes(data)
            if read is not None:
                for flows in SequenceFile(path, "x", name, read).flows():
                    assert len(flows.column("label").to_pylist()) == len(flows)
                    assert not np.isnan(flows.numpy("start_ns").astype(float)).any()
                continue
            if name == "nudt-apps":
                path.rename(scratch / APP_LIST)
                (scratch / USER_INFO).write_bytes(data)
                read_users(scratch / USER_INFO)
                (scratch / "x.txt").write_text(f"{MS},微信,TCP,{ENDS}\n", encoding="utf-8")
                reader: Any = Nudt(scratch / APP_LIST)
                options = LabelOptions()
            elif name == "nudt":
                reader, options = Nudt(), LabelOptions()
            else:
                kind = {"networklog-export": "networklog", "table-json": "table"}.get(name, name)
                reader = formats(kind)[0]
                options = LabelOptions(columns=COLUMNS if "table" in name else {})
            index = LogFiles(reader, (scratch / "x.txt",), options).index()
            assert len(index.log.app) == len(index.log.first_ns)


def _spoil_json(text: str, rng: random.Random) -> bytes:
    """JSON with one value of any kind in the place of another."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return spoil(text.encode("utf-8", "surrogatepass"), rng)
    inside: Any = {"": value}
    key: Any = ""
    while isinstance(inside[key], dict | list) and inside[key] and rng.random() < 0.85:
        inside = inside[key]
        key = rng.choice(sorted(inside) if isinstance(inside, dict) else range(len(inside)))
    inside[key] = rng.choice(
        (
            None,
            True,
            -1,
            10**30,
            1e308,
            "",
            "x",
            *VALUES[:6],
            [],
            [[1]],
            {},
            {"a": 1},
            float("nan"),
            "\ud800",
        )
    )
    if isinstance(inside, dict) and inside is not value and rng.random() < 0.2:
        del inside[key]
    return json.dumps(value).encode()


TARGET = Labels()
