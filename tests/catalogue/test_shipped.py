"""The shipped tables, held to the rules that docs/reference/catalogue.md states."""

import csv
import ipaddress
import itertools
import re
from collections import Counter
from datetime import date
from pathlib import Path

import pytest

import apptell.catalogue
from apptell.catalogue import CATEGORIES, Catalogue
from apptell.catalogue.rows import domain_fault
from apptell.names.domains import comparable_name

FOLDER = Path(apptell.catalogue.__file__).parent


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.load()


def _rows(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_there_are_at_least_three_hundred_apps_of_every_part_of_the_world(
    catalogue: Catalogue,
) -> None:
    assert len(catalogue.apps) >= 300
    countries = Counter(app.country for app in catalogue.apps.values())
    assert all(countries[code] >= 3 for code in ("CN", "IN", "RU", "KR", "JP", "DE"))


def test_the_tables_are_sorted_for_people_who_review_them() -> None:
    apps = [row["id"] for row in _rows("apps.csv")]
    assert apps == sorted(apps)
    keys = [
        (row["kind"] != "app", row["app"], row["service"].lower(), row["service"], row["kind"],
         row["domain"], row["match"])
        for row in _rows("domains.csv")
    ]  # fmt: skip
    assert keys == sorted(keys)
    owners = [row["app"] for row in _rows("ranges.csv")]
    assert owners == sorted(owners)


def test_every_domain_is_one_that_a_row_may_have(catalogue: Catalogue) -> None:
    faults = [fault for row in catalogue.domains if (fault := domain_fault(row.domain))]
    assert faults == []
    changed = [
        row.domain
        for row in catalogue.domains
        if (plain := row.domain.removeprefix("*-").replace(".*.", ".")) != comparable_name(plain)
    ]
    assert changed == []


def test_a_domain_stands_for_one_thing(catalogue: Catalogue) -> None:
    claims: dict[str, set[str | None]] = {}
    for row in catalogue.domains:
        claims.setdefault(row.domain, set()).add(row.app)
    assert [domain for domain, apps in claims.items() if len(apps - {None}) > 1] == []


def test_no_row_repeats_what_a_wider_row_says(catalogue: Catalogue) -> None:
    suffixes = {row.domain: row for row in catalogue.domains if row.match == "suffix"}
    repeats = []
    for row in catalogue.domains:
        rest = row.domain if row.match == "exact" else row.domain.partition(".")[2]
        while rest:
            wider = suffixes.get(rest)
            if wider is not None:
                if (wider.kind, wider.app, wider.service) == (row.kind, row.app, row.service):
                    repeats.append(f"{row.domain} below {wider.domain}")
                break
            rest = rest.partition(".")[2]
    assert repeats == []


def test_every_app_has_a_domain_or_a_package(catalogue: Catalogue) -> None:
    named = {row.app for row in catalogue.domains}
    assert [
        app.id
        for app in catalogue.apps.values()
        if app.id not in named and not app.android + app.ios
    ] == []


def test_names_packages_and_bundles_belong_to_one_app(catalogue: Catalogue) -> None:
    for values in (
        [app.name.casefold() for app in catalogue.apps.values()],
        [package for app in catalogue.apps.values() for package in app.android],
        [bundle for app in catalogue.apps.values() for bundle in app.ios],
    ):
        assert [value for value, n in Counter(values).items() if n > 1] == []


def test_packages_and_countries_are_well_formed(catalogue: Catalogue) -> None:
    for app in catalogue.apps.values():
        assert app.category in CATEGORIES
        assert re.fullmatch(r"[A-Z]{2}", app.country or ""), app.id
        for package in (*app.android, *app.ios):
            assert re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", package), package


def test_every_row_says_where_it_is_published_and_when_it_was_checked(catalogue: Catalogue) -> None:
    for row in (*catalogue.domains, *catalogue.ranges):
        assert row.published
        assert row.published in ("own site", "registration") or row.published.startswith("https://")
        assert date.fromisoformat(row.checked or "") >= date(2026, 1, 1)


def test_ranges_are_public_disjoint_and_narrow(catalogue: Catalogue) -> None:
    for version in (4, 6):
        rows = [row for row in catalogue.ranges if row.network.version == version]
        assert all(row.network.is_global for row in rows)
        for row in rows:  # of a wider network an app has some ports alone
            least = (16 if version == 4 else 29) if row.ports is None else 14
            assert row.network.prefixlen >= least, row
        networks = sorted({row.network for row in rows})  # type: ignore[type-var]
        for before, after in itertools.pairwise(networks):
            assert before.broadcast_address < after.network_address  # type: ignore[operator]


@pytest.mark.parametrize(
    ("address", "protocol", "port", "app"),
    [
        ("52.113.0.1", 17, 3479, "teams"),
        ("52.113.0.1", 6, 443, None),
        ("74.125.250.9", 17, 19305, "google-meet"),
        ("74.125.250.9", 17, 443, None),
    ],
)
def test_media_of_calls_is_told_by_published_ports(
    catalogue: Catalogue, address: str, protocol: int, port: int, app: str | None
) -> None:
    assert catalogue.owner_of(address, protocol, port) == app


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8", "1.1.1.1", "142.250.74.78", "17.57.146.20", "157.240.1.35", "52.94.236.248",
        "13.107.42.14", "104.16.1.1", "151.101.1.140", "2606:4700::1111", "2a03:2880:f12d::1",
    ],
)  # fmt: skip
def test_no_range_belongs_to_a_cloud_or_a_provider(catalogue: Catalogue, address: str) -> None:
    assert ipaddress.ip_address(address)
    assert catalogue.owner_of(address) is None


@pytest.mark.parametrize(
    "name",
    [
        "graph.facebook.com", "www.googleapis.com", "fonts.gstatic.com", "gateway.icloud.com",
        "d111111abcdef8.cloudfront.net", "app.adjust.com", "settings.crashlytics.com",
        "e1234.a.akamaiedge.net", "mtalk.google.com", "courier.push.apple.com", "login.live.com",
        "scontent.xx.fbcdn.net", "googleads.g.doubleclick.net", "s3.amazonaws.com",
    ],
)  # fmt: skip
def test_shared_services_name_no_app(catalogue: Catalogue, name: str) -> None:
    match = catalogue.lookup(name)
    assert match.app is None
    assert match.kind in ("platform", "cdn", "sdk", "ads")
    assert match.service


@pytest.mark.parametrize(
    ("name", "app"),
    [
        ("g.whatsapp.net", "whatsapp"),
        ("scontent.cdninstagram.com", "instagram"),
        ("rr3---sn-4g5e6nze.googlevideo.com", "youtube"),
        ("mail.google.com", "gmail"),
        ("ap-gew1.spotify.com", "spotify"),
        ("chat.signal.org", "signal"),
        ("gateway.discord.gg", "discord"),
        ("api.telegram.org", "telegram"),
        ("sun9-1.userapi.com", "vk"),
        ("short.weixin.qq.com", "wechat"),
        ("v16-webapp.tiktok.com", "tiktok"),
        ("www.bilibili.com", "bilibili"),
        ("atv-ps.amazon.com", "prime-video"),
        ("www.amazon.co.jp", "amazon"),
        ("ipv4-c001-fra001-ix.1.oca.nflxvideo.net", "netflix"),
    ],
)
def test_well_known_names_tell_their_apps(catalogue: Catalogue, name: str, app: str) -> None:
    assert catalogue.lookup(name).app == app


def test_the_tables_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.glob("*.csv")) < 1_000_000
