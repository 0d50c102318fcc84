"""A receiver of webhooks is checked when it is named: its form, its address as far as it can be told, its secrets."""

import base64
from typing import Any

import pytest

from api.errors import ApiError
from api.options import Options
from api.webhooks.events import webhook_about
from api.webhooks.target import Target, parse_target

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 24).decode()


def options(*allowed: str, secret: str | None = SECRET) -> Options:
    return Options.checked({"webhook_allow": allowed, **({"webhook_secret": secret} if secret else {})})


@pytest.mark.parametrize(
    ("value", "target"),
    [
        ("https://example.com/hook?a=1", Target("https://example.com/hook?a=1", ())),
        ("HTTPS://Example.COM:443", Target("https://example.com/", ())),
        ("http://8.8.8.8:8080/x", Target("http://8.8.8.8:8080/x", ())),
        ("https://[2600::1]:8443/x", Target("https://[2600::1]:8443/x", ())),
        ({"url": "https://example.com/", "secret": SECRET}, Target("https://example.com/", (SECRET,))),
        ({"url": "https://example.com/", "secrets": [SECRET, OTHER]}, Target("https://example.com/", (SECRET, OTHER))),
    ],
)
def test_a_receiver_is_a_url_or_a_url_with_secrets(value: object, target: Target) -> None:
    parsed = parse_target(value, options())
    assert parsed == target
    assert Target.decode(parsed.encode()) == target


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (3, "webhook is a URL"),
        ({"uri": "https://example.com"}, "webhook is a URL"),
        ({"url": "https://example.com", "events": []}, "'events' is not known"),
        ("ftp://example.com/", "begins with https:// or http://"),
        ("example.com/hook", "begins with https:// or http://"),
        ("https:///hook", "begins with https:// or http://"),
        ("https://user@example.com/", "a user or a password"),
        ("https://example.com/#there", "fragment"),
        ("https://example.com/" + "a" * 2048, "2048 is the most"),
        ("https://example.com:99999/", "is no URL"),
        ("https://exämple.com/", "printable ASCII"),
        ("https://example.com\\@10.0.0.1/", "printable ASCII"),
        ("http://127.0.0.1/", "--webhook-allow"),
        ("http://127.1/", "--webhook-allow"),
        ("http://2130706433/", "--webhook-allow"),
        ("http://0x7f000001/", "--webhook-allow"),
        ("http://[::1]/", "--webhook-allow"),
        ("http://[::ffff:10.0.0.1]/", "--webhook-allow"),
        ("http://169.254.169.254/latest/meta-data", "--webhook-allow"),
        ("http://localhost:9000/", "--webhook-allow"),
        ("http://receiver/", "--webhook-allow"),
        ("http://metadata.google.internal./", "--webhook-allow"),
        ({"url": "https://example.com/", "secrets": []}, "1 to 4"),
        ({"url": "https://example.com/", "secrets": [SECRET] * 5}, "1 to 4"),
        ({"url": "https://example.com/", "secret": "whsec_c2hvcnQ="}, "24 to 64"),
        ({"url": "https://example.com/", "secret": SECRET.removeprefix("whsec_")}, "24 to 64"),
        ({"url": "https://example.com/", "secret": SECRET, "secrets": [SECRET]}, "both"),
    ],
)
def test_a_wrong_receiver_is_refused_with_the_reason(value: Any, reason: str) -> None:
    with pytest.raises(ApiError) as refused:
        parse_target(value, options())
    assert reason in refused.value.message
    assert (refused.value.status, refused.value.param) == (400, "webhook")


@pytest.mark.parametrize(
    ("allowed", "url", "taken"),
    [
        ("127.0.0.1", "http://127.0.0.1:9000/", True),
        ("127.0.0.1:9000", "http://127.0.0.1:9000/", True),
        ("127.0.0.1:9000", "http://127.0.0.1:9001/", False),
        ("10.0.0.0/8", "http://10.1.2.3/", True),
        ("10.0.0.0/8", "http://127.0.0.1/", False),
        ("fd00::/8", "http://[fd00::5]/", True),
        ("receiver", "http://Receiver:80/", True),
        ("receiver", "http://other/", False),
        ("127.0.0.0/8", "http://localhost/", True),  # the look-up decides
    ],
)
def test_what_the_operator_allows_is_taken(allowed: str, url: str, taken: bool) -> None:
    if taken:
        parse_target(url, options(allowed))
    else:
        with pytest.raises(ApiError):
            parse_target(url, options(allowed))


def test_without_any_secret_a_receiver_is_refused_and_the_flag_named() -> None:
    with pytest.raises(ApiError, match="--webhook-secret"):
        parse_target("https://example.com/", options(secret=None))
    parse_target({"url": "https://example.com/", "secret": SECRET}, options(secret=None))


def test_the_same_end_is_the_same_webhook() -> None:
    target = Target("https://example.com/", (SECRET,))
    first, again = (webhook_about(target, "batch.completed", "batch_1", at) for at in (1, 2))
    other = webhook_about(target, "batch.failed", "batch_1", 1)
    assert first.webhook_id == again.webhook_id != other.webhook_id
    assert first.webhook_id.startswith("msg_")
