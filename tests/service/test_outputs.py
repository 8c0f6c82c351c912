"""Every form of output, read back by something else than what wrote it; slow and dead ones beside good ones."""

import csv
import json
import os
import socket
import threading
import time

import pyarrow.parquet as pq
import pytest

from apptell.errors import MissingError, OutputError, UsageError
from apptell.records.forms.csv import Csv
from apptell.records.forms.jsonl import JsonLines
from apptell.records.forms.parquet import Parquet
from apptell.records.forms.zeek import Zeek
from apptell.records.schema import LIVE_RECORD
from apptell.service import QueuedOutput, open_outputs
from apptell.service.outputs.file import LineFile
from apptell.service.outputs.folder import Folder, open_folder
from apptell.testing import flow_batch
from tests.ended import ended


@pytest.fixture(scope="module")
def batches():
    """Verdicts on and ends of three flows."""
    flows = flow_batch(["signal", "zoom", "skype"]).with_columns(
        server_name=["a.example", None, "-"]
    )
    return list(ended(flows))


def write(output, batches):
    for batch in batches:
        output.write(batch)
    output.close()


def through(text, batches):
    (output,) = open_outputs([text], is_lossless=True)
    for batch in batches:
        output.put(batch)
    output.close()
    assert output.counts()["written"] == 6, output.fault
    return output.counts()


def test_json_lines_have_the_live_columns_and_grow(tmp_path, batches):
    path = tmp_path / "verdicts.jsonl"
    through(f"jsonl:{path}", batches)
    through(f"jsonl:{path}", batches)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 12
    assert list(lines[0]) == LIVE_RECORD.names
    assert [line["event"] for line in lines[:6]] == ["verdict"] * 3 + ["end"] * 3
    assert lines[3]["end_reason"] == "closed"


def test_records_of_which_a_filter_left_none_do_not_stop_an_output(tmp_path, batches):
    through(f"jsonl:{tmp_path / 'v.jsonl'}", [batches[0].slice(0, 0), *batches])


def test_csv_has_one_header_also_when_it_is_continued(tmp_path, batches):
    path = tmp_path / "verdicts.csv"
    through(f"csv:{path}", batches)
    through(f"csv:{path}", batches)
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 12
    assert list(found[0]) == LIVE_RECORD.names


def test_a_file_that_was_renamed_is_begun_anew(tmp_path, batches):
    path = tmp_path / "verdicts.csv"
    output = LineFile(str(path), Csv())
    output.write(batches[0])
    path.rename(tmp_path / "old.csv")
    output.tick()
    output.write(batches[1])
    output.close()
    assert [
        len((tmp_path / name).read_text().splitlines()) for name in ("old.csv", "verdicts.csv")
    ] == [4, 4]


def test_a_line_that_does_not_fit_on_the_disk_is_taken_back(tmp_path, batches, monkeypatch):
    path = tmp_path / "verdicts.jsonl"
    output = LineFile(str(path), JsonLines())
    output.write(batches[0])
    whole = path.read_bytes()
    write_whole, calls = os.write, []

    def full(handle, data):
        calls.append(handle)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return write_whole(handle, data[:100])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        output.write(batches[1])
    monkeypatch.undo()
    assert path.read_bytes() == whole
    output.write(batches[1])
    output.close()
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 6


def test_a_full_device_is_reported_and_loses_nothing_else(tmp_path, batches):
    good, full = open_outputs(
        [f"jsonl:{tmp_path}/good.jsonl", "jsonl:/dev/full"], is_lossless=False
    )
    for batch in batches:
        good.put(batch)
        full.put(batch)
    good.close()
    full.close(time.monotonic() + 1)
    assert good.counts()["written"] == 6
    assert full.counts()["written"] == 0
    assert full.counts()["dropped"] == 6
    assert full.counts()["errors"] >= 1
    assert full.fault


