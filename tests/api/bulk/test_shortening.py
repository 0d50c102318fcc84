"""What is too long loses its middle, and says so."""

from hypothesis import given
from hypothesis import strategies as st

from api.bulk.shortening import shortened


@given(st.text(max_size=200), st.integers(1, 120))
def test_it_is_one_line_within_the_limit(text: str, limit: int) -> None:
    found = shortened(text, limit)
    assert len(found) <= limit
    assert found.isprintable()


def test_the_middle_is_left_out_and_counted() -> None:
    assert shortened("a" * 500 + "b" * 500, 60) == "a" * 23 + " … 956 more … " + "b" * 23


def test_line_breaks_are_shown_as_escapes() -> None:
    assert shortened("a\n\tb", 10) == r"a\n\tb"


def test_where_there_is_hardly_room_the_mark_has_no_number() -> None:
    assert shortened("abcdefghijkl", 9) == "abcd…ijkl"
