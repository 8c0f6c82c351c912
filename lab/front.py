"""Server names and the servers behind them in; one HAProxy that serves them all on one address out.

``route`` passes TLS through, by the server name in the hello; ``terminate`` ends TLS at the front
with one wildcard certificate and speaks TLS again behind, so that every app has the same server
stack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.host import door

if TYPE_CHECKING:
    from pathlib import Path

    from lab.world import World


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
        "  timeout connect 5s",
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
        listing.write_text(
            "".join(
                f"{wildcard} [alpn {alpn[backend]}] {name}\n"
                if alpn.get(backend)
                else f"{wildcard} {name}\n"
                for name, (backend, _) in routes.items()
            )
        )
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


def start(world: World, folder: Path, text: str) -> None:
    """Write the configuration and start HAProxy on the server side."""
    path = folder / "haproxy.cfg"
    path.write_text(text)
    world.spawn("servers", ["haproxy", "-db", "-f", str(path)], log="haproxy")
