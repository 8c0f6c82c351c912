"""Plans the recordings of the samples and of the dataset, from a seed and sizes."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from lab import apps
from lab.background import BACKGROUND
from lab.settings import Settings
from lab.world import Network

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

NETWORKS = {
    n.name: n
    for n in (
        Network("home", 9, 2, 0.0005, 0.001, True, "gateway", 0x0A11, 80),
        Network("lte", 28, 12, 0.002, 0.004, True, "gateway", 0x2301, 25),
        Network("cafe", 17, 9, 0.006, 0.003, True, "device", 0x3C05, 12),
        Network("train", 45, 25, 0.012, 0.008, True, "gateway", 0x4D02, 8),
        Network("fibre", 3, 0.6, 0.0, 0.0, False, "device", 0x5107, 200, version=6),
        Network("office", 12, 3, 0.001, 0.0, True, "gateway", 0x6E09, 100),
        Network("mobile", 34, 16, 0.003, 0.005, False, "gateway", 0x7A0B, 30, version=6),
    )
}
DEVICES = (
    ("openssl-default", 1500),
    ("android-like", 1420),
    ("tls12-only", 1400),
    ("gnutls", 1500),
    ("boringssl", 1460),
    ("rustls", 1440),
)
FRONTS = ("none", "route", "terminate")

SAMPLE_FLOWS, SAMPLE_OTHER = 28, 42
SAMPLES = (
    (0, "openssl-default", "home", "none"),
    (0, "android-like", "lte", "route"),
    (1, "tls12-only", "home", "terminate"),
    (1, "openssl-default", "cafe", "none"),
    (2, "android-like", "cafe", "route"),
    (2, "tls12-only", "lte", "none"),
)
"""Day, device, network and front end: each device, network and day twice, and no two together."""


def sample(seed: int) -> list[Settings]:
    """The samples' recordings, each with its own names and keys, and with all apps."""
    # a little more than asked: not every connection carries two packets with payload
    quotas = {**dict.fromkeys(apps.APPS, SAMPLE_FLOWS + 4), "other": SAMPLE_OTHER + 6}
    recordings = []
    for number, (day, tls, room, front) in enumerate(SAMPLES):
        network = replace(NETWORKS[room], subnet=NETWORKS[room].subnet + 7 * number)
        recordings.append(
            Settings(
                recording=f"day{day}-{room}-{tls}",
                seed=seed * 100 + number,
                tls=tls,
                mtu=dict(DEVICES)[tls],
                network=network,
                day=day,
                front=front,
                quotas=dict(quotas),
                workers=10,
                drift=True,
                limit_s=400,
            )
        )
    return recordings


TABLE_1 = {
    "irc": 7_185,
    "matrix": 5_936,
    "mqtt": 8_000,
    "mumble": 7_962,
    "websocketchat": 7_991,
    "xmpp": 7_779,
}
"""Flows per app in the paper's Table 1 (ChaoXin, DingTalk, MoMo, TanTan, WeChat, YiXin).

Given to our six in order.
"""
PAPER_OTHER = 52_853
PER_RECORDING = 2_200
N_DAYS = 5


def shares(flows: int) -> dict[str, int]:
    """``flows`` in the proportions of Table 1 and its background.

    The paper's own size gives its own numbers.
    """
    total = sum(TABLE_1.values()) + PAPER_OTHER
    return {
        app: round(flows * share / total)
        for app, share in {**TABLE_1, "other": PAPER_OTHER}.items()
    }


def split(total: int, parts: int) -> list[int]:
    """``total`` in ``parts`` whole numbers that differ by at most one."""
    return [total * (part + 1) // parts - total * part // parts for part in range(parts)]


def dataset(
    flows: int,
    seed: int,
    *,
    drift: bool,
    new_apps: Sequence[str] = (),
    workers: int = 24,
    per_recording: int = PER_RECORDING,
) -> list[Settings]:
    """The dataset's recordings. Each of ``new_apps`` is seen from the fourth of five days on.

    Their flows are all there. With 30 recordings, each day has each device once.
    """
    n_recordings = max(N_DAYS, -(-flows // per_recording))
    # days take turns, so that what is recorded so far has all of them
    days = [number % N_DAYS for number in range(n_recordings)]
    quotas: list[dict[str, int]] = [{} for _ in range(n_recordings)]
    totals = shares(flows)
    mean = sum(n for app, n in totals.items() if app != "other") // len(TABLE_1)
    totals |= {app: mean for app in new_apps if app not in totals}
    for app, total in totals.items():
        where = [number for number, day in enumerate(days) if app not in new_apps or day >= 3]
        for number, part in zip(where, split(total, len(where)), strict=True):
            quotas[number][app] = part
    recordings = []
    rng, fronts = random.Random(f"{seed}/front ends"), []
    for number, (day, quota) in enumerate(zip(days, quotas, strict=True)):
        tls, mtu = DEVICES[number % len(DEVICES)]
        if number % len(FRONTS) == 0:  # by lot, or each device would have one kind of front end
            fronts = rng.sample(FRONTS, len(FRONTS))
        front = fronts[number % len(FRONTS)]
        network = NETWORKS[list(NETWORKS)[number % len(NETWORKS)]]
        # the subnet changes too: two recordings of a network must not share an address
        network = replace(network, subnet=network.subnet + 7 * number)
        recordings.append(
            Settings(
                f"r{number:03d}",
                seed * 1_000 + number,
                tls,
                mtu,
                network,
                day,
                front,
                quota,
                workers=workers,
                drift=drift,
                limit_s=120 + sum(quota.values()),
                # behind one address a name must not tell the app either: few are met twice
                n_names=12 if front == "none" else 150,
                keep_payload=32,
            )
        )
    return recordings


def labels() -> str:
    """Lines of package and label, for ``apptell dataset build --rename``."""
    packages = {app: app for app in (*apps.APPS, *apps.MORE)} | dict.fromkeys(BACKGROUND, "other")
    return "".join(f"test.lab.{app},{label}\n" for app, label in packages.items())


def quick(names: list[str], options: argparse.Namespace) -> Settings:
    """One recording to try something."""
    return replace(
        sample(options.seed)[0],
        recording="try",
        quotas=dict.fromkeys(names, options.flows),
        front=options.front,
        tls=options.tls,
        mtu=dict(DEVICES)[options.tls],
        network=NETWORKS[options.network],
        day=options.day,
        workers=options.workers,
        drift=False,
        n_names=12 if options.front == "none" else 150,
    )