def test_parquet_files_appear_whole_by_number_and_by_age(tmp_path, batches):
    now = [0.0]
    output = Folder(tmp_path / "out", Parquet(), seconds=60, records=6, clock=lambda: now[0])
    files = lambda: sorted((tmp_path / "out").iterdir())  # noqa: E731
    output.write(batches[0])
    assert files() == []
    output.write(batches[1])
    assert [pq.read_table(path).num_rows for path in files()] == [6]
    output.write(batches[0])
    now[0] = 61.0
    output.tick()
    assert [pq.read_table(path).num_rows for path in files()] == [6, 3]
    output.write(batches[1])
    output.close()
    assert [pq.read_table(path).num_rows for path in files()] == [6, 3, 3]
    assert pq.read_schema(files()[0]).names == LIVE_RECORD.names


def test_parquet_options_are_read_and_checked(tmp_path):
    output = open_folder(f"{tmp_path}/out?seconds=5&records=10", Parquet())
    assert (output._seconds, output._records) == (5.0, 10)
    for wrong in ("", "x?second=3", "x?seconds=no", "x?records=0"):
        with pytest.raises(UsageError):
            open_folder(f"{tmp_path}/{wrong}" if wrong else "", Parquet())


def test_eve_events_have_suricatas_names(tmp_path, batches):
    path = tmp_path / "eve.json"
    through(f"eve:{path}", batches)
    events = [json.loads(line) for line in path.read_text().splitlines()]
    first, end = events[0], events[3]
    assert first["event_type"] == "app_id"
    assert first["timestamp"].endswith("+0000")
    assert (first["src_ip"], first["dest_ip"], first["dest_port"]) == (
        "192.168.1.2",
        "203.0.113.10",
        443,
    )
    assert (first["proto"], first["community_id"]) == ("TCP", "1:flow0")
    assert first["tls"] == {"sni": "a.example"}
    assert "reason" not in first["flow"]
    assert end["flow"]["reason"] == "closed"
    assert end["flow"]["pkts_toserver"] == 6
    assert end["app_id"]["app"] == first["app_id"]["app"]
    assert end["app_id"]["event"] == "end"


def _read_zeek(text):
    """A reader of Zeek's own description of the form."""
    head = dict(
        line[1:].split("\t", 1)
        for line in text.splitlines()
        if line.startswith("#") and "\t" in line
    )
    names = head["fields"].split("\t")
    assert len(names) == len(head["types"].split("\t"))
    assert text.startswith("#separator \\x09\n")
    body = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    assert {len(line) for line in body} == {len(names)}
    unset = head["unset_field"]
    return [
        {n: None if v == unset else v for n, v in zip(names, line, strict=True)} for line in body
    ]


def test_a_zeek_log_has_its_header_once_and_unset_fields_marked(tmp_path, batches):
    path = tmp_path / "apptell.log"
    through(f"zeek:{path}", batches)
    through(f"zeek:{path}", batches)
    found = _read_zeek(path.read_text())
    assert path.read_text().count("#fields") == 1
    assert len(found) == 12
    assert (found[0]["id.orig_h"], found[0]["id.resp_p"], found[0]["proto"]) == (
        "192.168.1.2",
        "443",
        "tcp",
    )
    assert [row["server_name"] for row in found[:3]] == ["a.example", None, "\\x2d"]
    assert found[0]["uid"] == found[3]["uid"]


def test_zeeks_json_leaves_unset_fields_out(tmp_path, batches):
    path = tmp_path / "apptell.json"
    through(f"zeek-json:{path}", batches)
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert found[0]["server_name"] == "a.example"
    assert "server_name" not in found[1]
    assert isinstance(found[0]["ts"], float)


def test_ecs_documents_name_the_application(tmp_path, batches):
    path = tmp_path / "ecs.json"
    through(f"ecs:{path}", batches)
    found = [json.loads(line) for line in path.read_text().splitlines()]
    verdict, end = found[0], found[3]
    assert verdict["network"].get("application") == end["network"].get("application")
    assert verdict["network"]["community_id"] == "1:flow0"
    assert end["event"]["type"] == ["connection", "end"]
    assert end["network"]["bytes"] == end["source"]["bytes"] + end["destination"]["bytes"]
    assert end["event"]["duration"] > 0
    assert "end" not in verdict["event"]
    assert verdict["ecs"]["version"].startswith("8.")


