"""A worker is deaf when what is sent to it does not arrive, and not when it was stopped in between."""

from workers.hearing import DEAF_LOOKS, Hearing


def test_it_is_deaf_when_for_long_nothing_arrives_of_what_is_sent() -> None:
    hearing = Hearing()
    assert [hearing.is_deaf(sent=True) for _ in range(DEAF_LOOKS + 1)] == [False] * DEAF_LOOKS + [True]


def test_nothing_sent_is_nothing_missed() -> None:
    hearing = Hearing()
    assert not any(hearing.is_deaf(sent=look % 5 > 0) for look in range(10 * DEAF_LOOKS))


def test_who_hears_between_two_looks_is_not_deaf_though_at_each_look_something_is_on_its_way() -> None:
    hearing = Hearing()
    for _ in range(10 * DEAF_LOOKS):
        assert not hearing.is_deaf(sent=True)
        hearing.heard()
    # Of what was heard before the last look, nothing counts after it.
    assert [hearing.is_deaf(sent=True) for _ in range(DEAF_LOOKS + 2)][-1]


def test_a_broker_that_was_away_is_no_silence() -> None:
    hearing = Hearing()
    for _ in range(5):
        assert not any(hearing.is_deaf(sent=True) for _ in range(DEAF_LOOKS))
        hearing.reset()
