"""Signatures, answers and pauses, by tables."""

import base64
import time
from email.utils import formatdate
from itertools import pairwise

import pytest
from standardwebhooks import Webhook as Verifier

from api.webhooks.attempting import Outcome, read_answer, seconds_wished
from api.webhooks.retrying import HOUR, Schedule
from api.webhooks.signing import secret_bytes, signed_headers

SECRETS = ["whsec_" + base64.b64encode(bytes(range(length))).decode() for length in (24, 32, 64)]


def test_each_of_several_secrets_verifies_by_the_standards_package() -> None:
    body = '{"text": "ü"}'.encode()
    headers = signed_headers("msg_1", int(time.time()), body, SECRETS)
    for secret in SECRETS:
        assert Verifier(secret).verify(body, headers) == {"text": "ü"}
    with pytest.raises(Exception, match="No matching signature"):
        Verifier(SECRETS[0]).verify(body + b" ", headers)


def test_a_signature_is_the_one_of_the_standards_example() -> None:
    # https://github.com/standard-webhooks/standard-webhooks: the test vectors of its libraries.
    headers = signed_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
        "whsec_" + base64.b64encode(b"x" * 65).decode(),
        "whsec_not base64 but long enough to be one, if it were it",
        base64.b64encode(b"x" * 32).decode(),
        "whsec_ü" + base64.b64encode(b"x" * 32).decode(),
    ],
)
def test_a_secret_of_another_form_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(ValueError, match="24 to 64") as refused:
        secret_bytes(secret)
    assert len(secret) < 8 or secret not in str(refused.value)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.DELIVERED),
        (204, Outcome.DELIVERED),
        (299, Outcome.DELIVERED),
        (301, Outcome.REFUSED),
        (308, Outcome.REFUSED),
        (400, Outcome.REFUSED),
        (404, Outcome.REFUSED),
        (410, Outcome.GONE),
        (429, Outcome.REFUSED),
        (500, Outcome.REFUSED),
        (599, Outcome.REFUSED),
    ],
)
def test_an_answer_means_what_its_status_says(status: int, outcome: Outcome) -> None:
    assert read_answer(status, None).outcome is outcome


def test_a_receivers_wish_to_be_left_alone_is_read_in_both_forms() -> None:
    assert read_answer(503, "120").wished == 120
    in_a_minute = seconds_wished(formatdate(time.time() + 60, usegmt=True))
    assert in_a_minute is not None
    assert 50 < in_a_minute <= 60
    assert seconds_wished(formatdate(0, usegmt=True)) == 0
    assert [seconds_wished(each) for each in (None, "", "soon", "-5", "1.5", "²")] == [None] * 6


def test_pauses_grow_for_about_a_day_and_then_there_are_no_more() -> None:
    schedule = Schedule()
    pauses = [schedule.pause(failed, None) for failed in range(1, 12)]
    assert pauses[-1] is None
    grown = [pause for pause in pauses if pause is not None]
    assert 5 <= grown[0] < 6
    assert all(later >= earlier * 0.9 for earlier, later in pairwise(grown))
    assert 23 * HOUR < sum(grown) < 27 * HOUR
    assert sum(grown) < schedule.oldest


def test_a_wish_makes_a_pause_longer_within_bounds_and_never_shorter() -> None:
    schedule = Schedule()
    for wished, least, most in ((100.0, 100, 100), (1.0, 5, 6), (1e9, HOUR, HOUR)):
        pause = schedule.pause(1, wished)
        assert pause is not None
        assert least <= pause <= most
