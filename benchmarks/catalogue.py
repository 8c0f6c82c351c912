"""Compares the catalogue of apps with two public lists of domains and a list of published address ranges.

    python benchmarks/catalogue.py LISTS [--missing] [--json FILE]

LISTS is a folder with ``domain-list-community.csv`` and ``services.csv`` (columns ``service``, ``match``,
``domain``; the match ``ads`` marks advertising) and ``ranges.csv`` (``owner``, ``range``). The lists are not
part of the project and not a source of the catalogue: they show what it lacks and where the two contradict
each other.

A list stands for an app when its name is the app's id, name or provider, comparing only letters and digits,
or if LISTS_OF has it. Each domain of a list agrees (the catalogue names an app that the list stands for), is
shared (the catalogue has it as a platform, delivery network, SDK or advertising), is missing, or contradicts
(the catalogue names another app). Advertising of an app's own domain agrees. DECIDED holds the contradictions
that were reviewed, with the reason why the catalogue's row stays; these are counted as decided, the others
are printed.
"""

from __future__ import annotations

import argparse
import csv
import ipaddress
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apptell.catalogue import App, Catalogue

FILES = ("domain-list-community.csv", "services.csv")
LISTS_OF = {
    "58tongcheng": "ganji-58",
    "9news": "9now",
    "abc": "abc-news",
    "alibaba": "alipay",
    "aliyun": "aliyundrive",
    "ap": "ap-news",
    "apple-tvplus": "apple-tv",
    "asahi": "asahi-shimbun",
    "att": "directv",
    "attwatchtv": "directv",
    "barrons": "wall-street-journal",
    "bilibili-cdn": "bilibili",
    "bing": "copilot",
    "bitauto": "yiche",
    "cbs": "cbs-news cbs-sports paramountplus",
    "ctrip": "qunar",
    "douyin": "huoshan qishui",
    "dowjones": "wall-street-journal",
    "formula1": "f1-tv",
    "fqnovel": "fanqie",
    "ft": "financial-times",
    "ganji": "ganji-58",
    "google-deepmind": "gemini notebooklm",
    "guo": "gettr",
    "hbo": "max-streaming",
    "hikvision": "ezviz",
    "hketgroup": "hket",
    "hsbc-cn": "hsbc",
    "hunantv": "mango-tv",
    "insider": "business-insider",
    "itiger": "tiger-brokers",
    "itunes": "apple-music app-store",
    "jetbrains-ai": "jetbrains",
    "kakao": "kakaobank zigzag",
    "kingsoft": "clean-master",
    "kuaikan": "kuaikan-comics",
    "kurogames": "wuthering-waves",
    "lark-global": "lark",
    "lianjia": "beike",
    "linguee": "deepl",
    "ltn": "liberty-times",
    "mailru-group": "tamtam vk vk-video mailru-mail icq max war-robots youla uchi-ru",
    "mainichi": "mainichi-shimbun",
    "mastodon": "pixelfed",
    "matrix": "element",
    "mdn": "firefox",
    "mediachinesegroup": "ming-pao",
    "microsoft-dev": "vscode",
    "mihoyo-cn": "miyoushe honkai3 honkai-star-rail genshin zenless",
    "mojang": "minecraft",
    "momo": "momoshop",
    "mozilla": "thunderbird",
    "mts-ru": "mts",
    "npmjs": "npm",
    "nypost": "new-york-post",
    "nytimes": "new-york-times",
    "ookla-speedtest": "speedtest",
    "origin": "ea-app",
    "playstation": "playstation-app",
    "playstation-network": "playstation-app",
    "protonmail": "proton-vpn",
    "purikonejp": "princess-connect",
    "python": "pypi",
    "qcc": "qichacha",
    "raiffeisenbank": "raiffeisen",
    "reagroup": "realestate-au realtor housing-com",
    "riot": "league-of-legends riot-client valorant",
    "ruby": "rubygems",
    "rust": "crates-io",
    "sankei": "sankei-news",
    "showtimeanytime": "showtime",
    "skype": "teams",
    "squareup": "cash-app square",
    "t2-ru": "tele2-ru",
    "tbank-ru": "tbank",
    "tencent-dev": "wechat",
    "tencent-tme": "qq-music",
    "tutanota": "tuta",
    "twitter": "x periscope vine",
    "uc": "uc-browser",
    "wantmedia": "china-times",
    "wink": "more-tv",
    "wps": "kingsoft-wps",
    "wsj": "wall-street-journal",
    "xboxlive": "xbox",
    "xiaomi-iot": "mi-home",
    "yomiuri": "yomiuri-shimbun",
    "youtube": "youtube-kids",
    "yuewen": "qidian",
    "zeetv": "zee5",
}
"""Apps that a list stands for under another name: a former name, a provider, a group of its products."""
DECIDED = {
    "blzddist1-a.akamaihd.net": "downloads by the Battle.net app",
    "ameba.jp": "the list abema has its provider's other service too",
    "ameblo.jp": "the list abema has its provider's other service too",
    "amebame.com": "the list abema has its provider's other service too",
    "amebaowndme.com": "the list abema has its provider's other service too",
    "crunchyroll.com": "the list is a genre",
    "funimation.com": "the list is a genre",
    "vrv.co": "the list is a genre",
    "detectportal.firefox.com": "the list is a purpose; Firefox alone asks this host",
    "ipv6check-http.steamserver.net": "the list is a purpose; Steam alone asks this host",
    "ipv6check-udp.steamserver.net": "the list is a purpose; Steam alone asks this host",
    "test.steampowered.com": "the list is a purpose; Steam alone asks this host",
    "metro.co.uk": "a paper of the same publisher, with an app of its own",
    "dmm.co.jp": "the list is a part of DMM",
    "mobile.de": "was eBay's until 2020, Adevinta's since",
    "qoo10.jp": "owned by eBay Japan, with an app under the name Qoo10",
    "trendmicro.com": "listed for its former certificates",
    "nab.com.au": "a bank; the list has domains of card issuers",
    "fandango.com": "was shown beside Roku's store; NBCUniversal's service",
    "edge.steam-dns.top.comcast.net": "a cache in Comcast's network: the suffix is shared",
    "grok.x.com": "Grok within X",
    "widgets.stripst.com": "Stripchat's own host, embedded by others",
    "douyin.com": "the list holds TikTok and Douyin as one; they are two apps with servers apart",
    "douyincdn.com": "the list holds TikTok and Douyin as one; they are two apps with servers apart",
    "douyinpic.com": "the list holds TikTok and Douyin as one; they are two apps with servers apart",
    "douyinstatic.com": "the list holds TikTok and Douyin as one; they are two apps with servers apart",
    "douyinvod.com": "the list holds TikTok and Douyin as one; they are two apps with servers apart",
    "iesdouyin.com": "the list holds TikTok and Douyin as one; they are two apps with servers apart",
    "roblox.cn": "published by Tencent in China; Roblox all the same",
    "dba.dk": "was eBay's until 2021, an app of its own",
    "kijiji.ca": "was eBay's until 2020, an app of its own",
    "hulu.jp": "run by HJ Holdings in Japan, with an app of its own",
    "maoyan.com": "split off from Meituan in 2016, an app of its own",
    "sberpro.vedomosti.ru": "a section of the newspaper's site",
    "robloxdev.cn": "published by Tencent in China; Roblox all the same",
}
"""Contradictions in which the catalogue's row stays, with the reason."""


