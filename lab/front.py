"""Configures one HAProxy that serves all server names on one address.

``route`` passes TLS through, by the server name in the hello; ``terminate`` ends TLS at the front
with one wildcard certificate and speaks TLS again behind, so that every app has the same server
stack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.host import door

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.world import World


NAMES_PER_LINE = 100


def configuration(
    mode: str,
    address: str,
    routes: dict[str, tuple[str, str]],
    wildcard: Path,
    alpn: dict[str, str],
) -> str:
    """HAProxy's configuration: ``routes`` is name → (backend, its address)."""
    backends = sorted(set(routes.values()))
    lines = [
        "global",
        "  maxconn 8000",
        "  ssl-default-bind-options ssl-min-ver TLSv1.2",
        "defaults",
        "  mode tcp",
    ]
    lines += [
        "  timeout connect 30s",
        "  timeout client 120s",
        "  timeout server 120s",
        "frontend all",
    ]
    table = wildcard.parent / "routes.map"
    table.write_text("".join(f"{name} {backend}\n" for name, (backend, _) in routes.items()))
    if mode == "route":
        lines += [
            f"  bind {door(address)}",
            "  tcp-request inspect-delay 5s",
            "  tcp-request content accept if { req.ssl_hello_type 1 }",
        ]
        lines += [f"  use_backend %[req.ssl_sni,lower,map({table})]"]
    else:
        listing = wildcard.parent / "crt-list"
        listing.write_text("".join(offers(wildcard, routes, alpn)))
        lines += [
            f"  bind {door(address)} ssl crt-list {listing}",
            f"  use_backend %[ssl_fc_sni,lower,map({table})]",
        ]
    for backend, target in backends:
        tls = (
            " ssl verify none" + (f" alpn {alpn[backend]}" if alpn.get(backend) else "")
            if mode == "terminate"
            else ""
        )
        lines += [
            f"backend {backend}",
            f"  server s {door(target)}{tls}" + (" sni ssl_fc_sni" if tls else ""),
        ]
    return "\n".join(lines) + "\n"


def offers(
    wildcard: Path, routes: dict[str, tuple[str, str]], alpn: dict[str, str]
) -> Iterator[str]:
    """Lines of certificate, ALPN and names.

    HAProxy makes a TLS context for each line, so many names share one.
    """
    for backend in sorted({backend for backend, _ in routes.values()}):
        names = [name for name, (owner, _) in routes.items() if owner == backend]
        offer = f" [alpn {alpn[backend]}]" if alpn.get(backend) else ""
        for at in range(0, len(names), NAMES_PER_LINE):
            yield f"{wildcard}{offer} {' '.join(names[at : at + NAMES_PER_LINE])}\n"


def start(world: World, folder: Path, text: str) -> None:
    """Write the configuration and start HAProxy on the server side."""
    path = folder / "haproxy.cfg"
    path.write_text(text)
    world.spawn("servers", ["haproxy", "-db", "-f", str(path)], log="haproxy")
