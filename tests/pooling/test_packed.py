"""Packing loses nothing, and cutting into chunks puts every sequence into exactly one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pooling.packed import PackedBatch, chunks_by_length

SEQUENCES = st.lists(st.lists(st.integers(0, 1000), min_size=1, max_size=20), min_size=1, max_size=8)


@given(SEQUENCES)
def test_packed_tokens_can_be_taken_apart_again(sequences: list[list[int]]) -> None:
    batch = PackedBatch.of([np.array(ids, dtype=np.int32) for ids in sequences])
    parts = np.split(batch.token_ids, batch.cu_seqlens[1:-1])
    assert [part.tolist() for part in parts] == sequences
    positions = np.split(batch.positions, batch.cu_seqlens[1:-1])
    assert [part.tolist() for part in positions] == [list(range(len(ids))) for ids in sequences]
    assert batch.lengths.tolist() == [len(ids) for ids in sequences]


@given(SEQUENCES)
def test_the_grid_and_the_places_are_inverse(sequences: list[list[int]]) -> None:
    batch = PackedBatch.of([np.array(ids, dtype=np.int32) for ids in sequences])
    tokens = np.arange(len(batch.token_ids))
    np.testing.assert_array_equal(batch.grid.reshape(-1)[batch.places], tokens)
    assert batch.grid.shape == (len(sequences), max(map(len, sequences)))
    assert batch.padded_places == batch.grid.size - len(tokens)
    for row, ids in enumerate(sequences):
        assert batch.token_ids[batch.grid[row, : len(ids)]].tolist() == ids


@given(lengths=st.lists(st.integers(1, 600), max_size=60), max_tokens=st.integers(1, 2000))
def test_every_sequence_is_in_one_chunk_that_fits(lengths: list[int], max_tokens: int) -> None:
    chunks = chunks_by_length(lengths, max_tokens)
    assert sorted(position for chunk in chunks for position in chunk) == list(range(len(lengths)))
    for chunk in chunks:
        assert len(chunk) == 1 or len(chunk) * max(lengths[position] for position in chunk) <= max_tokens


@given(lengths=st.lists(st.integers(1, 600), max_size=60))
def test_chunks_go_from_short_to_long(lengths: list[int]) -> None:
    flat = [lengths[position] for chunk in chunks_by_length(lengths, 1024) for position in chunk]
    assert flat == sorted(flat)
