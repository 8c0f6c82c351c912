import sys
from pathlib import Path

import pytest

from apptell.catalogue import Catalogue
from apptell.catalogue.tables import MAX_FILE_BYTES, read_shipped
from apptell.errors import CatalogueError


def _load(tmp_path: Path, content: str | bytes) -> Catalogue:
    path = tmp_path / "mine.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return Catalogue.load([path])


def test_one_line_adds_an_app_that_apps_csv_does_not_have(tmp_path: Path) -> None:
    match = _load(tmp_path, "example.com,My App\n").lookup("api.example.com")
    assert (match.app, match.app_name, match.category, match.kind) == (
        "my-app",
        "My App",
        None,
        "app",
    )


def test_a_third_field_is_the_category(tmp_path: Path) -> None:
    assert (
        _load(tmp_path, "example.com,My App,Shopping\n").lookup("example.com").category
        == "shopping"
    )


@pytest.mark.parametrize("written", ["whatsapp", "WhatsApp", "WHATSAPP"])
def test_a_line_may_name_an_app_of_the_catalogue(tmp_path: Path, written: str) -> None:
    match = _load(tmp_path, f"example.com,{written}\n").lookup("example.com")
    assert (match.app, match.app_name, match.category) == ("whatsapp", "WhatsApp", "messaging")


def test_a_line_overrides_a_shipped_row(tmp_path: Path) -> None:
    assert Catalogue.load().lookup("graph.facebook.com").app is None
    changed = _load(tmp_path, "graph.facebook.com,Facebook\n")
    assert changed.lookup("graph.facebook.com").app == "facebook"


def test_a_line_can_make_a_shipped_app_row_a_shared_service(tmp_path: Path) -> None:
    match = _load(tmp_path, "domain,service,kind\nsignal.org,Relay,platform\n").lookup("signal.org")
    assert (match.app, match.service, match.kind) == (None, "Relay", "platform")


def test_later_files_override_earlier_ones(tmp_path: Path) -> None:
    for name in ("A", "B"):
        (tmp_path / name).write_text(f"example.com,{name}\n")
    assert Catalogue.load([tmp_path / "A", tmp_path / "B"]).lookup("example.com").app == "b"
    assert Catalogue.load([tmp_path / "B", tmp_path / "A"]).lookup("example.com").app == "a"


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffexample.com,Shop\n",
        "# a comment\n\nexample.com,Shop\r\n",
        ' example.com , "Shop" \n',
        "*.example.com,Shop\n",
        ".Example.COM.,Shop",
        "domain,app\nexample.com,Shop\n",
        "App,Domain\nShop,example.com\n",
    ],
)
def test_a_line_may_be_written_in_several_ways(tmp_path: Path, content: str) -> None:
    assert _load(tmp_path, content).lookup("www.example.com").app == "shop"


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert _load(tmp_path, "").domains == Catalogue.load().domains


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("example.com\n", "line 1: 1 fields, not 2 to 3"),
        ("example.com,A,b,c\n", "line 1: 4 fields, not 2 to 3"),
        ("# x\nco.uk,Shop\n", "line 2: 'co.uk' is a public suffix or a single label"),
        ("localhost,Shop\n", "line 1: 'localhost' is a public suffix or a single label"),
        (
            "picture.*.co.uk,Shop\n",
            "line 1: 'picture.*.co.uk' is a public suffix or a single label",
        ),
        ("*,Shop\n", "line 1: '*' is not a domain"),
        ("a.*.*.example.com,Shop\n", "line 1: 'a.*.*.example.com' is not a domain"),
        ("exa mple.com,Shop\n", "line 1: 'exa mple.com' is not a domain"),
        ("192.0.2.1,Shop\n", "line 1: '192.0.2.1' is not a domain"),
        ("192.0.2.1/24,Shop\n", "line 1: 192.0.2.1/24 has host bits set"),
        ("0.0.0.0/0,Shop\n", "line 1: 0.0.0.0/0 is too wide to belong to one app"),
        ("domain,kind\n10.0.0.0/8,cdn\n", "line 2: an address range needs an app"),
        ("example.com,/\n", "line 1: '/' is not the name of an app"),
        (f"example.com,{'x' * 65}\n", "line 1: the app's name is longer than 64 characters"),
        ("a.com,A\na.com,B\n", "line 2: a.com has another meaning in an earlier line"),
        ("domain,app,ports\na.com,A,80\n", "line 2: a domain has no transport and no ports"),
        ("10.0.0.0/8,A\n10.0.0.0/8,B\n", "line 2: 10.0.0.0/8 has another meaning"),
        (
            "domain,app,kind\na.com,A,advert\n",
            "line 2: unknown kind 'advert'; available: app, platform",
        ),
        (
            "domain,app,match\na.com,A,regex\n",
            "line 2: unknown match 'regex'; available: suffix, exact",
        ),
        ("domain,app,colour\n", "line 1: columns are domain, app, category"),
        ("domain,app,app\n", "line 1: columns are domain, app, category"),
        ("domain,service,kind\na.com,,app\n", "line 2: an app only with the kind 'app'"),
        ('example.com,"Shop\n', "line 1: not CSV: unexpected end of data"),
        (f"example.com,{'x' * 200_000}\n", "line 1: longer than 4,096 characters"),
        (b"a.com,A\nb.com,\xff\n", "line 2: not UTF-8 text"),
        (f"{'a.' * 200}com,Shop\n", "is not a domain"),
    ],
)
def test_a_bad_line_is_one_error_with_its_place(
    tmp_path: Path, content: str | bytes, fault: str
) -> None:
    with pytest.raises(CatalogueError) as caught:
        _load(tmp_path, content)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'mine.csv'}: ")
    assert fault in message
    assert "\n" not in message
    assert len(message) < len(str(tmp_path)) + 250


