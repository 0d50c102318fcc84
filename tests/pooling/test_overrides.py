"""A request may pool otherwise than its model does: in one forward with others, and with the same result as alone."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pooling.activations import activated
from pooling.config import ModelSpec, resolve_spec
from pooling.engine import Engine, PoolingInput
from pooling.errors import InputError
from pooling.overrides import refusal
from pooling.pooler_config import Activation, PoolingType
from tests.pooling.conftest import TINY_BERT, expected_of
from tests.pooling.test_engine import BOUND, assert_close
from tests.pooling.test_families import FAMILIES, inputs_of, options_of

WAYS = {"eager": 10**9, "compiled": 0}


def loaded(name: str) -> Engine:
    return Engine.load(spec_of(name))


def spec_of(name: str) -> ModelSpec:
    return resolve_spec(FAMILIES / name, options_of(name))


@pytest.fixture(scope="module")
def process_reward_engine() -> Engine:
    """Two logits for each step after softmax, of which one is the good one's."""
    return loaded("qwen2-process-reward")


@pytest.mark.parametrize("way", WAYS)
def test_the_rows_of_all_tokens_are_what_the_other_poolings_are_made_of(
    way: str, tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_engine, "eager_tokens", WAYS[way])
    expected = expected_of(TINY_BERT)
    inputs = [
        PoolingInput(np.array(row.ids, dtype=np.int32), normalize=False, pooling_type=PoolingType.ALL)
        for row in expected
    ]
    for rows, row in zip(tiny_engine.forward(inputs), expected, strict=True):
        assert rows.shape == (len(row.ids), 48)
        assert_close(rows.mean(axis=0), row.pooled["MEAN"])
        assert_close(rows[0], row.pooled["CLS"])
        assert_close(rows[-1], row.pooled["LAST"])
        mean = rows.mean(axis=0)
        assert_close(mean / np.linalg.norm(mean), row.embedding)


def test_the_rows_of_all_tokens_have_length_one_where_embeddings_have(tiny_engine: Engine) -> None:
    ids = np.array([2, 20, 30, 3], dtype=np.int32)
    own, raw = tiny_engine.forward(
        [PoolingInput(ids, normalize=normalize, pooling_type=PoolingType.ALL) for normalize in (None, False)]
    )
    np.testing.assert_allclose(np.linalg.norm(own, axis=1), np.ones(4), atol=1e-6)
    np.testing.assert_allclose(own, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-6)


def test_dense_modules_stand_behind_the_rows_of_all_tokens_too() -> None:
    engine = loaded("bert-dense")
    ids = np.array([2, 20, 30, 3], dtype=np.int32)
    every, first = engine.forward([PoolingInput(ids, pooling_type=kind) for kind in (PoolingType.ALL, PoolingType.CLS)])
    assert every.shape == (4, engine.spec.embedding_dimensions)
    assert_close(every[0], first[0])


kinds = st.none() | st.sampled_from(["CLS", "LAST", "MEAN", "ALL"]).map(PoolingType)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(5, 90), min_size=1, max_size=64), kinds), min_size=1, max_size=12))
@pytest.mark.parametrize("way", WAYS)
def test_an_input_gives_the_same_whatever_the_pooling_of_those_that_share_its_batch(
    way: str, tiny_engine: Engine, content: list[tuple[list[int], PoolingType | None]]
) -> None:
    inputs = [PoolingInput(np.array(ids, dtype=np.int32), pooling_type=kind) for ids, kind in content]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_engine, "eager_tokens", WAYS[way])
        for given_input, rows in zip(inputs, tiny_engine.forward(inputs), strict=True):
            (alone,) = tiny_engine.forward([given_input])
            assert rows.shape == alone.shape
            np.testing.assert_allclose(rows, alone, rtol=0, atol=BOUND)


@pytest.mark.parametrize("way", WAYS)
def test_steps_and_other_rows_share_a_batch(
    way: str, process_reward_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_reward_engine, "eager_tokens", WAYS[way])
    tag = process_reward_engine.spec.pooler.step_tag_id
    assert tag is not None
    texts = [np.array(ids, dtype=np.int32) for ids in ([7, tag, 8, tag], [9, 10, 11], [tag], [12, tag, 13])]
    wanted = [None, PoolingType.STEP, PoolingType.LAST, PoolingType.ALL]
    inputs = [PoolingInput(ids, pooling_type=kind) for ids in texts for kind in wanted]
    found = process_reward_engine.forward(inputs)
    for number, ids in enumerate(texts):
        own, steps, last, every = found[4 * number : 4 * number + 4]
        at = np.flatnonzero(ids == tag)
        assert (own.shape, last.shape, every.shape) == ((len(at), 1), (1, 1), (len(ids), 1))
        np.testing.assert_allclose(own, steps, rtol=0, atol=BOUND)
        np.testing.assert_allclose(own, every[at], rtol=0, atol=BOUND)
        np.testing.assert_allclose(last, every[-1:], rtol=0, atol=BOUND)


@pytest.mark.parametrize(
    "name",
    ["bert-cross-encoder", "qwen2-process-reward", "math-shepherd", "qwen3-reranker", "bert-classifier"],
)
def test_each_input_may_have_its_own_activation(name: str) -> None:
    engine = loaded(name)
    ids = np.array(inputs_of(name)[0].ids, dtype=np.int32)
    choices: list[Activation | None] = [None, *Activation]
    found = dict(zip(choices, engine.forward([PoolingInput(ids, activation=each) for each in choices]), strict=True))
    raw, own = found[Activation.NONE], engine.spec.pooler.activation
    np.testing.assert_allclose(found[None], found[own], rtol=0, atol=BOUND)
    # Of two logits that speak for and against the same thing, softmax is the sigmoid of their difference.
    pair = engine.spec.good_label is not None
    softmax = activated(raw, Activation.SIGMOID if pair else Activation.SOFTMAX)
    np.testing.assert_allclose(found[Activation.SOFTMAX], softmax, rtol=0, atol=BOUND)
    for each in (Activation.SIGMOID, Activation.TANH):
        np.testing.assert_allclose(found[each], activated(raw, each), rtol=0, atol=BOUND)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("qwen3-embedding", {"pooling_type": PoolingType.STEP}, "STEP scores steps.*gives embeddings"),
        ("qwen2-reward", {"pooling_type": PoolingType.STEP}, "needs the token that ends a step.*step_tag_id"),
        ("qwen3-embedding", {"activation": Activation.SIGMOID}, "activation sigmoid is for scores"),
    ],
)
def test_what_a_model_cannot_do_is_refused(name: str, wrong: dict[str, PoolingType | Activation], message: str) -> None:
    engine = loaded(name)
    good = PoolingInput(np.array([1, 2], dtype=np.int32))
    with pytest.raises(InputError, match=f"Input 1: .*{message}"):
        engine.forward([good, replace(good, **wrong)])  # type: ignore[arg-type]


def test_what_a_model_does_anyway_is_never_refused() -> None:
    for name in ("qwen3-embedding", "qwen2-process-reward", "bert-cross-encoder"):
        spec = spec_of(name)
        assert refusal(spec, None, None) is None
        assert refusal(spec, spec.pooler.pooling_type, spec.pooler.activation) is None
