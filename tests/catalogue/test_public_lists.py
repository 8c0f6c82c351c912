import json
import sys
from pathlib import Path

import pytest

from apptell.catalogue import Catalogue
from apptell.catalogue.public_lists import Imported, import_list
from apptell.errors import CatalogueError, MissingError, UsageError


def _write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def _rows(found: Imported) -> list[tuple[str | None, ...]]:
    return [
        (row["domain"], row["match"], row["kind"], row["app"] or row["service"])
        for row in found.rows
    ]


LISTS = {
    "shop": """\
# a shop
shop.example            # its site
full:www.shop-cdn.example @cn
domain:shop-api.example @!cn &sale
ads.shop.example @ads
regexp:^img[0-9]+\\.shop\\.example$
keyword:shop
include:pay
strange:thing
""",
    "pay": "pay.example\nshared.example\ninclude:shop\n",
    "bank": "shared.example\ninclude:nowhere\ninclude:../secret\ninclude:" + "x" * 5000,
}


def test_a_folder_of_domain_lists_gives_each_list_its_own_domains(tmp_path: Path) -> None:
    found = import_list("domain-list-community", _write(tmp_path / "data", LISTS))
    assert _rows(found) == [
        ("shared.example", "suffix", "platform", "bank, pay"),
        ("pay.example", "suffix", "platform", "pay"),
        ("ads.shop.example", "suffix", "ads", "shop"),
        ("shop-api.example", "suffix", "platform", "shop"),
        ("shop.example", "suffix", "platform", "shop"),
        ("www.shop-cdn.example", "exact", "platform", "shop"),
    ]
    assert found.skipped == {
        "regexp": 1,
        "keyword": 1,
        "included list, which is read by itself": 5,
        "line of an unknown kind": 1,
        "claimed by several: a shared service": 1,
    }


def test_chosen_domain_lists_bring_what_they_include(tmp_path: Path) -> None:
    folder = _write(tmp_path / "data", LISTS)
    (tmp_path / "secret").write_text("secret.example\n")
    found = import_list("domain-list-community", folder, kind="app", only=["shop"])
    assert ("pay.example", "suffix", "app", "shop") in _rows(found)
    assert ("ads.shop.example", "suffix", "ads", "shop") in _rows(found)
    found = import_list("domain-list-community", folder / "bank")
    assert _rows(found) == [("shared.example", "suffix", "platform", "bank")]
    assert found.skipped["included list that is missing"] == 3