def test_the_same_line_twice_is_no_fault(tmp_path: Path) -> None:
    assert _load(tmp_path, "a.com,A\nA.com,a\n").lookup("a.com").app == "a"


def test_an_app_name_never_carries_control_characters_or_slashes(tmp_path: Path) -> None:
    match = _load(tmp_path, "example.com,a\x1b[31m/b\n").lookup("example.com")
    assert match.app is not None
    assert match.app.isprintable()
    assert "/" not in match.app
    assert match.app_name is not None
    assert match.app_name.isprintable()


def test_a_file_that_is_missing_or_a_folder_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="nowhere: No such file"):
        Catalogue.load([tmp_path / "nowhere"])
    with pytest.raises(CatalogueError, match="Is a directory"):
        Catalogue.load([tmp_path])
    with pytest.raises(CatalogueError, match="null"):
        Catalogue.load(["a\0b"])


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/zero")
def test_a_file_without_end_is_refused_by_its_size() -> None:
    with pytest.raises(CatalogueError, match=f"larger than {MAX_FILE_BYTES >> 20} MiB"):
        Catalogue.load(["/dev/zero"])


APPS = "id,name,category,provider,country,android,ios\n"
DOMAINS = "domain,match,kind,app,service,published,checked\n"
RANGES = "range,transport,ports,app,published,checked\n"
APP = APPS + "a,A,music,A Ltd,GB,,\n"


@pytest.mark.parametrize(
    ("apps", "domains", "ranges", "fault"),
    [
        ("id,name\n", DOMAINS, RANGES, "apps.csv: line 1: the header is not id,name,category"),
        ("", DOMAINS, RANGES, "apps.csv: line 1: the header is not"),
        (APPS + "A,A,music,A,GB,,\n", DOMAINS, RANGES, "apps.csv: line 2: 'A' is not an app's id"),
        (
            APPS + "a,A,musik,A,GB,,\n",
            DOMAINS,
            RANGES,
            "apps.csv: line 2: unknown category 'musik'",
        ),
        (APPS + "a,A,music,,GB,,\n", DOMAINS, RANGES, "line 2: an app needs a name and a provider"),
        (
            APP + "a,B,music,B,GB,,\n",
            DOMAINS,
            RANGES,
            "apps.csv: line 3: the app 'a' occurs twice",
        ),
        (APP, DOMAINS + "a.com,suffix,app,b,,,\n", RANGES, "line 2: apps.csv has no app 'b'"),
        (
            APP,
            DOMAINS + "a.com,suffix,app,,A,,\n",
            RANGES,
            "line 2: an app only with the kind 'app'",
        ),
        (
            APP,
            DOMAINS + "a.com,suffix,sdk,a,,,\n",
            RANGES,
            "line 2: an app only with the kind 'app'",
        ),
        (
            APP,
            DOMAINS + "a.com,suffix,app,a,,,\n" * 2,
            RANGES,
            "line 3: a.com (suffix) occurs twice",
        ),
        (
            APP,
            DOMAINS,
            RANGES + "10.0.0.0/8,,,b,,\n",
            "ranges.csv: line 2: apps.csv has no app 'b'",
        ),
        (APP, DOMAINS, RANGES + "10.0.0.0/8,,,a,,\n" * 2, "line 3: 10.0.0.0/8 occurs twice"),
        (APP, DOMAINS, RANGES + "ten,,,a,,\n", "ranges.csv: line 2: 'ten' does not appear to be"),
        (
            APP,
            DOMAINS,
            RANGES + "10.0.0.0/8,icmp,,a,,\n",
            "no transport 'icmp'; available: tcp, udp",
        ),
        (APP, DOMAINS, RANGES + "10.0.0.0/8,udp,0,a,,\n", "'0' is not a port or a range of ports"),
        (APP, DOMAINS, RANGES + "10.0.0.0/8,,9-8,a,,\n", "'9-8' is not a port or a range of ports"),
        (APP, DOMAINS, RANGES + "10.0.0.0/8,,1-65536,a,,\n", "is not a port or a range of ports"),
    ],
)
def test_a_fault_of_a_shipped_table_is_found_when_it_is_read(
    tmp_path: Path, apps: str, domains: str, ranges: str, fault: str
) -> None:
    for name, content in (("apps", apps), ("domains", domains), ("ranges", ranges)):
        (tmp_path / f"{name}.csv").write_text(content)
    with pytest.raises(CatalogueError) as caught:
        read_shipped(tmp_path)
    assert fault in str(caught.value)
