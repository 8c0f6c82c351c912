"""Logs of every kind, written from their descriptions, spoiled and read back."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from apptell.dataset import build
from apptell.errors import LabelError, UsageError
from apptell.flows import FlowOptions
from apptell.flows.schema import GROUPS
from apptell.labels import CaptureFlows, LabelOptions, LabelSearch
from apptell.labels.fields import time_ns
from apptell.labels.file_names import app_and_groups
from apptell.labels.formats.networklog import read_export, read_text
from apptell.labels.formats.pcapdroid_csv import packages_of, read_pcapdroid_csv
from apptell.labels.formats.tabular import parse_columns, read_table
from apptell.labels.log import Lines
from apptell.labels.naming import is_system_uid
from apptell.testing import START_NS, conversation, write_pcap

MS = START_NS // 1_000_000
ISO = "2023-11-14T23:13:20.000+01:00"
TALK = [(True, b"hello there"), (False, b"general"), (True, b"more"), (False, b"and more")]
OLD = "IPProto,SrcIP,SrcPort,DstIp,DstPort,UID,App,Proto,Status,Info,BytesSent,BytesRcvd,PktsSent,PktsRcvd"
NEW = OLD.replace("App,", "App,PackageName,") + ",FirstSeen,LastSeen"
ENDS = "6,10.0.0.2,40001,192.0.2.1,443"


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read(reader, path, *options):
    lines = Lines()
    reader(path, lines, *options)
    return lines


@pytest.mark.parametrize(
    ("head", "line", "app"),
    [
        (
            OLD + ",FirstSeen,LastSeen",
            f"{ENDS},10123,Chat,TLS,Open,a.b,1,2,3,4,{MS},{MS + 900}",
            "chat",
        ),
        (
            OLD + ",FirstSeen,LastSeen",
            f"{ENDS},10123,Chat, Inc,TLS,Closed,GET /a,b,1,2,3,4,{MS},{MS + 900}",
            "chat, inc",
        ),
        (
            NEW,
            f"{ENDS},10123,Chat,org.example.Chat,TLS,Closed,a,b,1,2,3,4,{ISO},2023-11-14T22:13:20.900Z",
            "org.example.chat",
        ),
        (
            NEW + ",Malicious",
            (
                f"{ENDS},10123,A, B & C,org.example.chat,TLS,Active,x,y,z,1,2,3,4,{ISO},"
                "2023-11-14T22:13:20.900Z,false"
            ),
            "org.example.chat",
        ),
        (
            NEW + ",Malicious",
            f"{ENDS},1051,Netd,netd,DNS,Closed,,1,2,3,4,{ISO},2023-11-14T22:13:20.900Z,",
            "system",
        ),
        (NEW, f"{ENDS},-1,Unknown,,TLS,Closed,,1,2,3,4,{ISO},2023-11-14T22:13:20.900Z", None),
    ],
)
def test_pcapdroids_list_in_every_generation_with_commas_in_its_fields(tmp_path, head, line, app):
    lines = read(read_pcapdroid_csv, write(tmp_path / "c.csv", head, line))
    assert lines.app == [app]
    assert lines.first_ns == [START_NS]
    assert lines.last_ns == [START_NS + 900_000_000]
    assert (lines.address_a, lines.port_a) == (["10.0.0.2"], [40001])
    assert (lines.address_b, lines.port_b) == (["192.0.2.1"], [443])
    assert lines.n_bad == 0


def test_spoiled_lines_of_pcapdroids_list_are_counted(tmp_path):
    good = f"{ENDS},10123,Chat,org.example.chat,TLS,Closed,,1,2,3,4,{ISO},{ISO}"
    bad = [
        good[:30],
        good.replace("10123", "x"),
        good.replace(ISO, "yesterday"),
        "6,,,,,,,,,,,,,,,,",
    ]
    path = write(tmp_path / "c.csv", NEW, good, *bad)
    lines = read(read_pcapdroid_csv, path)
    assert (len(lines.app), lines.n_bad) == (1, 4)
    assert packages_of((path,)) == {10123: ("Chat", "org.example.chat")}
    with pytest.raises(LabelError, match="not PCAPdroid's list"):
        read(read_pcapdroid_csv, write(tmp_path / "x.csv", "a,b"))
    with pytest.raises(LabelError, match="cannot be read"):
        read(read_pcapdroid_csv, tmp_path / "none.csv")


def test_network_logs_text_with_and_without_protocol(tmp_path):
    path = write(
        tmp_path / "networklog.txt",
        f"{MS},wlan0,null,10123,10.0.0.2,40001,192.0.2.1,443,60,TCP",
        f"{MS},,wlan0,1000,192.0.2.1,443,10.0.0.2,40001,60",
        f"{MS},,wlan0,-1,192.0.2.1,,10.0.0.2,,60,ICMP",
        f"{MS},wlan0",
        "rubbish",
    )
    lines = read(read_text, path, {10123: "org.example.chat"})
    assert lines.app == ["org.example.chat", "system", None]
    assert lines.protocol == [6, 0, 255]
    assert lines.port_a == [40001, 443, 0]
    assert lines.n_bad == 2
    assert read(read_text, path).app[0] == "uid-10123"
    spoiled = read(read_text, write(tmp_path / "x", "rubbish"))
    assert (len(spoiled), spoiled.n_bad, spoiled.first_bad) == (0, 1, "line 1: 1 fields, not 9")


def test_network_logs_export_in_the_phones_zone(tmp_path):
    head = (
        "Timestamp,AppName,AppPackage,AppUid,In interface,Out interface,Source,Source Port,"
        "Destination,Destination Port,Length"
    )
    ends = "wlan0,,10.0.0.2,40001,192.0.2.1,443,60"
    path = write(
        tmp_path / "e.csv",
        head,
        f'2023-11-14 23:13:20.000,"Chat, the app",org.example.chat,10123,{ends}',
        f"2023-11-14 23:13:20.000,Uninstalled App,,10999,{ends}",
        f"2023-11-14 23:13:20.000,Kernel,,0,{ends}",
        f"yesterday,Chat,org.example.chat,10123,{ends}",
    )
    lines = read(read_export, path, ZoneInfo("Europe/Berlin"))
    assert lines.app == ["org.example.chat", None, "system"]
    assert lines.first_ns[0] == START_NS
    assert lines.n_bad == 1
    assert read(read_export, path).first_ns[0] == START_NS + 3600 * 10**9


def test_a_table_in_csv_and_json_lines_with_named_columns(tmp_path):
    columns = parse_columns("time=ts,source=a,source_port=ap,target=b,target_port=bp,app=who")
    text = write(
        tmp_path / "t.csv",
        "ts;a;ap;b;bp;who",
        f"{MS};10.0.0.2;1;192.0.2.1;2;Chat/Voice Call",
        "x;;;;;",
    )
    lines = read(read_table, text, columns)
    assert (lines.app, lines.first_ns, lines.n_bad) == (["chat/voice call"], [START_NS], 1)
    row = '{"ts": "2023-11-14T22:13:20Z", "a": "10.0.0.2", "ap": 1, "b": "::1", "bp": 2, "who": "Chat"}'
    lines = read(read_table, write(tmp_path / "t.jsonl", row, "{", "[]"), columns)
    assert (lines.app, lines.first_ns, lines.n_bad) == (["chat"], [START_NS], 2)
    with pytest.raises(LabelError, match="no column 'app'; the columns are a, ap, b"):
        read(read_table, text, {**columns, "app": "app"})
    with pytest.raises(UsageError, match="is not MEANING=COLUMN"):
        parse_columns("when=ts")


def test_times_are_told_by_their_size():
    for text in ("1700000000", "1700000000000", "1700000000000000", "1700000000000000000"):
        assert time_ns(text) == START_NS
    assert time_ns("1700000000.123456") == START_NS + 123_456_000
    assert time_ns(datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC).isoformat()) == START_NS
    for text in ("nan", "", "tomorrow"):
        with pytest.raises(ValueError):
            time_ns(text)


ZEEK = [
    "#separator \\x09",
    "#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tduration\tapp",
    "#types\ttime\tstring\taddr\tport\taddr\tport\tenum\tinterval\tstring",
    "1700000000.000000\tC1\t10.0.0.2\t40001\t192.0.2.1\t443\ttcp\t0.5\tChat",
    "1700000000.000000\tC2\t10.0.0.2\t40002\t192.0.2.1\t443\tudp\t-\t-",
    "#close\t2023",
]


def capture(path, ports=(40001,)):
    packets = [
        p for port in ports for p in conversation(("10.0.0.2", port), ("192.0.2.1", 443), TALK)
    ]
    return write_pcap(path, sorted(packets))


def built(path, folder, **options):
    paths = path if isinstance(path, list) else [path]
    reader = CaptureFlows(FlowOptions(groups=tuple(GROUPS)))
    return build(LabelSearch(paths, reader, LabelOptions(**options)), folder)


def test_zeeks_conn_log_beside_a_capture_is_recognised_and_joined(tmp_path):
    (tmp_path / "c").mkdir()
    capture(tmp_path / "c" / "x.pcap", (40001, 40002))
    write(tmp_path / "c" / "conn.log", *ZEEK)
    data = built(tmp_path / "c", tmp_path / "d").dataset
    (source,) = data.info["sources"]
    assert source["labels"] == "zeek"
    assert data.info["apps"] == {"chat": 1}
    assert data.info["dropped"] == {"no app known": 1}
    assert source["clock_offset_s"] == pytest.approx(0, abs=0.3)


def test_a_log_given_by_name_serves_and_the_kind_can_be_forced(tmp_path):
    path, log = capture(tmp_path / "x.pcap"), write(tmp_path / "conn.log", *ZEEK)
    assert built([path, log], tmp_path / "d").dataset.info["label_from"] == {"zeek": 1}
    forced = built(path, tmp_path / "e", kind="folders").dataset
    assert forced.info["apps"] == {"x": 1}
    with pytest.raises(LabelError, match="no networklog log beside it"):
        built(path, tmp_path / "f", kind="networklog")
    with pytest.raises(UsageError, match="no label format 'luck'"):
        built(path, tmp_path / "f", kind="luck")


def test_any_list_can_be_read_as_a_table_when_its_columns_are_said(tmp_path):
    path = capture(tmp_path / "x.pcap")
    line = f"{ENDS},10123,Chat,org.example.chat,TLS,Closed,,1,2,3,4,{ISO},{ISO}"
    lines = write(tmp_path / "c.csv", NEW, line)
    columns = parse_columns(
        "time=FirstSeen,end=LastSeen,protocol=IPProto,source=SrcIP,source_port=SrcPort,target=DstIp,"
        "target_port=DstPort,app=PackageName"
    )
    data = built([path, lines], tmp_path / "d", columns=columns).dataset
    assert data.info["label_from"] == {"table": 1}
    with pytest.raises(LabelError, match="no column 'time'; the columns are App, BytesRcvd"):
        built([path, lines], tmp_path / "e", kind="table")


def test_the_logs_of_a_folder_are_joined_together_and_renamed(tmp_path):
    (tmp_path / "c").mkdir()
    capture(tmp_path / "c" / "x.pcap", (40001, 40002))
    head, row = ZEEK[:3], ZEEK[3]
    write(tmp_path / "c" / "conn.1.log", *head, row)
    write(tmp_path / "c" / "conn.2.log", *head, row.replace("40001", "40002"))
    data = built(tmp_path / "c", tmp_path / "d", rename={"chat": "talk/text"}).dataset
    assert data.info["apps"] == {"talk/text": 2}
    assert data.info["sources"][0]["logs"] == ["conn.1.log", "conn.2.log"]


def test_a_table_whose_times_name_no_zone_is_in_the_zone_that_is_said(tmp_path):
    columns = {m: m for m in ("time", "source", "source_port", "target", "target_port", "app")}
    text = write(
        tmp_path / "t.csv",
        "time,source,source_port,target,target_port,app",
        "2023-11-14 23:13:20,10.0.0.2,1,192.0.2.1,2,x",
    )
    assert read(read_table, text, columns, ZoneInfo("Europe/Berlin")).first_ns == [START_NS]
    assert read(read_table, text, columns).first_ns == [START_NS + 3600 * 10**9]


def test_a_log_of_other_connections_is_refused_and_nothing_is_written(tmp_path):
    path = capture(tmp_path / "x.pcap", (50000,))
    log = write(tmp_path / "conn.log", *ZEEK)
    with pytest.raises(LabelError, match="its zeek log has no connection of the capture"):
        built([path, log], tmp_path / "d")
    assert not (tmp_path / "d" / "dataset.json").exists()


def test_a_network_log_two_hours_off_is_put_right(tmp_path):
    path = capture(tmp_path / "x.pcap", range(40000, 40010))
    head = (
        "Timestamp,AppName,AppPackage,AppUid,In interface,Out interface,Source,Source Port,"
        "Destination,Destination Port,Length"
    )
    rows = [
        f"2023-11-15 00:13:20.100,Chat,org.example.chat,10123,,,10.0.0.2,{port},192.0.2.1,443,60"
        for port in range(40000, 40010)
    ]
    log = write(tmp_path / "export.csv", head, *rows)
    data = built([path, log], tmp_path / "d").dataset
    assert data.info["apps"] == {"org.example.chat": 10}
    assert data.info["sources"][0]["clock_offset_s"] == pytest.approx(7200, abs=0.5)


def test_folders_name_source_app_run_and_groups(tmp_path):
    def named(path, pattern=None):
        import re

        return app_and_groups(tmp_path / path, tmp_path, pattern and re.compile(pattern))

    assert named("s01/WhatsApp.pcap.gz") == ("whatsapp", {"source": "s01"})
    assert named("a/b/x.pcapng") == ("x", {"source": "a/b"})
    assert named("device=pixel/x__2.pcap") == (
        "x",
        {"device": "pixel", "source": "device=pixel", "session": "device=pixel/x/2"},
    )
    pattern = r"(?P<version>android\d+)_(?P<app>[a-z]+)-(?P<activity>\w+)"
    assert named("m/android71_chat-call.pcap", pattern) == (
        "chat/call",
        {"source": "m", "version": "android71"},
    )
    with pytest.raises(LabelError, match="does not fit the pattern"):
        named("m/chat.pcap", pattern)


def test_system_uids():
    assert [is_system_uid(u) for u in (-1, 0, 1000, 1051, 9999, 10000, 10123)] == [
        False, True, True, True, True, False, False,
    ]  # fmt: skip
    assert is_system_uid(1_001_000)
    assert not is_system_uid(1_010_123)


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(LabelError, match="no capture and no dataset"):
        built(tmp_path, tmp_path / "d")
    with pytest.raises(LabelError, match="no such file"):
        built(tmp_path / "none", tmp_path / "d")


ZEEK_ROW = (
    '{"ts": %s, "id.orig_h": "10.0.0.2", "id.orig_p": %s, "duration": %s, "id.resp_h": "192.0.2.1", '
    '"id.resp_p": 443, "proto": "tcp", "app": "org.example.chat"}'
)
EXPORT = (
    "Timestamp,AppName,AppPackage,AppUid,In interface,Out interface,Source,Source Port,Destination,"
    "Destination Port,Length"
)
LOGS = {
    "pcapdroid-csv": (
        "c.csv",
        NEW,
        f"{ENDS},10123,Chat,org.example.chat,TLS,Closed,,1,2,3,4,{ISO},{ISO}",
        [
            f"256,{ENDS[2:]},10123,Chat,org.example.chat,TLS,Closed,,1,2,3,4,{ISO},{ISO}",
            f"-1,{ENDS[2:]},10123,Chat,org.example.chat,TLS,Closed,,1,2,3,4,{ISO},{ISO}",
            f"{ENDS},²,Chat,org.example.chat,TLS,Closed,,1,2,3,4,{ISO},{ISO}",
            f"{ENDS},99999999999,Chat,org.example.chat,TLS,Closed,,1,2,3,4,{ISO},{ISO}",
            f"6,10.0.0.2,70000,192.0.2.1,443,10123,Chat,a.b,TLS,Closed,,1,2,3,4,{ISO},{ISO}",
            f"{ENDS},10123,Chat,org.example.chat,TLS,Closed,,1,2,3,4,9999999999999999,9999999999999999",
        ],
    ),
    "networklog": (
        "networklog.txt",
        None,
        f"{MS},wlan0,null,10123,10.0.0.2,40001,192.0.2.1,443,60,TCP",
        [
            "9223372036854775807,wlan0,null,10123,10.0.0.2,40001,192.0.2.1,443,60,TCP",
            f"{MS},wlan0,null,10123,10.0.0.2,99999999999999999999,192.0.2.1,443,60,TCP",
            f"{MS},wlan0,null,²,10.0.0.2,40001,192.0.2.1,443,60,TCP",
            f"{MS},wlan0,null,10123",
        ],
    ),
    "networklog-export": (
        "e.csv",
        EXPORT,
        "2023-11-14 22:13:20.000,Chat,org.example.chat,10123,wlan0,,10.0.0.2,40001,192.0.2.1,443,60",
        [
            "2023-11-14 22:13:20.000,Chat",
            "0001-01-01 00:00:00.000,Chat,org.example.chat,10123,wlan0,,10.0.0.2,40001,192.0.2.1,443,60",
            '2023-11-14 22:13:20.000,"Chat,org.example.chat,10123,wlan0,,10.0.0.2,40001,192.0.2.1,443,60',
            "2023-11-14 22:13:20.000,Chat,org.example.chat,10123,wlan0,,10.0.0.2,-5,192.0.2.1,443,60",
        ],
    ),
    "zeek": (
        "conn.log",
        None,
        ZEEK_ROW % ("1700000000.0", "40001", 1),
        [
            "[" * 100_000,
            '{"a":' * 100_000,
            ZEEK_ROW % ("1e9999999", "40001", 1),
            ZEEK_ROW % ("1e-9999999", "[]", 1),
            ZEEK_ROW % ("1700000000", "40001", 1e308),
            "null",
            '{"id.orig_h": "10.0.0.2"}',
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", LOGS)
def test_a_bad_line_is_counted_and_never_the_end_of_a_build(tmp_path, kind):
    name, head, good, bad = LOGS[kind]
    folder = tmp_path / "c"
    folder.mkdir()
    capture(folder / "x.pcap")
    write(folder / name, *([head] if head else []), good, *bad, good)
    data = built(folder, tmp_path / "d").dataset
    assert data.info["apps"] == {data.apps[0]: 1}
    (source,) = data.info["sources"]
    assert source["bad_log_lines"] == len(bad)
    assert source["first_bad_log_line"].startswith("line ")


def test_one_line_of_a_wrong_year_changes_no_other_label(tmp_path):
    folder = tmp_path / "c"
    folder.mkdir()
    capture(folder / "x.pcap")
    line = f"{ENDS},10123,Chat,org.example.chat,TLS,Closed,,1,2,3,4,{ISO},{ISO}"
    early = f"{ENDS},10124,Old,org.example.old,TLS,Closed,,1,2,3,4,1970-01-02T00:00:00Z,1970-01-02T00:00:00Z"
    late = early.replace("1970", "2261")
    write(folder / "c.csv", NEW, early, line, late)
    assert built(folder, tmp_path / "d").dataset.info["apps"] == {"org.example.chat": 1}


def test_a_log_none_of_whose_lines_can_be_read_is_named_with_its_first_bad_line(tmp_path):
    folder = tmp_path / "c"
    folder.mkdir()
    capture(folder / "x.pcap")
    write(folder / "x.csv", NEW, "6,rubbish")
    with pytest.raises(
        LabelError, match=r"x.csv: no line names an app; 1 of 1 .* line 2: too few fields"
    ):
        built(folder, tmp_path / "d")


def test_a_file_that_was_named_and_is_of_no_use_is_an_error(tmp_path):
    path = capture(tmp_path / "chat.pcap")
    table = write(tmp_path / "truth.csv", "when,who", "1,chat")
    with pytest.raises(LabelError, match=r"truth.csv: not a label log in a known format"):
        built([path, table], tmp_path / "d")
    log = write(tmp_path / "conn.log", *ZEEK)
    with pytest.raises(
        LabelError, match=r"conn.log: given as a label log, but no capture here takes"
    ):
        built([path, log], tmp_path / "d", kind="folders")
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG")
    with pytest.raises(LabelError, match=r"picture.png: not a file in a known format"):
        built([path, picture], tmp_path / "d")


def test_a_table_that_was_named_is_used_or_refused_and_never_passed_over(tmp_path):
    (tmp_path / "captures").mkdir()
    path = capture(tmp_path / "captures" / "chat.pcap")
    head = "time,source,source_port,target,target_port,app"
    row = f"{START_NS},10.0.0.2,{{}},192.0.2.1,443,{{}}"
    good = write(tmp_path / "truth.csv", head, row.format(40_001, "mail"))
    columns = {"app": "app"}
    used = built([path, good], tmp_path / "used", columns=columns).dataset
    assert used.info["apps"] == {"mail": 1}
    refused = {
        "other.csv": ([head, row.format(50_001, "mail")], "has no connection of the capture"),
        "rubbish.csv": (
            [head, "x,y,z"],
            "rubbish.csv: no line names an app; 1 of 1 cannot be read",
        ),
        "empty.csv": ([head], "empty.csv: no line names an app"),
        "unknown.csv": ([head, row.format(40_001, "")], "unknown.csv: no line names an app"),
        "lacking.csv": (["time,app", f"{START_NS},mail"], "lacking.csv: no column 'source'"),
        "truth.tab": (
            [head, row.format(40_001, "mail")],
            "truth.tab: not a file in a known format",
        ),
    }
    for name, (lines, words) in refused.items():
        with pytest.raises(LabelError, match=words):
            built([path, write(tmp_path / name, *lines)], tmp_path / "d", columns=columns)
    # beside a good one, too, whichever is named first
    for name in ("rubbish.csv", "empty.csv", "unknown.csv"):
        for both in ([good, tmp_path / name], [tmp_path / name, good]):
            with pytest.raises(LabelError, match=f"{name}: no line names an app"):
                built([path, *both], tmp_path / "d", columns=columns)
    with pytest.raises(LabelError, match="given as a label log, but no capture here takes labels"):
        built([path, good], tmp_path / "d", columns=columns, kind="names")
    with pytest.raises(LabelError, match="columns of a label table are named, but no capture"):
        built([path], tmp_path / "d", columns=columns)
    assert not (tmp_path / "d").exists()


def test_a_table_beside_a_capture_that_was_not_used_is_reported(tmp_path):
    capture(tmp_path / "chat.pcap")
    table = write(tmp_path / "truth.csv", "when,who", "1,chat")
    write(tmp_path / "README.txt", "about")
    search = LabelSearch([tmp_path], CaptureFlows(FlowOptions(groups=tuple(GROUPS))))
    build(search, tmp_path / "d")
    assert search.unused == {table: "not a label log in a known format"}


def test_a_capture_without_the_usual_suffix_is_read_where_it_is_named(tmp_path):
    path = capture(tmp_path / "trace0")
    assert built(path, tmp_path / "d").dataset.info["apps"] == {"trace0": 1}
    upper = capture(tmp_path / "CHAT.PCAP")
    assert built(upper, tmp_path / "e").dataset.info["apps"] == {"chat": 1}
