from pathlib import Path

import pyarrow as pa
import pytest

from apptell.catalogue import MATCH_SCHEMA, Catalogue, Match
from apptell.catalogue.tables import Tables, add_file

ROWS = """\
domain,app,match,kind,service
chat.example,Chat,,,
files.chat.example,Files,,,
exact.chat.example,Other,exact,,
sdk.chat.example,,,sdk,Chat SDK
picture.*.cache.example,Chat,,,
cache.example,,,cdn,Cache
müller.example,Müller,,,
198.51.100.0/24,Chat,,,
198.51.100.128/25,Files,,,
2001:db8::/32,Chat,,,
"""


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    path = tmp_path_factory.mktemp("catalogue") / "mine.csv"
    path.write_text(ROWS, encoding="utf-8")
    tables = Tables()
    add_file(tables, path)
    return Catalogue(tables)


@pytest.mark.parametrize(
    ("name", "app"),
    [
        ("chat.example", "chat"),
        ("a.b.chat.example", "chat"),
        ("A.Chat.EXAMPLE", "chat"),
        ("a.chat.example.", "chat"),
        ("a.chat.example:8080", "chat"),
        ("198.51.100.7:80", None),
        ("2001:db8::1", None),
        ("a.files.chat.example", "files"),  # the longer suffix wins
        ("exact.chat.example", "other"),  # an exact row wins
        ("below.exact.chat.example", "chat"),  # and says nothing of names below it
        ("notchat.example", None),
        ("picture.lon1.cache.example", "chat"),  # * stands for one label
        ("a.picture.lon1.cache.example", "chat"),
        ("picture.cache.example", None),
        ("picture.a.b.cache.example", None),
        ("video.lon1.cache.example", None),
        ("www.müller.example", "müller"),
        ("www.MÜLLER.example", "müller"),
        ("www.xn--mller-kva.example", "müller"),
        ("198.51.100.7", None),
        ("[2001:db8::1]", None),
        ("", None),
        ("chat..example", None),
        ("chat.example\x00", None),
        (None, None),
    ],
)
def test_a_name_tells_the_app_of_its_most_specific_row(
    catalogue: Catalogue, name: str | None, app: str | None
) -> None:
    assert catalogue.lookup(name).app == app


def test_a_shared_service_tells_no_app(catalogue: Catalogue) -> None:
    match = catalogue.lookup("api.sdk.chat.example")
    assert (match.app, match.app_name, match.service, match.kind) == (None, None, "Chat SDK", "sdk")


def test_an_unknown_name_gives_its_registered_domain_as_the_service(catalogue: Catalogue) -> None:
    assert catalogue.lookup("www.shop.co.uk") == Match(service="shop.co.uk")
    assert catalogue.lookup("192.0.2.1") == Match()


def test_a_column_of_names_is_looked_up_as_each_name_is(catalogue: Catalogue) -> None:
    names = ["a.chat.example", None, "x.cache.example", "a.chat.example", "unknown.org", "1.2.3.4"]
    for column in (
        pa.array(names, pa.string()),
        pa.array(names, pa.string()).dictionary_encode(),
        pa.chunked_array([names[:2], names[2:]], pa.string()),
    ):
        found = catalogue.lookup_all(column)
        assert found.schema == MATCH_SCHEMA
        assert found.column("app").to_pylist() == ["chat", None, None, "chat", None, None]
        assert found.column("app_name").to_pylist() == ["Chat", None, None, "Chat", None, None]
        assert found.column("kind").to_pylist() == ["app", None, "cdn", "app", None, None]
        assert found.column("service").to_pylist() == [
            "Chat", None, "Cache", "Chat", "unknown.org", None,
        ]  # fmt: skip
        assert found.column("domain").to_pylist() == [
            "chat.example", None, "cache.example", "chat.example", None, None,
        ]  # fmt: skip