def plain(name: str) -> str:
    """A name's letters and digits, lower case."""
    return "".join(char for char in name.lower() if char.isalnum())


def names_of(app: App) -> set[str]:
    """The plain names that a list about an app may have: its own and its provider's."""
    return {plain(app.id), plain(app.name), plain(app.provider or "")}


def compare_domains(catalogue: Catalogue, path: Path) -> dict[str, Any]:
    """Counts of a public list's domains by outcome, what is missing by list, and contradictions."""
    by_name: dict[str, str] = {}
    for app in catalogue.apps.values():
        by_name.setdefault(plain(app.id), app.id)
        by_name.setdefault(plain(app.name), app.id)
    counts: Counter[str] = Counter()
    of_apps: Counter[str] = Counter()
    lists: set[str] = set()
    missing: defaultdict[str, list[str]] = defaultdict(list)
    contradictions = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            listed, domain = row["service"], row["domain"]
            match = catalogue.lookup(domain)
            known = by_name.get(plain(listed))
            if match.app is None:
                outcome = "missing" if match.kind is None else "shared"
            elif (
                match.app == known
                or match.app in LISTS_OF.get(listed, "").split()
                or plain(listed) in names_of(catalogue.apps[match.app])
            ):
                outcome = "agrees"
            elif domain in DECIDED:
                outcome = "decided"
            else:
                outcome = "contradicts"
                contradictions.append((listed, row["match"], domain, match.app))
            counts[outcome] += 1
            if known is not None:
                lists.add(listed)
                of_apps[outcome] += 1
                if outcome == "missing":
                    missing[known].append(domain)
    return {
        "domains": dict(counts),
        "lists_that_are_apps": len(lists),
        "domains_of_those": dict(of_apps),
        "missing": dict(missing),
        "contradictions": contradictions,
    }


