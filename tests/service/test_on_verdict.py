"""Calls for named flows: a real command and a real HTTP server on loopback, filters, rate and failures."""

import contextlib
import json
import shlex
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pytest

from apptell.errors import UsageError
from apptell.service import on_verdict
from apptell.service.on_verdict import CallError, Command, OnVerdict, Webhook, open_on_verdict
from apptell.testing import flow_batch
from tests.ended import ended


@pytest.fixture(scope="module")
def batches():
    """Verdicts on and ends of three flows, the third declined."""
    found = list(ended(flow_batch(["signal", "zoom", "skype"]), threshold=0.0))
    apps = ["irc", "xmpp", None]
    at = found[0].schema.get_field_index("app")
    return [batch.set_column(at, "app", pa.array(apps)) for batch in found]


def calls(batches, **options):
    got = []
    output = OnVerdict(lambda record: got.append(json.loads(record)), **options)
    for batch in batches:
        output.write(batch)
    return got, output.extra


@pytest.fixture
def server():
    """An HTTP server that keeps what was posted and answers with the status in the path."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.headers["Content-Type"], json.loads(body)))
            if self.path == "/slow":
                time.sleep(1.0)
                return
            self.send_response(int(self.path[1:4]))
            self.send_header("Location", "/200")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_address[1]}", got
    serving.shutdown()
    thread.join()
    serving.server_close()


def test_each_named_flow_is_one_call_when_it_is_decided(batches):
    got, counts = calls(batches)
    assert [(record["event"], record["app"]) for record in got] == [
        ("verdict", "irc"),
        ("verdict", "xmpp"),
    ]
    assert counts == {"called": 2, "failed": 0, "limited": 0}


def test_only_the_apps_that_were_asked_for_are_called(batches):
    got, _ = calls(batches, apps=["xmpp", "zoom"])
    assert [record["app"] for record in got] == ["xmpp"]


def test_calls_beyond_the_rate_are_left_out_and_counted(batches):
    now = [0.0]
    got = []
    output = OnVerdict(got.append, rate=3.0, clock=lambda: now[0])
    for _ in range(5):
        output.write(batches[0])
    assert (len(got), output.extra["limited"]) == (3, 7)
    now[0] += 1 / 3 + 1e-9
    output.write(batches[0])
    assert (len(got), output.extra["limited"]) == (4, 8)
    now[0] += 1000.0
    for _ in range(5):
        output.write(batches[0])
    assert len(got) == 7


def test_a_command_gets_the_record_on_stdin_and_its_words_without_a_shell(tmp_path, batches):
    path = tmp_path / "a b"
    script = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + sys.argv[2] + '\\n')"
    command = shlex.join([sys.executable, "-c", script, str(path), "$HOME;x"])
    output = open_on_verdict(command)
    for batch in batches:
        output.put(batch)
    output.close()
    lines = path.read_text().splitlines()
    assert [json.loads(line)["app"] for line in lines[::2]] == ["irc", "xmpp"]
    assert lines[1::2] == ["$HOME;x"] * 2
    assert output.counts()["called"] == 2
    assert output.counts()["failed"] == 0


def test_a_command_that_fails_or_does_not_end_is_counted_and_the_next_is_run(batches, monkeypatch):
    monkeypatch.setattr(on_verdict, "CALL_S", 0.3)
    for text, words in (
        ("false", "false: status 1"),
        ("sleep 60", "sleep: not finished after 0.3 s"),
        ("sh -c 'kill -9 $$'", "sh: status -9"),
        ("sh -c 'echo one; echo two >&2; exit 3'", "sh: status 3: two"),
        ("sh -c 'echo waiting; sleep 60'", "sh: not finished after 0.3 s: waiting"),
    ):
        output = OnVerdict(Command(text))
        output.write(batches[0])
        assert output.extra == {"called": 2, "failed": 2, "limited": 0}
        assert output.fault == words


def test_a_process_that_a_command_leaves_behind_is_not_waited_for(batches, monkeypatch):
    monkeypatch.setattr(on_verdict, "CALL_S", 100.0)
    output = OnVerdict(Command("sh -c 'sleep 200 & echo started'"))
    begin = time.monotonic()
    output.write(batches[0].slice(0, 1))
    assert time.monotonic() - begin < 60
    assert output.extra["failed"] == 0


def test_what_a_command_prints_goes_to_standard_error_its_end_alone(batches, capsys):
    output = OnVerdict(Command("sh -c 'yes | head -5000; echo end'"))
    output.write(batches[0].slice(0, 1))
    said = capsys.readouterr().err
    assert said.endswith("y\nend\n")
    assert len(said) <= on_verdict.PRINTED_BYTES


def test_a_command_that_reads_nothing_is_no_failure(batches):
    output = OnVerdict(Command("true"))
    output.write(batches[0])
    assert output.extra["failed"] == 0


def test_a_url_gets_the_record_as_the_body_of_a_post(server, batches):
    url, got = server
    output = open_on_verdict(f"{url}/204", ["irc"])
    for batch in batches:
        output.put(batch)
    output.close()
    assert [(kind, record["app"]) for kind, record in got] == [("application/json", "irc")]
    assert output.counts()["called"] == 1


@pytest.mark.parametrize("status", [302, 404, 500])
def test_an_answer_other_than_2xx_is_a_failure(server, status):
    url, got = server
    with pytest.raises(CallError, match=f"status {status}"):
        Webhook(f"{url}/{status}")(b"{}")
    assert len(got) == 1


def test_a_server_that_does_not_answer_or_is_not_there_is_a_failure(server, monkeypatch):
    monkeypatch.setattr(on_verdict, "CALL_S", 0.2)
    url, _ = server
    with pytest.raises(CallError, match="timed out"):
        Webhook(f"{url}/slow")(b"{}")
    with pytest.raises(CallError, match="refused"):
        Webhook("http://127.0.0.1:1/x")(b"{}")


def test_an_answer_that_comes_byte_by_byte_has_a_time_limit_in_all(monkeypatch):
    monkeypatch.setattr(on_verdict, "CALL_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = threading.Event()

        def drip():
            connection = listener.accept()[0]
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while not done.wait(0.05):
                    connection.sendall(b"y")

        server = threading.Thread(target=drip)
        server.start()
        with pytest.raises(CallError, match="timed out"):
            Webhook(f"http://127.0.0.1:{listener.getsockname()[1]}/")(b"{}")
        done.set()
        server.join()


@pytest.mark.parametrize("host", ["a" * 64, "a..example", "a b", "[::1", "x:y", "x:99999"])
def test_a_url_whose_host_cannot_be_one_is_refused_at_once(host):
    with pytest.raises(UsageError):
        open_on_verdict(f"http://{host}/")


def test_characters_that_a_url_cannot_have_are_escaped(server):
    url, got = server
    Webhook(f"{url}/204?caf\u00e9 \u4e2d")(b"{}")
    assert len(got) == 1


@pytest.mark.parametrize("what", ["", "no-such-command x", "ftp://host/x", "http://", "echo 'x"])
def test_what_is_neither_a_command_nor_a_url_is_refused_at_once(what):
    with pytest.raises(UsageError, match=r"^(command|URL) "):
        open_on_verdict(what)


def test_it_never_holds_up_who_puts_records(batches):
    output = open_on_verdict("sleep 0.5")
    begin = time.monotonic()
    for _ in range(1000):
        output.put(batches[0])
    assert time.monotonic() - begin < 60
    output.close(time.monotonic() + 0.1)