@pytest.mark.parametrize("empty", [pa.array([], pa.string()), pa.chunked_array([], pa.string())])
def test_an_empty_column_gives_no_rows(catalogue: Catalogue, empty: pa.Array) -> None:
    assert catalogue.lookup_all(empty).num_rows == 0


@pytest.mark.parametrize(
    ("address", "app"),
    [
        ("198.51.99.255", None),
        ("198.51.100.0", "chat"),
        ("198.51.100.127", "chat"),
        ("198.51.100.128", "files"),  # the narrower range wins
        ("198.51.100.255", "files"),
        ("198.51.101.0", None),
        ("::ffff:198.51.100.1", "chat"),
        ("2001:db8::", "chat"),
        ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "chat"),
        ("2001:db9::", None),
        ("255.255.255.255", None),
        ("chat.example", None),
        ("1.2.3", None),
        ("1.2.3.4\x00", None),
        (None, None),
    ],
)
def test_an_address_tells_the_app_that_owns_its_range(
    catalogue: Catalogue, address: str | None, app: str | None
) -> None:
    assert catalogue.owner_of(address) == app
    assert catalogue.owner_of(address, 6, 443) == app


@pytest.mark.parametrize(
    ("name", "app"),
    [
        ("contoso-my.sharepoint.com", "onedrive"),
        ("a.contoso-my.sharepoint.com", "onedrive"),
        ("-my.sharepoint.com", None),
        ("contoso.sharepoint.com", None),
        ("contoso-my.example.com", None),
    ],
)
def test_a_row_can_stand_for_an_ending_of_the_first_label(name: str, app: str | None) -> None:
    assert Catalogue.load().lookup(name).app == app


def test_a_range_can_be_an_app_s_on_some_ports_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(
        "domain,app,transport,ports\n"
        "198.51.0.0/16,Calls,udp,3478-3481\n"
        "198.51.0.0/16,Web,TCP,443\n"
        "198.51.7.0/24,Files\n"
        "198.51.7.0/24,Games,,443\n",
        encoding="utf-8",
    )
    tables = Tables()
    add_file(tables, path)
    catalogue = Catalogue(tables)
    servers = [
        ("198.51.1.1", 17, 3478, "calls"),
        ("198.51.1.1", 17, 3481, "calls"),
        ("198.51.1.1", 17, 3482, None),
        ("198.51.1.1", 6, 3478, None),
        ("198.51.1.1", 6, 443, "web"),
        ("198.51.1.1", 17, 443, None),
        ("198.51.7.1", 6, 443, "games"),
        ("198.51.7.1", 17, 3478, "files"),
        ("198.52.0.0", 17, 3478, None),
    ]
    for address, protocol, port, app in servers:
        assert catalogue.owner_of(address, protocol, port) == app
    assert catalogue.owner_of("198.51.1.1") is None
    shown = [row.key for row in catalogue.ranges_at("198.51.7.1")]
    assert shown == [
        "198.51.7.0/24 443",
        "198.51.7.0/24",
        "198.51.0.0/16 udp 3478-3481",
        "198.51.0.0/16 tcp 443",
    ]


def test_a_range_up_to_the_last_address_has_no_end(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("255.0.0.0/8,Last\nff00::/8,Last\n", encoding="utf-8")
    tables = Tables()
    add_file(tables, path)
    catalogue = Catalogue(tables)
    assert catalogue.owner_of("255.255.255.255") == "last"
    assert catalogue.owner_of("ffff::ffff") == "last"


def test_an_app_is_found_by_id_name_package_and_bundle() -> None:
    catalogue = Catalogue.load()
    for text in ("whatsapp", "WhatsApp", "com.whatsapp", "net.whatsapp.WhatsApp"):
        app = catalogue.find_app(text)
        assert app is not None
        assert app.id == "whatsapp"
    assert catalogue.find_app("no such app") is None
    assert "whatsapp" in catalogue.suggestions("whatsap")
