"""A connection goes to the address that was checked, whatever its name says the next time."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

import httpcore
import pytest

from api.addresses import Reachable
from api.public_network import ForbiddenAddressError, PublicNetwork, public_connections


class Resolver:
    """Answers look-ups in turn, the last one for ever; counts them."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = answers
        self.asked = 0

    def __call__(self, host: str, port: int, **kind: Any) -> list[Any]:
        addresses = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if not addresses:
            raise socket.gaierror(-2, "Name or service not known")
        families = [socket.AF_INET6 if ":" in each else socket.AF_INET for each in addresses]
        return [
            (family, socket.SOCK_STREAM, 6, "", (address, port))
            for family, address in zip(families, addresses, strict=True)
        ]


class Server:
    """Takes connections on 127.0.0.1 and remembers to which address each came."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("0.0.0.0", 0))
        self.port = self.listener.getsockname()[1]
        self.reached: list[str] = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                self.reached.append(connection.getsockname()[0])
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.listener.shutdown(socket.SHUT_RDWR)
    server.listener.close()


def get(port: int, resolver: Resolver, *allowed: str, timeout: float = 5, host: str = "hooks.example.com") -> bytes:
    async def request() -> bytes:
        network = PublicNetwork(Reachable.parse(allowed), "--webhook-allow", resolver)
        async with public_connections(network, 4) as connections:
            reply = await connections.request(
                "GET", f"http://{host}:{port}/", extensions={"timeout": {"connect": timeout}}
            )
            return reply.content

    return run(request())


def run(coroutine: Coroutine[Any, Any, bytes]) -> bytes:
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def test_a_name_is_looked_up_once_and_the_address_that_was_checked_is_connected_to(server: Server) -> None:
    resolver = Resolver(["127.0.0.7"], ["127.0.0.1"])
    assert get(server.port, resolver, "127.0.0.7") == b"ok"
    assert (server.reached, resolver.asked) == (["127.0.0.7"], 1)


def test_a_name_that_was_public_once_is_checked_again_at_the_next_connection(server: Server) -> None:
    resolver = Resolver(["127.0.0.7"], ["127.0.0.1"])
    get(server.port, resolver, "127.0.0.7")
    with pytest.raises(ForbiddenAddressError, match=r"127\.0\.0\.1"):
        get(server.port, resolver, "127.0.0.7")
    assert server.reached == ["127.0.0.7"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "[::ffff:127.0.0.1]", "hooks.example.com"])
def test_what_is_not_public_and_not_allowed_is_never_called(server: Server, host: str) -> None:
    with pytest.raises(ForbiddenAddressError, match="--webhook-allow does not name it"):
        get(server.port, Resolver(["127.0.0.1", "::1", "169.254.169.254"]), "10.0.0.0/8", host=host)
    assert not server.reached


def test_the_allowed_ones_of_several_addresses_are_tried_in_turn(server: Server) -> None:
    # Nobody is at the first, which is refused; the second is not allowed; the third takes the connection.
    resolver = Resolver(["::1", "127.0.0.5", "127.0.0.6"])
    assert get(server.port, resolver, "::1", "127.0.0.6") == b"ok"
    assert server.reached == ["127.0.0.6"]


def test_a_name_that_is_allowed_may_lead_anywhere(server: Server) -> None:
    assert get(server.port, Resolver(["127.0.0.1"]), f"Hooks.Example.com:{server.port}") == b"ok"
    with pytest.raises(ForbiddenAddressError):
        get(server.port, Resolver(["127.0.0.1"]), "hooks.example.com:1")


def test_a_name_that_is_not_found_or_not_a_name_is_told(server: Server) -> None:
    with pytest.raises(httpcore.ConnectError, match=r"hooks\.example\.com was not found"):
        get(server.port, Resolver([]))

    async def connect() -> bytes:
        await PublicNetwork(Reachable(), "--webhook-allow").connect_tcp("a" * 64 + ".example", 80, 5)
        return b""

    with pytest.raises(httpcore.ConnectError, match="was not found"):
        run(connect())


def test_a_resolver_that_keeps_silent_costs_no_more_than_the_time_that_there_is() -> None:
    release = threading.Event()

    def silent(host: str, port: int, **kind: Any) -> list[Any]:
        release.wait(30)
        return []

    async def connect() -> bytes:
        network = PublicNetwork(Reachable(), "--webhook-allow", silent)
        tries = [network.connect_tcp(f"{number}.example", 80, 0.2) for number in range(50)]
        failures = await asyncio.gather(*tries, return_exceptions=True)
        assert {type(each) for each in failures} == {httpcore.ConnectTimeout}
        return b""

    began = time.monotonic()
    run(connect())
    release.set()
    assert time.monotonic() - began < 5


def test_tls_is_asked_for_the_host_and_not_for_its_address(server: Server) -> None:
    hello = threading.Event()
    names: list[str | None] = []

    def serve() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sni_callback = lambda connection, name, _: (names.append(name), hello.set(), None)[-1]
        listener = socket.create_server(("127.0.0.1", 0))
        ports.append(listener.getsockname()[1])
        listening.set()
        connection, _ = listener.accept()
        with listener, connection:
            try:
                context.wrap_socket(connection, server_side=True)
            except ssl.SSLError:
                return  # it has no certificate: it only hears which one is wanted

    ports: list[int] = []
    listening = threading.Event()
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert listening.wait(10)

    async def request() -> bytes:
        network = PublicNetwork(Reachable.parse(["127.0.0.1"]), "--webhook-allow", Resolver(["127.0.0.1"]))
        async with public_connections(network, 1) as connections:
            with pytest.raises(httpcore.ConnectError):
                await connections.request("GET", f"https://hooks.example.com:{ports[0]}/")
        return b""

    run(request())
    assert hello.wait(10)
    assert names == ["hooks.example.com"]
    thread.join(10)


def test_the_environments_proxy_is_not_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert get(server.port, Resolver(["127.0.0.7"]), "127.0.0.7") == b"ok"
