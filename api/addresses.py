"""Which addresses of the network are public, and which others the operator allows."""

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_REFUSED_V4 = tuple(
    ipaddress.IPv4Network(each)
    for each in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # behind a carrier's NAT; a cloud's metadata among them
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's platform, reached from inside only though it looks public
        "169.254.0.0/16",  # link-local; the metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; a cloud's metadata among them
        "192.0.2.0/24",  # documentation, as two below
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
"""IANA's special-purpose addresses that lead to no public host, written out: Python's list changes between versions."""

_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
"""Global unicast; everything else is loopback, link-local, unique local, multicast or unassigned."""

_REFUSED_V6 = tuple(
    ipaddress.IPv6Network(each)
    for each in (
        "2001::/23",  # protocol assignments; Teredo is judged by what it embeds
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
    )
)

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

_PRIVATE_NAME = re.compile(r"(?:.+\.)?(?:localhost|local|internal|localdomain|home\.arpa|lan)|[^.]+")
"""Names of which none is public: of this machine, of this network, and those without a dot."""

_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")


def is_public(address: Address) -> bool:
    """Whether an address is one of the public network's, by the registry of special-purpose addresses (RFC 6890).

    An IPv6 address that carries an IPv4 address (mapped, 6to4, Teredo, NAT64) is as public as that one.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _REFUSED_V4)
    embedded = _embedded(address)
    if embedded:
        return all(is_public(each) for each in embedded)
    return address in _PUBLIC_V6 and not any(address in network for network in _REFUSED_V6)


def _embedded(address: ipaddress.IPv6Address) -> Sequence[ipaddress.IPv4Address]:
    """The IPv4 addresses to which packets for this address may be carried."""
    if address.ipv4_mapped:
        return (address.ipv4_mapped,)
    if address.sixtofour:
        return (address.sixtofour,)
    if address.teredo:
        return address.teredo
    if address in _NAT64:
        return (ipaddress.IPv4Address(int(address) & 0xFFFFFFFF),)
    return ()


def literal_address(host: str) -> Address | None:
    """The address that a host is, as any resolver would read it (`127.1`, `0x7f000001`); None for a name."""
    try:
        return plain(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host)) if host and host[0].isdigit() else None
    except OSError:
        return None


def plain(address: Address) -> Address:
    """An address as it is connected to: an IPv4 address in IPv6's clothes is that IPv4 address."""
    return getattr(address, "ipv4_mapped", None) or address


@dataclass(frozen=True, slots=True)
class Allowance:
    """One entry of what the operator allows: a host by name, or a network; on one port or on any."""

    name: str | None
    network: Network | None
    port: int | None

    @classmethod
    def parse(cls, text: str) -> "Allowance":
        """An entry as it is written: `receiver.lan`, `10.1.2.3`, `10.1.2.0/24:80`, `[fd00::/8]:443`, `:PORT` or none.

        Raises:
            ValueError: it is none of these; says which part is wrong.
        """
        try:
            return cls(None, ipaddress.ip_network(text), None)
        except ValueError:
            pass
        found = re.fullmatch(r"(?:\[(?P<bracketed>[^\]]*)\]|(?P<host>[^:\[\]]*))(?::(?P<port>\d{1,5}))?", text)
        if not found:
            raise ValueError(f"{text!r} is no host name, address or network, with or without :PORT")
        port = int(found["port"]) if found["port"] else None
        if port is not None and not 1 <= port <= 65535:
            raise ValueError(f"the port of {text!r} is not one of 1 to 65535")
        host = (found["bracketed"] or found["host"] or "").lower()
        return cls(*cls._host(host, bool(found["bracketed"]), text), port)

    @staticmethod
    def _host(host: str, bracketed: bool, text: str) -> tuple[str | None, Network | None]:
        try:
            return None, ipaddress.ip_network(host)
        except ValueError as error:
            if bracketed or "/" in host or re.fullmatch(r"[\d.]*", host):
                raise ValueError(f"{text!r} is no address or network: {error}") from error
        if not _NAME.fullmatch(host):
            raise ValueError(f"{text!r} is no host name, address or network, with or without :PORT")
        return host, None

    def allows(self, host: str, address: Address, port: int) -> bool:
        """Whether a connection to this address may be made for this host."""
        if self.port not in (None, port):
            return False
        if self.network is None:
            return self.name == host
        return address in self.network


@dataclass(frozen=True, slots=True)
class Reachable:
    """Every public address, and what is allowed beside them."""

    allowances: tuple[Allowance, ...] = ()

    @classmethod
    def parse(cls, entries: Sequence[str]) -> "Reachable":
        """What these entries allow.

        Raises:
            ValueError: as `Allowance.parse`.
        """
        return cls(tuple(Allowance.parse(each) for each in entries))

    def takes(self, host: str, address: Address, port: int) -> bool:
        """Whether a connection to this address may be made for this host, a name in lower case or an address."""
        return is_public(address) or any(each.allows(host, address, port) for each in self.allowances)

    def may_take(self, host: str, port: int) -> bool:
        """False where a host is sure to be refused, as far as can be told without a resolver."""
        address = literal_address(host)
        if address is not None:
            return self.takes(host, address, port)
        if not _PRIVATE_NAME.fullmatch(host):
            return True
        return any(
            each.name == host or each.network is not None for each in self.allowances if each.port in (None, port)
        )
