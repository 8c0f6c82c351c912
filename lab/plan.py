"""A seed and sizes in; the recordings that make the samples or the dataset out: devices, networks, days, quotas."""

from __future__ import annotations

from dataclasses import replace

from lab import apps
from lab.recording import Settings
from lab.world import Network

NETWORKS = {
    n.name: n
    for n in (
        Network("home", 9, 2, 0.0005, 0.001, True, "gateway", 0x0A11, 80),
        Network("lte", 28, 12, 0.002, 0.004, True, "gateway", 0x2301, 25),
        Network("cafe", 17, 9, 0.006, 0.003, True, "device", 0x3C05, 12),
        Network("train", 45, 25, 0.012, 0.008, True, "gateway", 0x4D02, 8),
        Network("fibre", 3, 0.6, 0.0, 0.0, False, "device", 0x5107, 200),
        Network("office", 12, 3, 0.001, 0.0, True, "gateway", 0x6E09, 100),
    )
}
DEVICES = (("openssl-default", 1500), ("android-like", 1420), ("chacha-first", 1500), ("tls12-only", 1400), ("p256-first", 1460))
FRONTS = ("none", "route", "terminate", "none", "route", "terminate")

SAMPLE_FLOWS, SAMPLE_OTHER = 34, 50


def sample(seed: int) -> list[Settings]:
    """Five recordings, each with its own device, network, day, names and keys, each with all apps."""
    quotas = {**dict.fromkeys(apps.APPS, SAMPLE_FLOWS), "other": SAMPLE_OTHER}
    rooms = ("home", "lte", "cafe", "train", "fibre")
    fronts = ("none", "route", "terminate", "none", "route")
    recordings = []
    for day, ((tls, mtu), network, front) in enumerate(zip(DEVICES, rooms, fronts, strict=True)):
        # a little more than asked: not every connection carries two packets with payload
        more = {app: quota + 4 for app, quota in quotas.items()}
        name = f"day{day}-{network}-{tls}"
        recordings.append(Settings(name, seed * 100 + day, tls, mtu, NETWORKS[network], day, front, more, drift=True, limit_s=400))
    return recordings


def quick(names: list[str], flows: int, front: str, tls: str, seed: int) -> Settings:
    """One recording to try something."""
    quotas = dict.fromkeys(names, flows)
    return replace(sample(seed)[0], recording="try", quotas=quotas, front=front, tls=tls, drift=False)
