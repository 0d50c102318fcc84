"""Where a caller wants webhooks to be sent, checked when the caller names it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

import msgpack

from api.addresses import Reachable
from api.errors import ApiError, bad_request
from api.options import Options
from api.webhooks.signing import secret_bytes

LONGEST_URL = 2_048
"""Characters; longer ones are refused by many servers on the way."""

MOST_SECRETS = 4
"""Enough to change them one after the other; each costs a signature and a header's room."""

PARAM = "webhook"
_FORM = 'webhook is a URL, or {"url": URL, "secrets": ["whsec_...", ...]}'
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """A receiver of webhooks that passed all checks which need no look-up of its name.

    Attributes:
        url: http or https, scheme and host in lower case, without the scheme's own port.
        secrets: `whsec_...` to sign with; none: all of --webhook-secret at the time of sending.
    """

    url: str
    secrets: tuple[str, ...]

    def encode(self) -> bytes:
        """As it is kept with the job or the batch."""
        packed: bytes = msgpack.packb([self.url, list(self.secrets)])
        return packed

    @classmethod
    def decode(cls, data: bytes) -> "Target":
        """What `encode` made."""
        url, secrets = msgpack.unpackb(data)[:2]
        return cls(url, tuple(secrets))


def parse_target(value: object, options: Options) -> Target:
    """The receiver that a request's field `webhook` names.

    A URL string, or `{"url": ..., "secrets": [1 to 4 whsec_...]}`, where `"secret"` may stand for one. The address
    behind a name is checked when it is connected to: only what is sure to be refused then is refused here.

    Raises:
        ApiError: 400 with param `webhook`: another form; no http or https URL; one with a user, a fragment, or longer
            than 2,048 characters; an address that is not public, or a name that cannot be, which --webhook-allow does
            not name; a secret that is not `whsec_` and base64 of 24 to 64 bytes; none, and no --webhook-secret.
    """
    given = {"url": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping) or not isinstance(given.get("url"), str):
        raise bad_request(f"{_FORM}.", PARAM)
    unknown = sorted(str(each) for each in given.keys() - {"url", "secret", "secrets"})
    if unknown:
        raise bad_request(f"{_FORM}; {unknown[0]!r} is not known there.", PARAM)
    secrets = _secrets(cast("Mapping[str, Any]", given))
    if not secrets and not options.webhook_secret:
        raise bad_request(
            "webhook has no secret to sign with, and this server has none of its own: give "
            '{"url": ..., "secrets": ["whsec_..."]}, or let the operator set --webhook-secret.',
            PARAM,
        )
    return Target(_checked_url(given["url"], options), secrets)


def _secrets(given: Mapping[str, Any]) -> tuple[str, ...]:
    if "secret" in given and "secrets" in given:
        raise bad_request("webhook has both secret and secrets: put all of them into secrets.", PARAM)
    if "secret" in given:
        values: object = [given["secret"]]
    elif "secrets" in given:
        values = given["secrets"]
    else:
        return ()
    if not isinstance(values, list) or not 1 <= len(values) <= MOST_SECRETS:
        raise bad_request(f"webhook.secrets is a list of 1 to {MOST_SECRETS} secrets.", PARAM)
    for each in values:
        try:
            secret_bytes(each if isinstance(each, str) else "")
        except ValueError as error:
            raise bad_request(f"{error}; one of webhook is not.", PARAM) from error
    return tuple(values)


def _checked_url(url: str, options: Options) -> str:
    if len(url) > LONGEST_URL:
        raise bad_request(f"webhook.url has {len(url)} characters; {LONGEST_URL} is the most.", PARAM)
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise bad_request("webhook.url is printable ASCII without blanks and backslashes: escape others with %.", PARAM)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise bad_request(f"webhook.url is no URL: {error}.", PARAM) from error
    if parts.scheme not in _PORTS or not parts.hostname:
        raise bad_request("webhook.url begins with https:// or http:// and a host.", PARAM)
    if "@" in parts.netloc:
        raise bad_request(
            "webhook.url holds a user or a password, which are not sent: the signature is the proof.", PARAM
        )
    if "#" in url:
        raise bad_request("webhook.url has a fragment (#...), which is never sent: leave it out.", PARAM)
    if port == 0:
        raise bad_request("webhook.url has the port 0, where nobody listens.", PARAM)
    host = parts.hostname.rstrip(".")
    if not Reachable.parse(options.webhook_allow).may_take(host, port or _PORTS[parts.scheme]):
        raise _unreachable(host)
    shown = f"[{host}]" if ":" in host else host
    place = shown if port in (None, _PORTS[parts.scheme]) else f"{shown}:{port}"
    return urlunsplit((parts.scheme, place, parts.path or "/", parts.query, ""))


def _unreachable(host: str) -> ApiError:
    return bad_request(
        f"webhook.url leads to {host}, which is not in the public network: webhooks are sent to public addresses only, "
        "and to those that the operator names by --webhook-allow.",
        PARAM,
    )
