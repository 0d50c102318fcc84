"""URLs of the web, checked before anything is looked up; those that redirects lead to as well."""

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import urljoin, urlsplit

import httpcore

from api.addresses import Reachable, literal_address
from api.media.errors import UrlError
from api.media.references import MediaLimits

LONGEST_URL = 8_192
"""Characters of one that is fetched; presigned ones have up to two thousand."""

_PORTS = {"http": 80, "https": 443}

_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f]*:[0-9a-f:.]+(?:%[a-z0-9._-]+)?")
"""A name or an address; urlsplit has taken the brackets off."""


@dataclass(frozen=True, slots=True)
class WebUrl:
    """An http or https URL to a host that may be asked, as far as can be told without a look-up.

    Attributes:
        host: in lower case, without a dot at its end and without brackets.
        target: path and query.
    """

    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, text: str, limits: MediaLimits) -> Self:
        """The URL that a text is. A fragment is dropped, as it is never sent.

        Raises:
            UrlError: it is no such URL, holds a user, or leads where images are not fetched from.
        """
        if len(text) > LONGEST_URL:
            raise UrlError(f"the URL has {len(text)} characters; {LONGEST_URL} are the most")
        if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
            raise UrlError("the URL is not printable ASCII without blanks and backslashes: escape others with %")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise UrlError(f"the URL cannot be read: {error}") from error
        if parts.scheme not in _PORTS:
            raise UrlError("the URL begins with none of https://, http://, data: and file://")
        if "@" in parts.netloc:
            raise UrlError("the URL holds a user or a password, which are not sent")
        host = (parts.hostname or "").rstrip(".")
        if not _HOST.fullmatch(host) or port == 0:
            raise UrlError("the URL names no host, or no port of one, that can be asked")
        found = cls(
            parts.scheme,
            host,
            port or _PORTS[parts.scheme],
            (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        )
        found._check_host(limits)
        return found

    def _check_host(self, limits: MediaLimits) -> None:
        if not limits.allows(self.host, self.port):
            raise UrlError(f"{self.host} port {self.port} is none of the hosts that --allowed-media-domains names")
        # With domains given, those are allowed wherever they lead, and nothing else has come so far.
        if not limits.domains and not Reachable().may_take(self.host, self.port):
            raise UrlError(not_public(self.host))

    @property
    def netloc(self) -> str:
        """Host and port as a `Host` header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def for_httpcore(self) -> httpcore.URL:
        """The same, in parts: nothing is parsed a second time, and differently."""
        return httpcore.URL(
            scheme=self.scheme.encode(), host=self.host.encode(), port=self.port, target=self.target.encode()
        )

    def redirected(self, location: str, limits: MediaLimits) -> "WebUrl":
        """Where a redirect leads.

        Raises:
            UrlError: as `parse`.
        """
        try:
            joined = urljoin(f"{self.scheme}://{self.netloc}{self.target}", location)
        except ValueError as error:
            raise UrlError(f"the redirect from {self.host} cannot be read: {error}") from error
        try:
            return WebUrl.parse(joined, limits)
        except UrlError as error:
            raise UrlError(f"{self.host} redirects, and there {error}") from error


def not_public(host: str) -> str:
    """Why a host is not asked. Where its name leads is not told: it may be news about a network that is not public."""
    what = "is not an address of" if literal_address(host) else "does not lead to"
    return f"{host} {what} the public network, where images are fetched from unless --allowed-media-domains names it"
