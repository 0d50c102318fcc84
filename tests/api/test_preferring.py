"""What a caller prefers, read from its headers as RFC 7240 writes them."""

import pytest

from api.preferring import Preferences

JOB, NOTHING = Preferences(asynchronous=True), Preferences()


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        (["respond-async"], JOB),
        (["Respond-Async"], JOB),
        (["respond-async; foo=bar"], JOB),
        (["wait=20"], Preferences(wait=20)),
        (["wait = 20"], Preferences(wait=20)),
        (['wait="20"'], Preferences(wait=20)),
        (["respond-async, wait=20"], Preferences(True, 20)),
        (["wait=20", "respond-async"], Preferences(True, 20)),
        (["handling=lenient, wait=1, wait=2"], Preferences(wait=1)),
        (["wait=0"], Preferences(wait=0)),
        (["wait=3600"], Preferences(wait=60)),
        (["wait=" + "9" * 5_000], NOTHING),
        (["wait=-1"], NOTHING),
        (["wait=1.5"], NOTHING),
        (["wait=\u00b2"], NOTHING),
        (["wait"], NOTHING),
        (["", ",;=,"], NOTHING),
        (["respond-asynchronously"], NOTHING),
        ([" " * 60_000], NOTHING),
    ],
    ids=lambda value: str(value)[:40],
)
def test_preferences_are_read_and_unknown_ones_ignored(headers: list[str], found: Preferences) -> None:
    assert Preferences.of(headers) == found
    assert found.wants_job == (found != NOTHING)
