"""A small catalogue of invented apps for tests of evidence."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field


@dataclass
class App:
    id: str
    name: str
    category: str


@dataclass
class Match:
    app: str | None = None
    app_name: str | None = None
    category: str | None = None
    service: str | None = None
    kind: str | None = None


@dataclass
class SmallCatalogue:
    """What evidence needs of a catalogue."""

    apps: dict[str, App] = field(
        default_factory=lambda: {
            "chat": App("chat", "Chat", "messaging"),
            "tube": App("tube", "Tube!", "video"),
            "bücher": App("bücher", "Bücher", "books"),
        }
    )

    def lookup(self, name: str) -> Match:
        host = name.lower().rstrip(".")
        try:
            ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            pass
        else:
            return Match()
        domain = ".".join(host.split(".")[-2:])
        apps = {"chat.example": "chat", "tube.example": "tube", "xn--bcher-kva.example": "bücher"}
        services = {"cdn.example": ("Some CDN", "cdn"), "big.example": ("Big", "platform")}
        if domain in apps:
            app = self.apps[apps[domain]]
            return Match(app.id, app.name, app.category, app.name, "app")
        if domain in services:
            service, kind = services[domain]
            return Match(service=service, kind=kind)
        return Match(service=domain)

    def owner_of(self, address: str, protocol: int, port: int) -> str | None:
        owned = ipaddress.ip_network("198.51.100.0/25")
        return "tube" if ipaddress.ip_address(address) in owned else None
