"""The engine gives what the reference implementations give, whatever shares the batch."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pooling.config import resolve_spec
from pooling.engine import Engine, PoolingInput
from pooling.errors import InputError
from pooling.model_options import ModelOptions
from pooling.pooler_config import PoolingType
from tests.pooling.conftest import GOLDEN, TINY_BERT, TINY_BERT_CLS, Expected, expected_of

# The largest difference allowed in any number of a result, for a result of length 1.
BOUND = 1e-5


def inputs_of(expected: list[Expected]) -> list[PoolingInput]:
    return [PoolingInput(np.array(row.ids, dtype=np.int32)) for row in expected]


def assert_close(rows: np.ndarray, expected: np.ndarray) -> None:
    vector, expected = np.squeeze(rows), np.squeeze(expected)
    np.testing.assert_allclose(vector, expected, rtol=0.0, atol=BOUND * max(1.0, float(np.linalg.norm(expected))))


@pytest.fixture(params=["eager", "compiled"])
def way(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tiny_engine: Engine,
    tiny_cls_engine: Engine,
    minilm_engine: Engine,
) -> Iterator[str]:
    """Both ways in which a model runs, whatever the number of tokens."""
    for engine in (tiny_engine, tiny_cls_engine, minilm_engine):
        monkeypatch.setattr(engine, "eager_tokens", 10**9 if request.param == "eager" else 0)
    yield request.param


@pytest.mark.usefixtures("way")
def test_a_mean_pooled_model_gives_the_vectors_of_sentence_transformers(tiny_engine: Engine) -> None:
    expected = expected_of(TINY_BERT)
    for vector, row in zip(tiny_engine.forward(inputs_of(expected)), expected, strict=True):
        assert_close(vector, row.embedding)


@pytest.mark.usefixtures("way")
def test_a_cls_pooled_model_gives_the_vectors_of_sentence_transformers(tiny_cls_engine: Engine) -> None:
    expected = expected_of(TINY_BERT_CLS)
    for vector, row in zip(tiny_cls_engine.forward(inputs_of(expected)), expected, strict=True):
        assert_close(vector, row.embedding)


@pytest.mark.parametrize("pooling_type", ["MEAN", "CLS", "LAST"])
def test_every_pooling_gives_that_of_the_hidden_states_of_hugging_face(pooling_type: str) -> None:
    spec = resolve_spec(TINY_BERT)
    pooler = replace(spec.pooler, pooling_type=PoolingType(pooling_type), normalize=False)
    engine = Engine.load(replace(spec, pooler=pooler))
    expected = expected_of(TINY_BERT)
    for vector, row in zip(engine.forward(inputs_of(expected)), expected, strict=True):
        assert_close(vector, row.pooled[pooling_type])


def test_the_default_model_gives_the_vectors_of_sentence_transformers(minilm_engine: Engine) -> None:
    rows = [json.loads(line) for line in (GOLDEN / "minilm" / "texts.jsonl").read_text("utf-8").splitlines()]
    vectors = minilm_engine.forward([PoolingInput(np.array(row["ids"], dtype=np.int32)) for row in rows])
    expected = np.load(GOLDEN / "minilm" / "vectors.npy")
    for vector, row in zip(vectors, expected, strict=True):
        assert_close(vector, row)


@settings(max_examples=30, deadline=None)
@given(
    subject=st.lists(st.integers(5, 90), min_size=1, max_size=64),
    company=st.lists(st.integers(1, 64), max_size=40),
    place=st.integers(0, 40),
)
def test_a_text_gives_the_same_vector_alone_and_in_any_company(
    tiny_engine: Engine, subject: list[int], company: list[int], place: int
) -> None:
    ids = PoolingInput(np.array(subject, dtype=np.int32))
    others = [PoolingInput(np.full(length, 5 + length, dtype=np.int32)) for length in company]
    place = min(place, len(others))
    together = tiny_engine.forward([*others[:place], ids, *others[place:]])
    assert_close(together[place], tiny_engine.forward([ids])[0])


def test_the_default_model_keeps_the_bound_in_company_too(minilm_engine: Engine) -> None:
    generator = np.random.default_rng(0)
    inputs = [PoolingInput(generator.integers(1000, 30000, n).astype(np.int32)) for n in (1, 7, 12, 60, 130, 256, 256)]
    together = minilm_engine.forward(inputs * 3)
    for given_input, vector in zip(inputs, together, strict=False):
        assert_close(vector, minilm_engine.forward([given_input])[0])


def test_results_are_contiguous_little_endian_float32(tiny_engine: Engine) -> None:
    vector = tiny_engine.forward([PoolingInput(np.array([2, 3], dtype=np.int32))])[0]
    assert vector.dtype.str == "<f4"
    assert vector.flags.c_contiguous
    assert vector.shape == (1, 48)


def test_an_input_without_a_step_has_no_rows_whatever_shares_its_batch() -> None:
    pooler = '{"pooling_type": "STEP", "step_tag_id": 3, "returned_token_ids": [4, 5], "activation": "softmax"}'
    engine = Engine.load(resolve_spec(GOLDEN / "families" / "math-shepherd", ModelOptions(pooler_config=pooler)))
    without, two = (PoolingInput(np.array(ids, dtype=np.int32)) for ids in ([1, 100, 101], [1, 3, 3]))
    assert [rows.shape for rows in engine.forward([without])] == [(0, 1)]
    assert [rows.shape for rows in engine.forward([without, two, without])] == [(0, 1), (2, 1), (0, 1)]


def test_no_inputs_give_no_results(tiny_engine: Engine) -> None:
    assert tiny_engine.forward([]) == []


def test_each_sequence_may_ask_for_its_own_dimensions_and_length(tiny_cls_engine: Engine) -> None:
    ids = np.array([2, 20, 30, 3], dtype=np.int32)
    asked = [
        PoolingInput(ids),
        PoolingInput(ids, dimensions=12),
        PoolingInput(ids, dimensions=24, normalize=True),
        PoolingInput(ids, normalize=True),
    ]
    raw, cut, cut_to_one, to_one = (rows[0] for rows in tiny_cls_engine.forward(asked))
    np.testing.assert_array_equal(cut, raw[:12])
    np.testing.assert_allclose(cut_to_one, raw[:24] / np.linalg.norm(raw[:24]), atol=1e-6)
    np.testing.assert_allclose(to_one, raw / np.linalg.norm(raw), atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (PoolingInput(np.array([], dtype=np.int32)), "Input 1 has 0 tokens"),
        (PoolingInput(np.zeros(65, dtype=np.int32)), "65 tokens, but this model takes 1 to 64"),
        (PoolingInput(np.array([99999], dtype=np.int32)), "token ids outside"),
        (PoolingInput(np.array([-1], dtype=np.int32)), "token ids outside"),
        (PoolingInput(np.array([2], dtype=np.int32), dimensions=12), "12 dimensions.*only its own 48"),
    ],
)
def test_an_input_that_cannot_be_pooled_is_refused(tiny_engine: Engine, wrong: PoolingInput, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny_engine.forward([PoolingInput(np.array([2, 3], dtype=np.int32)), wrong])


def test_a_models_own_dimensions_may_be_asked_for(tiny_engine: Engine) -> None:
    ids = np.array([2, 20, 30, 3], dtype=np.int32)
    own, unsaid = tiny_engine.forward([PoolingInput(ids, dimensions=48), PoolingInput(ids)])
    np.testing.assert_allclose(own, unsaid, atol=1e-6)


def test_unsupported_dimensions_are_answered_with_those_that_are(tiny_cls_engine: Engine) -> None:
    with pytest.raises(InputError, match="supports 12, 24, 36"):
        tiny_cls_engine.forward([PoolingInput(np.array([2], dtype=np.int32), dimensions=13)])


@pytest.mark.parametrize(("tokens", "sequences"), [(16384, 256), (8, 1), (1, 1)])
def test_warming_up_works_within_any_budget(tiny_engine: Engine, tokens: int, sequences: int) -> None:
    tiny_engine.warm_up(tokens, sequences)


def test_other_threads_go_on_while_the_engine_computes(minilm_engine: Engine) -> None:
    """A forward holds the interpreter lock only between operations: heartbeats must not stop."""
    inputs = [PoolingInput(np.full(256, 2000, dtype=np.int32))] * 16
    minilm_engine.forward(inputs)
    done = threading.Event()
    longest_pause = 0.0

    def beat() -> None:
        nonlocal longest_pause
        last = time.monotonic()
        while not done.is_set():
            time.sleep(0.001)
            now = time.monotonic()
            longest_pause, last = max(longest_pause, now - last), now

    thread = threading.Thread(target=beat)
    thread.start()
    began = time.monotonic()
    minilm_engine.forward(inputs)
    seconds = time.monotonic() - began
    done.set()
    thread.join()
    assert longest_pause < max(0.1, seconds / 4)


def test_memory_does_not_grow_with_the_number_of_different_shapes(tiny_engine: Engine) -> None:
    generator = np.random.default_rng(0)

    def resident_kilobytes() -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def forwards(count: int) -> None:
        for _ in range(count):
            lengths = generator.integers(1, 65, generator.integers(1, 12))
            tiny_engine.forward([PoolingInput(np.full(length, 7, dtype=np.int32)) for length in lengths])

    forwards(400)
    before = resident_kilobytes()
    forwards(400)
    assert resident_kilobytes() < before * 1.05
