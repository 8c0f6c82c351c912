"""Clients over GnuTLS and rustls against Python's own OpenSSL on loopback."""

import asyncio
import socket
import ssl
import threading

import pytest

from lab import stacks, tls

STACKS = ("gnutls", "rustls")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    authority = tls.Authority(tmp_path_factory.mktemp("keys"), "a root")
    authority.issue("server", ["*.zone.test"])
    return authority


def client_context(stack, authority, alpn=()):
    if stack == "rustls":
        pytest.importorskip("pyrtls", reason="pyrtls is in the lab's environment alone")
    try:
        return stacks.context(stack, authority.certificate, alpn, "NORMAL")
    except OSError as error:
        pytest.skip(f"no GnuTLS here: {error}")


def server_context(authority, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.folder / "server.both.pem")
    context.minimum_version = context.maximum_version = version
    return context


class Kept:
    """A server with one certificate, until the block ends."""

    def __init__(self, context):
        self.context = context

    async def __aenter__(self):
        self.server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=self.context)
        return self.server.sockets[0].getsockname()[1]

    async def __aexit__(self, *_):
        self.server.close()
        await asyncio.sleep(0.1)  # connections that were refused close too


async def echo(reader, writer):
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.mark.parametrize("tickets", [0, 2])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("stack", STACKS)
def test_asyncio_speaks_over_another_stack(stack, version, tickets, authority):
    body = bytes(range(256)) * 1_000

    context = client_context(stack, authority)
    of_server = server_context(authority, version)
    of_server.num_tickets = tickets  # without any, the server says nothing after the handshake

    async def talk():
        async with Kept(of_server) as port:
            opening = asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname="a.zone.test"
            )
            reader, writer = await asyncio.wait_for(opening, 10)
            writer.write(body)
            answer = await asyncio.wait_for(reader.readexactly(len(body)), 10)
            writer.close()
        return answer

    assert asyncio.run(talk()) == body


@pytest.mark.parametrize("stack", STACKS)
def test_what_comes_together_with_two_session_tickets_is_read_at_once(stack, authority):
    server_in, client_in = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context(authority, ssl.TLSVersion.TLSv1_3).wrap_bio(
        server_in, client_in, server_side=True
    )
    client = client_context(stack, authority).wrap_bio(client_in, server_in, False, "a.zone.test")
    for step in (client, server, client):
        try:
            step.do_handshake()
        except ssl.SSLWantReadError:
            continue
    server.do_handshake()  # writes both tickets
    server.write(b"at once")
    assert client.read(100) == b"at once"


@pytest.mark.parametrize("stack", STACKS)
def test_a_name_that_the_certificate_lacks_is_refused(stack, authority):
    context = client_context(stack, authority)

    async def talk():
        async with Kept(server_context(authority, ssl.TLSVersion.TLSv1_3)) as port:
            await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname="a.other.test"
            )

    with pytest.raises(Exception, match=r"(?i)cert"):
        asyncio.run(talk())


@pytest.mark.parametrize("stack", STACKS)
def test_threads_speak_over_another_stack(stack, authority):
    context = client_context(stack, authority)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        plain, _ = listener.accept()
        with server_context(authority, ssl.TLSVersion.TLSv1_3).wrap_socket(
            plain, server_side=True
        ) as peer:
            peer.sendall(b"hello\r\n" + peer.recv(100))

    thread = threading.Thread(target=serve)
    thread.start()
    sock = socket.create_connection(listener.getsockname())
    wrapped = context.wrap_socket(sock, server_hostname="a.zone.test")
    lines = wrapped.makefile("rb")
    wrapped.sendall(b"line\r\n")
    assert [lines.readline(), lines.readline()] == [b"hello\r\n", b"line\r\n"]
    wrapped.close()
    thread.join()
    listener.close()


def first_flight(context):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname="a.zone.test")
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def test_each_stack_has_a_hello_of_its_own(authority):
    hellos = [first_flight(client_context(stack, authority, ("h2",))) for stack in STACKS]
    hellos.append(first_flight(ssl.create_default_context()))
    assert all(hello[0] == 22 and hello[5] == 1 for hello in hellos)
    ciphers = {hello[44 + hello[43] : 46 + hello[43]] for hello in hellos}
    assert len({len(hello) for hello in hellos}) == 3 or len(ciphers) == 3
