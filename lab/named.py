"""Records connections to servers that answer for the names of well-known apps.

    python -m lab.named -o src/apptell/samples/named

Needs root, ``unshare``, ``ip``, ``tcpdump``, and the packages ``aioquic``, ``cryptography`` and ``dnspython``.
Two network namespaces are joined by a cable. The client's side resolves names and connects over TLS and QUIC;
the other side holds the name server and every web server. Only names and ports are those of well-known apps:
the data after the handshake is random, addresses are those reserved for documentation, and nothing leaves the
machine.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import datetime as dt
import functools
import lzma
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PHONE, TABLET = "10.23.0.11", "10.23.0.12"
RESOLVER = "192.0.2.53"
INSIDE = "APPTELL_LAB_NAMED"
TTL_S = 60


@dataclass(frozen=True)
class Visit:
    """One connection, and what an observer can conclude from it."""

    name: str
    """The server's name, which is resolved first unless ``resolves`` is off."""
    app: str
    """The app's id in the catalogue; empty if the app cannot be identified."""
    evidence: str
    """What tells the app or, for a shared service, the service; empty when nothing does."""
    over: str = "tls"
    """``tls``, ``quic`` or ``http``."""
    client: str = PHONE
    sends_name: bool = True
    """Whether the hello holds the name."""
    resolves: bool = True
    """Whether the client asks the name server first; otherwise it uses the address that it knows."""
    alias: str = ""
    """A CNAME that the name server answers with, such as a content delivery network's name."""
    host: int = 0
    """The last number of the server's address; 0 for one of its own."""


PLAN = (
    Visit("web.whatsapp.com", "whatsapp", "name"),
    Visit("mmg.whatsapp.net", "whatsapp", "name", over="quic"),
    Visit("chat.signal.org", "signal", "name"),
    Visit("web.telegram.org", "telegram", "name", resolves=False),
    Visit("web.telegram.org", "telegram", "address", sends_name=False, resolves=False),
    Visit("gateway.discord.gg", "discord", "name"),
    Visit("cdn.discordapp.com", "discord", "name", over="quic"),
    Visit("i.instagram.com", "instagram", "name", over="quic"),
    Visit("scontent.cdninstagram.com", "instagram", "dns", sends_name=False),
    Visit("spclient.wg.spotify.com", "spotify", "name"),
    Visit("audio-ak.spotifycdn.com", "spotify", "name", alias="a7.cdn.example"),
    Visit("api.netflix.com", "netflix", "name", client=TABLET),
    Visit("ipv4-c001.1.oca.nflxvideo.net", "netflix", "name", client=TABLET),
    Visit("rr3---sn-4g5e6n7k.googlevideo.com", "youtube", "name", over="quic", client=TABLET),
    Visit("api16-normal.tiktokv.com", "tiktok", "name"),
    Visit("v16.tiktokcdn.com", "tiktok", "name", over="quic"),
    Visit("app.snapchat.com", "snapchat", "name", over="quic"),
    Visit("us04web.zoom.us", "zoom", "name"),
    Visit("us04web.zoom.us", "zoom", "dns", sends_name=False),
    Visit("gql.reddit.com", "reddit", "name"),
    Visit("gql.twitch.tv", "twitch", "name", client=TABLET),
    Visit("short.weixin.qq.com", "wechat", "name", over="http"),
    Visit("api.bilibili.com", "bilibili", "name"),
    Visit("legy.line-apps.com", "line", "name"),
    Visit("api.duolingo.com", "duolingo", "name", client=TABLET),
    Visit("cn-geo1.uber.com", "uber", "name"),
    Visit("firebaseinstallations.googleapis.com", "", "name"),
    Visit("app-measurement.com", "", "name", over="quic"),
    Visit("graph.facebook.com", "", "name"),
    Visit("googleads.g.doubleclick.net", "", "name"),
    Visit("d111111abcdef8.cloudfront.net", "", "name"),
    Visit("fonts.gstatic.com", "", "name", over="quic"),
    # one address, two apps: it never decides
    Visit("api.deezer.com", "deezer", "name", host=200),
    Visit("api.soundcloud.com", "soundcloud", "name", host=200),
    Visit("nobody.example", "", "", sends_name=False, resolves=False, host=200),
    Visit("one.one.example", "", "", sends_name=False, resolves=False, client=TABLET),
)
"""What the two clients do, in order."""


def address_of(visit: Visit) -> str:
    """The server's address: the same for visits to the same name, unless a host is set."""
    first = next(i for i, each in enumerate(PLAN) if each.name == visit.name)
    return f"198.51.100.{visit.host or 1 + first}"