def test_a_unix_socket_gets_json_lines_also_when_it_listens_late(tmp_path, batches):
    path = str(tmp_path / "apps.sock")
    (output,) = open_outputs([f"unix:{path}"], is_lossless=True)
    output.put(batches[0])
    time.sleep(0.1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(1)
        listener.settimeout(10)
        peer, _ = listener.accept()
        output.put(batches[1])
        with peer, peer.makefile() as file:
            lines = [json.loads(file.readline()) for _ in range(6)]
            output.close()
            assert file.readline() == ""
    assert [line["event"] for line in lines] == ["verdict"] * 3 + ["end"] * 3
    assert output.counts()["errors"] >= 1


def test_syslog_over_udp_is_one_message_a_record(batches):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        through(f"syslog:127.0.0.1:{server.getsockname()[1]}", batches)
        messages = [server.recv(65_535) for _ in range(6)]
    head, _, line = messages[0].partition(b"\xef\xbb\xbf")
    assert head.startswith(b"<134>1 20")
    fields = head.split()
    assert (fields[3], fields[5], fields[6]) == (b"apptell", b"verdict", b"-")
    assert json.loads(line)["event"] == "verdict"


def test_syslog_leaves_the_byte_order_mark_out_where_that_is_asked_for(batches):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        through(f"syslog:127.0.0.1:{server.getsockname()[1]}?bom=no", batches)
        message = server.recv(65_535)
    assert b"\xef\xbb\xbf" not in message
    assert json.loads(message.split(b" - ", 1)[1])["event"] == "verdict"


def test_syslog_over_tcp_counts_octets(batches):
    with socket.create_server(("127.0.0.1", 0)) as server:
        got = []

        def serve():
            peer, _ = server.accept()
            with peer:
                while data := peer.recv(65_536):
                    got.append(data)

        serving = threading.Thread(target=serve)
        serving.start()
        through(f"syslog:tcp://127.0.0.1:{server.getsockname()[1]}", batches)
        serving.join(60)
    data, n = b"".join(got), 0
    while data:
        length, _, rest = data.partition(b" ")
        assert rest.startswith(b"<134>1 ")
        data = rest[int(length) :]
        n += 1
    assert n == 6


class Stuck:
    """An output that never comes back until it is let go."""

    def __init__(self):
        self.extra = {}
        self.go = threading.Event()

    def write(self, batch):
        self.go.wait(120)

    def tick(self):
        pass

    def close(self):
        pass


def test_an_output_that_stalls_neither_blocks_nor_loses_the_others(tmp_path, batches):
    stuck = Stuck()
    stalled = QueuedOutput("stalled", stuck, capacity=30)
    good = QueuedOutput("good", LineFile(str(tmp_path / "good.jsonl"), JsonLines()))
    begin = time.monotonic()
    for _ in range(200):
        stalled.put(batches[0])
        good.put(batches[0])
    good.close()
    assert time.monotonic() - begin < 60
    assert good.counts() == {"written": 600, "dropped": 0, "errors": 0, "queued": 0}
    stalled.close(time.monotonic() + 0.2)
    assert stalled.counts()["dropped"] == 600
    stuck.go.set()


def test_a_lossless_output_is_waited_for(batches):
    stuck = Stuck()
    output = QueuedOutput("slow", stuck, is_lossless=True, capacity=6)
    putting = threading.Thread(target=lambda: [output.put(batches[0]) for _ in range(10)])
    putting.start()
    putting.join(0.2)
    assert putting.is_alive()
    stuck.go.set()
    putting.join(60)
    output.close()
    assert output.counts()["written"] == 30
    assert output.counts()["dropped"] == 0


@pytest.mark.parametrize(
    "text",
    [
        "jsonl",
        "table:-",
        "kafka:localhost:9092",
        "syslog:http://x",
        "syslog:h?bom=maybe",
        "unix:",
        "jsonl:",
    ],
)
def test_what_is_no_output_is_refused(text):
    with pytest.raises(UsageError):
        open_outputs([text], is_lossless=True)


def test_a_file_in_a_folder_that_does_not_exist_is_refused_at_once(tmp_path):
    with pytest.raises(OutputError, match="No such file"):
        open_outputs([f"jsonl:{tmp_path}/no/such/file.jsonl"], is_lossless=True)


def test_without_the_kafka_client_the_command_that_installs_it_is_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "confluent_kafka", None)
    with pytest.raises(MissingError, match=r"pip install 'apptell\[kafka\]'") as error:
        open_outputs(["kafka:localhost:9092/apps"], is_lossless=True)
    assert error.value.exit_code == 3


