"""A backfill has no more on its way than its server answers within seconds."""

import pytest

from api.bulk.asking import ROWS_PER_CALL
from api.bulk.pacing import CALLS_AT_ONCE, FEWEST_ROWS, LONG_SECONDS, MOST_ROWS, SHORT_SECONDS, Pace


@pytest.mark.parametrize("rate", [3, 30, 300, 3_000, 30_000])
def test_what_is_on_its_way_is_done_within_seconds_or_is_as_little_as_may_be(rate: int) -> None:
    pace = Pace()
    for _ in range(50):
        # With all calls on their way, each is answered when all that lies before it is.
        pace.answered(pace.rows / rate)
    assert FEWEST_ROWS <= pace.rows <= MOST_ROWS
    assert pace.rows <= LONG_SECONDS * rate or pace.rows_per_call == FEWEST_ROWS // CALLS_AT_ONCE
    assert pace.rows >= SHORT_SECONDS * rate or pace.rows_per_call == ROWS_PER_CALL


def test_calls_never_grow_beyond_a_calls_size() -> None:
    assert Pace(MOST_ROWS).rows_per_call == ROWS_PER_CALL
    assert Pace(1).rows_per_call == 1