def certificate(name: str, folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for one name and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    place = folder / name
    place.with_suffix(".pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    place.with_suffix(".key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return place.with_suffix(".pem"), place.with_suffix(".key")


# --- the servers' side ---------------------------------------------------------------------------------------


def answer(question: bytes) -> bytes:
    """A name server's answer to one question for an A record."""
    import dns.message
    import dns.rrset

    query = dns.message.from_wire(question)
    reply = dns.message.make_response(query)
    name = query.question[0].name
    for visit in PLAN:
        if visit.name == name.to_text(omit_final_dot=True):
            owner = f"{visit.name}."
            if visit.alias:
                reply.answer.append(
                    dns.rrset.from_text(owner, TTL_S, "IN", "CNAME", visit.alias + ".")
                )
                owner = visit.alias + "."
            reply.answer.append(dns.rrset.from_text(owner, TTL_S, "IN", "A", address_of(visit)))
            break
    return bytes(reply.to_wire())


class NameServer(asyncio.DatagramProtocol):
    """Answers each datagram."""

    def connection_made(self, transport: Any) -> None:
        """Keeps the transport."""
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Answers one question."""
        self.transport.sendto(answer(data), addr)


async def serve_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers HTTP/1.1 requests with random bytes."""
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            body = random.randbytes(random.randint(200, 900))
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def quic_server() -> type[Any]:
    """A QUIC server's protocol: random bytes on each stream that ended."""
    from aioquic.asyncio import QuicConnectionProtocol
    from aioquic.quic.events import StreamDataReceived

    class Answering(QuicConnectionProtocol):
        def quic_event_received(self, event: Any) -> None:
            if isinstance(event, StreamDataReceived) and event.end_stream:
                body = random.randbytes(random.randint(200, 900))
                self._quic.send_stream_data(event.stream_id, body, end_stream=True)
                self.transmit()

    return Answering


async def serve(folder: Path) -> None:
    """All servers, until the process is ended."""
    from aioquic.asyncio import serve as serve_quic
    from aioquic.quic.configuration import QuicConfiguration

    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(NameServer, local_addr=(RESOLVER, 53))
    contexts: dict[str, ssl.SSLContext] = {}
    by_address: dict[str, list[Visit]] = {}
    for visit in PLAN:
        by_address.setdefault(address_of(visit), []).append(visit)
        if visit.name not in contexts:
            contexts[visit.name] = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate(visit.name, folder))
            context.set_alpn_protocols(["http/1.1"])

    def choose(connection: Any, name: str | None, _context: Any) -> None:
        if name in contexts:
            connection.context = contexts[name]

    for address, visits in by_address.items():
        first = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        first.load_cert_chain(*certificate(visits[0].name, folder))
        first.set_alpn_protocols(["http/1.1"])
        first.sni_callback = choose
        await asyncio.start_server(serve_stream, address, 443, ssl=first)
        await asyncio.start_server(serve_stream, address, 80)
        if any(visit.over == "quic" for visit in visits):
            settings = QuicConfiguration(is_client=False, alpn_protocols=["h3"])
            settings.load_cert_chain(*certificate(visits[0].name, folder))
            await serve_quic(address, 443, configuration=settings, create_protocol=quic_server())
    (folder / "ready").touch()
    await asyncio.Event().wait()


# --- the clients' side ---------------------------------------------------------------------------------------


def resolve(visit: Visit) -> None:
    """Asks the name server for the visit's name."""
    import dns.message
    import dns.query

    question = dns.message.make_query(visit.name, "A")
    dns.query.udp(question, RESOLVER, timeout=5, source=visit.client)


async def visit_stream(visit: Visit, address: str) -> int:
    """Some requests over TLS or plain HTTP; returns the client's port."""
    context: ssl.SSLContext | None = None
    if visit.over == "tls":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the certificates are the lab's own
        context.set_alpn_protocols(["http/1.1"])
    reader, writer = await asyncio.open_connection(
        address,
        443 if context else 80,
        ssl=context,
        server_hostname=(visit.name if visit.sends_name else "") if context else None,
        local_addr=(visit.client, 0),
    )
    port = writer.get_extra_info("sockname")[1]
    for _ in range(3):
        path = random.randbytes(random.randint(8, 40)).hex()
        host = visit.name if visit.sends_name else address
        writer.write(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
    writer.close()
    await writer.wait_closed()
    return int(port)


async def visit_quic(visit: Visit, address: str) -> int:
    """Some requests over QUIC; returns the client's port."""
    from aioquic.asyncio import QuicConnectionProtocol
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.connection import QuicConnection

    settings = QuicConfiguration(
        is_client=True,
        alpn_protocols=["h3"],
        verify_mode=ssl.CERT_NONE,
        server_name=visit.name if visit.sends_name else None,
    )
    connection = QuicConnection(configuration=settings)
    loop = asyncio.get_running_loop()
    transport, made = await loop.create_datagram_endpoint(
        lambda: QuicConnectionProtocol(connection), local_addr=(visit.client, 0)
    )
    protocol: Any = made
    protocol.connect((address, 443))
    await protocol.wait_connected()
    for _ in range(3):
        reader, writer = await protocol.create_stream()
        writer.write(random.randbytes(random.randint(40, 400)))
        writer.write_eof()
        await reader.read()
    port = transport.get_extra_info("sockname")[1]
    protocol.close()
    await protocol.wait_closed()
    transport.close()
    return int(port)


async def visit_all(truth: Path) -> None:
    """Every visit in order, and a line for each in the table of truths."""
    with truth.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(
            (
                "client",
                "client_port",
                "server",
                "server_port",
                "transport",
                "name",
                "app",
                "evidence",
            )
        )
        for visit in PLAN:
            if visit.resolves:
                await asyncio.to_thread(resolve, visit)
            address = address_of(visit)
            go = visit_quic if visit.over == "quic" else visit_stream
            port = await go(visit, address)
            transport = "udp" if visit.over == "quic" else "tcp"
            shown = visit.name if visit.sends_name else ""
            server_port = 80 if visit.over == "http" else 443
            writer.writerow(
                (
                    visit.client, port, address, server_port, transport, shown, visit.app,
                    visit.evidence,
                )
            )  # fmt: skip
            await asyncio.sleep(0.2)


# --- the recording -------------------------------------------------------------------------------------------


def ip(arguments: str) -> None:
    """One ``ip`` command."""
    subprocess.run(["ip", *arguments.split()], check=True)


def wait_for(is_done: Callable[[], bool], what: str) -> None:
    """Waits up to 20 s."""
    deadline = time.monotonic() + 20
    while not is_done():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not start")
        time.sleep(0.05)


def record(output: Path) -> None:
    """Runs servers and clients and writes ``named.pcap.xz`` and ``named.csv``."""
    output.mkdir(parents=True, exist_ok=True)
    children: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        module = [sys.executable, "-m", "lab.named"]
        try:
            holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
            children.append(holder)
            own = Path("/proc/self/ns/net").readlink()
            place = Path(f"/proc/{holder.pid}/ns/net")
            wait_for(lambda: place.readlink() != own, "the servers' namespace")
            inside = ["nsenter", f"--net={place}"]
            ip("link set lo up")
            ip(f"link add wlan0 type veth peer name eth0 netns {holder.pid}")
            for address in (PHONE, TABLET):
                ip(f"addr add {address}/24 dev wlan0")
            ip("link set wlan0 up")
            for line in (
                "link set lo up", "addr add 10.23.0.1/24 dev eth0", "link set eth0 up",
                "route add local 198.51.100.0/24 dev lo", "route add local 192.0.2.0/24 dev lo",
            ):  # fmt: skip
                subprocess.run([*inside, "ip", *line.split()], check=True)
            ip("route add default via 10.23.0.1")
            children.append(subprocess.Popen([*inside, *module, "--serve", folder]))
            wait_for((folder / "ready").exists, "a server")
            capture = folder / "named.pcap"
            words = ["tcpdump", "-i", "wlan0", "-U", "-s", "1600", "-Z", "root", "-w", str(capture)]
            tap = subprocess.Popen([*words, "tcp or udp"], stderr=subprocess.DEVNULL)
            children.append(tap)
            wait_for(lambda: capture.exists() and capture.stat().st_size >= 24, "tcpdump")
            asyncio.run(visit_all(output / "named.csv"))
            time.sleep(0.5)
            tap.send_signal(signal.SIGINT)
            tap.wait()
            data = capture.read_bytes()
            (output / "named.pcap.xz").write_bytes(lzma.compress(data, preset=9))
        finally:
            for child in reversed(children):
                child.kill()
                child.wait()


def main() -> int:
    """Enters its own namespaces, then records."""
    parser = argparse.ArgumentParser(prog="python -m lab.named", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("src/apptell/samples/named"))
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve))
        return 0
    if os.environ.get(INSIDE) != "1":
        command = ["unshare", "--net", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
        run = functools.partial(subprocess.run, env={**os.environ, INSIDE: "1"}, check=False)
        return run([*command, sys.executable, "-m", "lab.named", *sys.argv[1:]]).returncode
    socket.setdefaulttimeout(10)
    record(options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
