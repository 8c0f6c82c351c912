import csv
import json
from pathlib import Path

from apptell.testing import START_NS, client_hello, conversation, write_pcap

from .conftest import Run


def test_an_app_is_shown_with_its_domains_and_ranges(run: Run) -> None:
    for what in ("telegram", "Telegram", "org.telegram.messenger"):
        done = run("catalogue", "show", what)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["app"] == "telegram"
        assert "telegram.org" in [row["domain"] for row in found["domains"]]
        assert "149.154.160.0/20" in [row["range"] for row in found["ranges"]]


def test_a_name_and_an_address_are_shown_with_what_they_say(run: Run) -> None:
    found = json.loads(run("catalogue", "show", "graph.facebook.com").stdout)
    assert (found["app"], found["kind"]) == (None, "sdk")
    found = json.loads(run("catalogue", "show", "www.nobody.example").stdout)
    assert (found["service"], found["kind"], found["domain"]) == ("nobody.example", None, None)
    assert json.loads(run("catalogue", "show", "149.154.167.50").stdout)["app"] == "telegram"
    assert json.loads(run("catalogue", "show", "[2001:67c:4e8::1]").stdout)["app"] == "telegram"


def test_a_word_that_is_nothing_is_refused_with_similar_apps(run: Run) -> None:
    done = run("catalogue", "show", "telegrm")
    assert done.returncode == 2
    assert done.stderr.startswith("apptell: 'telegrm' is neither an app of the catalogue nor")
    assert "telegram" in done.stderr


def test_a_file_of_ones_own_adds_a_row_from_flag_and_settings(run: Run, tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_text("nobody.example,My App\n")
    done = run("catalogue", "show", "www.nobody.example", "--catalogue", mine)
    assert json.loads(done.stdout)["app"] == "my-app"
    settings = tmp_path / "apptell.toml"
    settings.write_text(f'[catalogue.show]\ncatalogue = ["{mine}"]\n')
    done = run("--config", settings, "catalogue", "show", "www.nobody.example")
    assert json.loads(done.stdout)["app"] == "my-app"
    mine.write_text("com,My App\n")
    done = run("catalogue", "show", "www.nobody.example", "--catalogue", mine)
    assert done.returncode == 1
    assert done.stderr == f"apptell: {mine}: line 1: 'com' is a public suffix or a single label\n"


def _capture(path: Path) -> Path:
    packets = []
    names = ("a.lacking.example", "b.lacking.example", "g.whatsapp.net", "x.akamaized.net")
    for number, name in enumerate(names):
        client, server = ("10.0.0.1", 40000 + number), (f"198.51.100.{number}", 443)
        messages = [(True, client_hello(name)), (False, b"\x16\x03\x03\x00\x02ab")]
        packets += conversation(client, server, messages, start_ns=START_NS + number * 10**9)
    return write_pcap(path, packets)


def test_domains_that_the_catalogue_lacks_are_listed(run: Run, tmp_path: Path) -> None:
    done = run("catalogue", "check", _capture(tmp_path / "a.pcap"))
    assert done.returncode == 0, done.stderr
    (found,) = map(json.loads, done.stdout.splitlines())
    assert (found["domain"], found["flows"], found["clients"]) == ("lacking.example", 2, 1)
    assert found["names"] == 2
    assert done.stderr == (
        "4 flows: 1 with a name of 1 apps, 1 of shared services, 2 with a name that the "
        "catalogue lacks, 0 without a name\n"
    )


def test_a_damaged_capture_is_checked_up_to_its_damage(run: Run, tmp_path: Path) -> None:
    capture = _capture(tmp_path / "a.pcap")
    capture.write_bytes(capture.read_bytes()[:-20])
    done = run("catalogue", "check", capture)
    assert done.returncode == 1
    assert json.loads(done.stdout.splitlines()[0])["domain"] == "lacking.example"


def test_a_list_becomes_a_file_for_the_catalogue_option(run: Run, tmp_path: Path) -> None:
    hosts, mine = tmp_path / "hosts", tmp_path / "mine.csv"
    hosts.write_text("0.0.0.0 ads.nobody.example\n0.0.0.0 graph.facebook.com\n")
    done = run("catalogue", "import", "hosts", hosts, "-o", mine)
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"{mine}: 1 rows\n  1 in the catalogue already\n"
    with mine.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["domain"], row["match"], row["kind"]) == ("ads.nobody.example", "exact", "ads")
    found = json.loads(run("catalogue", "show", "ads.nobody.example", "--catalogue", mine).stdout)
    assert found["kind"] == "ads"
    assert run("catalogue", "import", "hosts", hosts, "--kind", "x", "-o", mine).returncode == 2
