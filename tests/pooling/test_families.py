"""Every model family and head gives Hugging Face's numbers (tests/golden), alone and in company."""

import json
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from pooling.architectures import Head
from pooling.config import resolve_spec
from pooling.engine import Engine, PoolingInput
from pooling.layers import attention as attention_module
from pooling.model_options import ModelOptions
from pooling.models.decoder import DecoderForPooling
from pooling.tokenizing import Tokenizer
from tests.pooling.conftest import GOLDEN

FAMILIES = GOLDEN / "families"
NAMES = sorted(path.name.removesuffix(".expected.json") for path in FAMILIES.glob("*.expected.json"))

LEAST_COSINE = 0.99999
LARGEST_SCORE_DIFFERENCE = 1e-4
LARGEST_BATCH_DIFFERENCE = 1e-5


class Known(NamedTuple):
    """An input of a golden: its text or pair of texts, its ids, and the rows that the reference gives."""

    text: str | list[str]
    ids: list[int]
    rows: NDArray[np.float32]


class Golden(NamedTuple):
    """A golden and the engine that serves it."""

    engine: Engine
    inputs: list[Known]


def options_of(name: str) -> ModelOptions:
    """The options that a golden is served with."""
    options = json.loads((FAMILIES / f"{name}.expected.json").read_text("utf-8"))["options"]
    if "pooler_config" in options:
        options["pooler_config"] = json.dumps(options["pooler_config"])
    return ModelOptions(**options)


def inputs_of(name: str) -> list[Known]:
    """What the reference implementation gave."""
    inputs = json.loads((FAMILIES / f"{name}.expected.json").read_text("utf-8"))["inputs"]
    return [Known(each["text"], each["ids"], np.array(each["rows"], dtype=np.float32)) for each in inputs]


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """Each golden in turn."""
    return str(request.param)


@pytest.fixture(scope="module")
def golden(name: str) -> Golden:
    """Its engine, loaded once."""
    return Golden(Engine.load(resolve_spec(FAMILIES / name, options_of(name))), inputs_of(name))


def pooling_input(known: Known, tokenizer: Tokenizer) -> PoolingInput:
    """The input with its recorded ids, and the place where a pair's second text begins."""
    ids = np.array(known.ids, dtype=np.int32)
    if isinstance(known.text, str):
        return PoolingInput(ids)
    encoded = tokenizer.encode_pairs([(known.text[0], known.text[1])])[0]
    return PoolingInput(ids, second_from=encoded.second_from)


def results(golden: Golden) -> list[NDArray[np.float32]]:
    tokenizer = Tokenizer.from_spec(golden.engine.spec)
    return golden.engine.forward([pooling_input(known, tokenizer) for known in golden.inputs])


def assert_right(golden: Golden, found: list[NDArray[np.float32]]) -> None:
    for known, rows in zip(golden.inputs, found, strict=True):
        assert rows.shape == known.rows.shape, known.text
        if golden.engine.spec.head is not Head.NONE:
            np.testing.assert_allclose(rows, known.rows, rtol=0, atol=LARGEST_SCORE_DIFFERENCE, err_msg=str(known.text))
            continue
        assert cosines(rows, known.rows).min() >= LEAST_COSINE, known.text
        np.testing.assert_allclose(
            np.linalg.norm(rows, axis=-1), np.linalg.norm(known.rows, axis=-1), rtol=1e-4, err_msg=str(known.text)
        )


def cosines(rows: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    left, right = rows.astype(np.float64), others.astype(np.float64)
    return (left * right).sum(-1) / np.linalg.norm(left, axis=-1) / np.linalg.norm(right, axis=-1)


def test_a_golden_tries_what_is_unusual(golden: Golden, name: str) -> None:
    if name == "bert-reranker":
        pytest.skip("recorded for the route; bert-cross-encoder is the golden of its kind")
    assert len(golden.inputs) >= 12
    lengths = [len(known.ids) for known in golden.inputs]
    assert max(lengths) == golden.engine.spec.max_model_len
    texts = [part for known in golden.inputs for part in ([known.text] if isinstance(known.text, str) else known.text)]
    # A step of a process reward ends with its tag.
    assert {" ", "a"} <= {text.removesuffix("<extra_0>").removesuffix(" ки") for text in texts}
    assert any("磨坊" in text for text in texts)
    assert any("🦆" in text for text in texts)


def test_the_heads_of_a_golden_decoder_have_a_width_of_their_own(golden: Golden) -> None:
    settings = golden.engine.spec.settings
    if golden.engine.spec.architecture.family.module == "qwen2":
        assert settings.get("head_dim") is None
    elif isinstance(golden.engine._model, DecoderForPooling):
        heads = settings.integer("num_attention_heads")
        assert settings.integer("head_dim") != settings.integer("hidden_size") / heads
        assert settings.integer("num_key_value_heads") < heads


@pytest.mark.parametrize("way", ["eager", "compiled"])
def test_results_are_those_of_the_reference(golden: Golden, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden.engine, "eager_tokens", 10**9 if way == "eager" else 0)
    assert_right(golden, results(golden))


def test_long_sequences_attend_in_blocks(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden.engine, "eager_tokens", 10**9)
    monkeypatch.setattr(golden.engine, "chunk_tokens", 1)  # each alone: what is long is never padded
    monkeypatch.setattr(attention_module, "LONGEST_AT_ONCE", 6)
    monkeypatch.setattr(attention_module, "QUERY_BLOCK", 5)
    assert_right(golden, results(golden))


def test_token_ids_are_those_of_the_reference(golden: Golden) -> None:
    tokenizer = Tokenizer.from_spec(golden.engine.spec)
    for known in golden.inputs:
        if isinstance(known.text, str):
            ids = tokenizer.encode([known.text])[0]
        else:
            ids = tokenizer.encode_pairs([(known.text[0], known.text[1])])[0].ids
        assert ids.tolist() == known.ids, known.text


def company(golden: Golden, count: int) -> list[PoolingInput]:
    """Sequences of any tokens, of every length that the model takes."""
    generator = np.random.default_rng(5)
    spec = golden.engine.spec
    lengths = generator.integers(1, spec.max_model_len, size=count, endpoint=True)
    return [PoolingInput(generator.integers(0, spec.vocab_size, length).astype(np.int32)) for length in lengths]


@pytest.mark.parametrize("way", ["eager", "compiled", "as it comes"])
def test_company_does_not_change_a_result(golden: Golden, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way != "as it comes":
        monkeypatch.setattr(golden.engine, "eager_tokens", 10**9 if way == "eager" else 0)
        monkeypatch.setattr(golden.engine, "chunk_tokens", 10**9)  # all 64 in one forward
    tokenizer = Tokenizer.from_spec(golden.engine.spec)
    each = [pooling_input(known, tokenizer) for known in golden.inputs]
    crowd = each + company(golden, 64 - len(each))
    order = np.random.default_rng(6).permutation(64)
    together = golden.engine.forward([crowd[number] for number in order])
    for number, rows in zip(order, together, strict=True):
        if number < len(each):
            alone = golden.engine.forward([crowd[number]])[0]
            size = np.maximum(1.0, np.linalg.norm(alone, axis=-1, keepdims=True))
            np.testing.assert_allclose(rows / size, alone / size, rtol=0, atol=LARGEST_BATCH_DIFFERENCE)