def test_a_hosts_file_gives_exact_names_of_advertising(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text(
        "127.0.0.1 localhost\n::1 localhost ip6-localhost\nfe80::1%lo0 localhost\n"
        "0.0.0.0 ads.example.com track.example.com # two\n"
        "alone.example.com\n0.0.0.0 0.0.0.0\n0.0.0.0 bad..name\nnot an address\n"
    )
    found = import_list("hosts", path)
    assert _rows(found) == [
        (f"{name}.example.com", "exact", "ads", f"{name}.example.com")
        for name in ("ads", "alone", "track")
    ]
    assert found.skipped["not a domain that a row may have"] == 2  # bad..name and ip6-localhost
    assert found.skipped["line without an address"] == 1
    assert found.skipped["name of this machine"] == 4


SERVICES = {
    "blocked_services": [
        {
            "id": "chatter",
            "name": "Chatter",
            "rules": [
                "||chatter.example^",
                "||müller.example^$important",
                "@@||ok.example^",
                "/x/",
            ],
        },
        {"id": "tube", "name": "Tube", "rules": ["||tube.example^", "||*.tube.example^", 7]},
    ]
}


def test_adguard_services_are_read_from_json(tmp_path: Path) -> None:
    path = tmp_path / "services.json"
    path.write_text(json.dumps(SERVICES))
    found = import_list("adguard", path)
    assert _rows(found) == [
        ("chatter.example", "suffix", "app", "Chatter"),
        ("xn--mller-kva.example", "suffix", "app", "Chatter"),
        ("tube.example", "suffix", "app", "Tube"),
    ]
    assert found.skipped == {"rule of another form than ||domain^": 4}


def test_adguard_services_are_read_from_a_folder_of_yaml(tmp_path: Path) -> None:
    folder = _write(
        tmp_path / "services",
        {
            "chatter.yml": "id: chatter\nname: Chatter\nrules:\n  - '||chatter.example^'\n",
            "tube.yml": "id: tube\nname: Tube\nrules:\n  - '||tube.example^'\n",
            "README.md": "no service",
        },
    )
    found = import_list("adguard", folder, only=["Tube"])
    assert _rows(found) == [("tube.example", "suffix", "app", "Tube")]


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("a.json", "{", "Expecting property name"),
        ("a.json", "[" * 100_000, "nested too deeply|recursion"),
        ("a.json", "7", "not a service, nor a list of services"),
        ("a.json", '[{"name": "A"}]', "a service needs a name and a list of rules"),
        ("a.yaml", "a: [", "while parsing"),
        ("a.yaml", "!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("a.yaml", "[" * 5000, "nested too deeply"),
        ("a.yaml", "#" * (1 << 20) + "\n", "more than 1 MiB of YAML"),
        ("a.json", "\udcff", "not UTF-8"),
    ],
)
def test_a_damaged_service_list_is_one_error(
    tmp_path: Path, name: str, content: str, fault: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(CatalogueError, match=fault) as caught:
        import_list("adguard", path)
    assert "\n" not in str(caught.value)


def test_a_plain_list_names_apps(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("domain,app\na.example,My App # mine\n*.b.example,B\nc.example\nco.uk,C\n")
    found = import_list("plain", path)
    assert _rows(found) == [
        ("b.example", "suffix", "app", "B"),
        ("a.example", "suffix", "app", "My App"),
    ]
    assert found.skipped == {"line without an app": 1, "not a domain that a row may have": 1}


def test_domains_that_the_catalogue_has_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("cdn.whatsapp.net,Other\nnew.example,New\n")
    known = Catalogue.load()
    found = import_list("plain", path, known=known)
    assert _rows(found) == [("new.example", "suffix", "app", "New")]
    assert found.skipped == {"in the catalogue already": 1}


def test_an_import_can_be_loaded_as_a_users_file(tmp_path: Path) -> None:
    from apptell.catalogue.public_lists import IMPORT_SCHEMA
    from apptell.records.forms import form_of_name
    from apptell.records.writers import open_writer

    found = import_list("domain-list-community", _write(tmp_path / "data", LISTS), kind="app")
    with open_writer(tmp_path / "mine.csv", form_of_name("csv"), IMPORT_SCHEMA) as writer:
        writer.write(found.to_arrow())
    catalogue = Catalogue.load([tmp_path / "mine.csv"])
    assert catalogue.lookup("img.shop.example").app == "shop"
    assert catalogue.lookup("x.ads.shop.example").kind == "ads"
    assert catalogue.lookup("x.shared.example").service == "bank, pay"
    assert catalogue.lookup("x.www.shop-cdn.example").app is None


def test_unknown_forms_and_lists_are_named(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("a.example,A\n")
    with pytest.raises(
        UsageError, match="unknown form of list 'rpz'; available: domain-list-community"
    ):
        import_list("rpz", path)
    with pytest.raises(UsageError, match="no list or service 'B'"):
        import_list("plain", path, only=["A", "B"])
    with pytest.raises(CatalogueError, match="No such file"):
        import_list("hosts", tmp_path / "nowhere")
    with pytest.raises(CatalogueError, match="0 lists"):
        import_list("adguard", _write(tmp_path / "empty", {}))


def test_yaml_without_its_library_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.yml"
    path.write_text("name: A\nrules: []\n")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingError, match=r"pip install 'apptell\[yaml\]'"):
        import_list("adguard", path)