def compare_ranges(catalogue: Catalogue, path: Path) -> dict[str, Any]:
    """Our ranges that a published range of the same owner meets, and those that another owner's meets."""
    with path.open(encoding="utf-8", newline="") as file:
        published = [
            (row["owner"], ipaddress.ip_network(row["range"])) for row in csv.DictReader(file)
        ]
    confirmed, foreign = set(), []
    for ours in catalogue.ranges:
        for owner, network in published:
            # of a provider's network an app can have some ports; the provider is its owner
            if (
                ours.ports is None
                and network.version == ours.network.version
                and network.overlaps(ours.network)
            ):
                if plain(owner) in names_of(catalogue.apps[ours.app]):
                    confirmed.add(ours.network)
                else:
                    foreign.append((str(ours.network), ours.app, owner, str(network)))
    return {"ours": len(catalogue.ranges), "confirmed": len(confirmed), "foreign": foreign}


def main() -> None:
    """Prints the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("lists", type=Path)
    parser.add_argument("--missing", action="store_true", help="print what the catalogue lacks")
    parser.add_argument("--json", type=Path, help="file for all results")
    given = parser.parse_args()
    from apptell.catalogue import Catalogue

    catalogue = Catalogue.load()
    kinds = Counter(row.kind for row in catalogue.domains)
    found: dict[str, Any] = {
        "apps": len(catalogue.apps),
        "rows": dict(kinds.most_common()),
        "categories": dict(Counter(app.category for app in catalogue.apps.values()).most_common()),
        "countries": dict(Counter(app.country for app in catalogue.apps.values()).most_common()),
    }
    found |= {name: compare_domains(catalogue, given.lists / name) for name in FILES}
    found["ranges.csv"] = compare_ranges(catalogue, given.lists / "ranges.csv")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    for name in ("apps", "rows", "categories", "countries"):
        print(f"{name}: {found[name]}")
    for name in FILES:
        one = found[name]
        print(f"{name}: {one['domains']}")
        print(
            f"  of the {one['lists_that_are_apps']} lists that are apps: {one['domains_of_those']}"
        )
        if given.missing:
            for app, domains in sorted(one["missing"].items(), key=lambda item: -len(item[1])):
                print(f"  missing of {app}: {' '.join(domains)}")
        for listed, match, domain, app in one["contradictions"]:
            print(f"  {domain}: {match} in the list {listed}, {app} in the catalogue")
    print(f"ranges.csv: {found['ranges.csv']}")


if __name__ == "__main__":
    main()