def test_kafka_messages_are_keyed_and_confirmed_by_librdkafkas_own_mock_cluster(batches):
    """The cluster is librdkafka's in-process mock, which speaks Kafka's protocol; no broker of Apache's."""
    kafka = pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")
    cluster = kafka.Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "", "log_level": 0})
    (broker,) = cluster.list_topics(timeout=60).brokers.values()
    servers = f"{broker.host}:{broker.port}"
    counts = through(f"kafka:{servers}/apps", batches)
    assert counts["delivered"] == 6
    assert counts["undelivered"] == 0
    consumer = kafka.Consumer(
        {"bootstrap.servers": servers, "group.id": "test", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe(["apps"])
    messages = []
    until = time.monotonic() + 120
    while len(messages) < 6 and time.monotonic() < until:
        message = consumer.poll(1.0)
        if message is not None and message.error() is None:
            messages.append(message)
    consumer.close()
    assert len(messages) == 6
    assert {message.key() for message in messages} == {b"1:flow0", b"1:flow1", b"1:flow2"}
    assert {json.loads(message.value())["event"] for message in messages} == {"verdict", "end"}


@pytest.mark.parametrize(("form", "n_header_lines"), [("eve", 0), ("ecs", 0), ("zeek", 8)])
def test_a_unix_socket_carries_every_form_with_lines(tmp_path, batches, form, n_header_lines):
    path = str(tmp_path / "apps.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(1)
        through(f"{form}:unix:{path}", batches)
        peer, _ = listener.accept()
        with peer, peer.makefile() as file:
            lines = file.read().splitlines()
    assert len(lines) == n_header_lines + 6
    through(f"{form}:{tmp_path}/file", batches)
    written = (tmp_path / "file").read_text().splitlines()
    assert lines[n_header_lines:] == written[n_header_lines:]


def test_syslog_carries_ecs_documents(batches):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        through(f"ecs:syslog:127.0.0.1:{server.getsockname()[1]}", batches)
        _, _, line = server.recv(65_535).partition(b"\xef\xbb\xbf")
    assert json.loads(line)["ecs"]["version"].startswith("8.")


@pytest.mark.parametrize("form", [Csv(), Zeek()])
def test_a_header_is_written_again_after_copytruncate(tmp_path, batches, form):
    path = tmp_path / "out"
    output = LineFile(str(path), form)
    output.write(batches[0])
    whole = path.read_text()
    with path.open("r+") as file:
        file.truncate()
    output.write(batches[0])
    output.write(batches[1])
    output.close()
    text = path.read_text()
    assert text.splitlines()[0] == whole.splitlines()[0]
    assert text.count(whole.splitlines()[0]) == 1
    assert len(text.splitlines()) == len(whole.splitlines()) + 3


def test_a_pipe_gets_a_header_once(tmp_path, batches):
    os.mkfifo(tmp_path / "pipe")
    lines = []
    reader = threading.Thread(
        target=lambda: lines.extend((tmp_path / "pipe").read_text().splitlines())
    )
    reader.start()
    write(LineFile(str(tmp_path / "pipe"), Csv()), batches)
    reader.join(60)
    assert len(lines) == 1 + 6


def test_an_output_s_file_is_private_and_no_link_is_followed(tmp_path, batches):
    through(f"jsonl:{tmp_path}/a.jsonl", batches)
    assert (tmp_path / "a.jsonl").stat().st_mode & 0o137 == 0
    through(f"parquet:{tmp_path}/p", batches)
    (file,) = (tmp_path / "p").iterdir()
    assert file.stat().st_mode & 0o137 == 0
    (tmp_path / "link").symlink_to(tmp_path / "a.jsonl")
    with pytest.raises(OutputError, match="link: is a symbolic link"):
        open_outputs([f"jsonl:{tmp_path}/link"], is_lossless=True)
