"""Connections to the public network only: a name is looked up here, and the very address that was checked is used.

So a name that leads to another address at the next look-up leads nowhere else. Proxies of the environment are not used:
behind one, nobody could tell where a connection ends.
"""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import httpcore
import httpx

from api.addresses import Address, Reachable, literal_address, plain

GetAddrInfo = Callable[..., Sequence[tuple[Any, ...]]]
"""`socket.getaddrinfo`, or what stands for it."""

MOST_LOOKUPS = 128
"""At once. A look-up cannot be broken off, and a resolver that does not answer holds it for half a minute."""

MOST_ADDRESSES = 8
"""Of one name that are tried."""

SHORTEST_TRY = 1.0
"""Seconds for one of several addresses, where there is so much time."""

KEPT_SECONDS = 5.0
"""For which a connection is kept for another call."""


class ForbiddenAddressError(httpcore.ConnectError):
    """A host leads to no address that may be connected to. Trying again changes nothing that can be relied on."""


class PublicNetwork(httpcore.AsyncNetworkBackend):
    """Opens TCP connections for httpcore to public addresses, and to those that are allowed.

    Args:
        reachable: what is allowed beside public addresses.
        flag: of the option that allows more, for messages.
        getaddrinfo: looks names up; it may block.
    """

    def __init__(self, reachable: Reachable, flag: str, getaddrinfo: GetAddrInfo = socket.getaddrinfo) -> None:
        self._reachable = reachable
        self._flag = flag
        self._getaddrinfo = getaddrinfo
        self._lookups = asyncio.Semaphore(MOST_LOOKUPS)
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface of httpcore
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to one of the host's addresses; they are tried in turn, within `timeout` seconds together.

        Raises:
            ForbiddenAddressError: none of them may be connected to.
            httpcore.ConnectError, httpcore.ConnectTimeout: the name is not found, or none of them takes the connection.
        """
        name = host.lower().rstrip(".")
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        try:
            async with asyncio.timeout_at(deadline):
                found = await self._addresses(name, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"the look-up of {name} took more than {timeout:g} s") from error
        allowed = [each for each in found if self._reachable.takes(name, each, port)][:MOST_ADDRESSES]
        if not allowed:
            raise ForbiddenAddressError(_forbidden(name, port, found, self._flag))
        failure: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        options = None if socket_options is None else list(socket_options)
        for tried, address in enumerate(allowed):
            share = None if deadline is None else _share(deadline - loop.time(), len(allowed) - tried)
            try:
                return await self._inner.connect_tcp(str(address), port, share, local_address, options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        assert failure
        raise failure

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        await asyncio.sleep(seconds)

    async def _addresses(self, name: str, port: int) -> list[Address]:
        """The addresses that a host is or has, each once, in the resolver's order."""
        literal = literal_address(name)
        if literal is not None:
            return [literal]
        await self._lookups.acquire()
        found: asyncio.Future[list[Address]] = asyncio.get_running_loop().create_future()
        # A thread of its own, which the process does not wait for at its end: the loop's own threads are few, and names
        # whose resolvers keep silent would hold them all.
        threading.Thread(target=self._look_up, args=(name, port, found, found.get_loop()), daemon=True).start()
        return await found

    def _look_up(
        self, name: str, port: int, found: "asyncio.Future[list[Address]]", loop: asyncio.AbstractEventLoop
    ) -> None:
        result: list[Address] | httpcore.ConnectError
        try:
            answers = self._getaddrinfo(name, port, type=socket.SOCK_STREAM)
            result = list(dict.fromkeys(plain(ipaddress.ip_address(answer[4][0])) for answer in answers))
        except (OSError, ValueError) as error:  # ValueError: a label that no name may have
            result = httpcore.ConnectError(f"{name} was not found: {error}")

        def deliver() -> None:
            self._lookups.release()
            if found.done():
                return
            if isinstance(result, list):
                found.set_result(result)
            else:
                found.set_exception(result)

        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            loop.call_soon_threadsafe(deliver)


def public_connections(network: PublicNetwork, most: int) -> httpcore.AsyncConnectionPool:
    """A pool of so many connections through this network, HTTP/1.1; it follows no redirects and knows no proxies.

    TLS is checked against the name in the URL, by the usual certificates or those of SSL_CERT_FILE and SSL_CERT_DIR.
    """
    return httpcore.AsyncConnectionPool(
        ssl_context=httpx.create_ssl_context(),
        max_connections=most,
        max_keepalive_connections=most,
        keepalive_expiry=KEPT_SECONDS,
        network_backend=network,
    )


def _share(seconds: float, addresses: int) -> float:
    """Seconds for one address, so that one which keeps silent leaves time for those that come after it."""
    return max(0.0, min(seconds, max(SHORTEST_TRY, seconds / addresses)))


def _forbidden(name: str, port: int, found: Sequence[Address], flag: str) -> str:
    shown = ", ".join(str(each) for each in found[:MOST_ADDRESSES])
    where = name if shown == name else f"{name} ({shown})"
    return f"{where} port {port} is not in the public network, and {flag} does not name it"
