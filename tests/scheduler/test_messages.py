"""What is written is read again, byte for byte."""

from dataclasses import replace

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from scheduler.messages import Failure, Item, Vector, decode_result


@given(
    st.builds(
        Item,
        st.text(min_size=1),
        st.integers(0, 2047),
        st.binary().map(lambda data: data + b"\0" * (-len(data) % 4)),
        st.integers(0, 2**53),
        st.none() | st.integers(1, 4096),
        st.none() | st.booleans(),
        st.none() | st.integers(0, 2**31),
        st.integers(-(2**63), 2**63 - 1),
        st.text(),
        st.integers(0, 2**53),
        st.none() | st.sampled_from(["ALL", "LAST"]),
        st.none() | st.sampled_from(["none", "sigmoid"]),
    )
)
def test_an_item_survives_the_wire(item: Item) -> None:
    assert Item.decode(item.encode()) == item
    assert item.tokens == len(item.ids) / 4


def test_an_item_counts_as_many_tokens_as_are_computed_for_it() -> None:
    item = Item("r", 0, b"\1\0\0\0", 5, computed=64)
    assert Item.decode(item.encode()).tokens == 64


def test_an_item_of_an_earlier_or_later_version_is_read() -> None:
    item = Item("r", 3, b"\1\0\0\0", 5, 12, False, 1, -2, "t", 9, "ALL", "none")
    fields = msgpack.unpackb(item.encode())
    assert Item.decode(msgpack.packb(fields[:6])) == Item("r", 3, b"\1\0\0\0", 5, 12, False)
    assert Item.decode(msgpack.packb(fields[:11])) == replace(item, activation=None)
    assert Item.decode(msgpack.packb([*fields, "new"])) == item


times = st.integers(0, 2**32 - 1)


@given(st.builds(Vector, st.binary(), times, times) | st.builds(Failure, st.integers(400, 599), st.text(), st.text()))
def test_a_result_survives_the_wire(result: Vector | Failure) -> None:
    assert decode_result(result.encode()) == result


def test_a_time_too_long_for_a_result_counts_as_the_longest() -> None:
    assert decode_result(Vector(b"1234", 2**32, 2**40).encode()) == Vector(b"1234", 2**32 - 1, 2**32 - 1)


def test_a_result_of_a_version_without_times_is_read() -> None:
    assert decode_result(b"v1234") == Vector(b"1234")
