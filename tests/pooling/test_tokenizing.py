"""Texts become the same ids as in Hugging Face's tokenizers, and are cut the same way."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pooling.config import resolve_spec
from pooling.errors import CheckpointError
from pooling.tokenizing import Tokenizer
from tests.pooling.checkpoints import copied
from tests.pooling.conftest import GOLDEN, TINY_BERT, expected_of

TINY = Tokenizer.from_spec(resolve_spec(TINY_BERT))
CLS, SEP = 2, 3


def test_the_tiny_tokenizer_gives_the_recorded_ids() -> None:
    for expected in expected_of(TINY_BERT):
        ids = TINY.encode([expected.text])[0]
        assert ids.dtype == np.int32
        assert ids.tolist() == expected.ids_untruncated
        assert TINY.truncate(ids, 64).tolist() == expected.ids


def test_the_default_model_gives_the_recorded_ids(minilm_directory: Path) -> None:
    rows = [json.loads(line) for line in (GOLDEN / "minilm" / "texts.jsonl").read_text("utf-8").splitlines()]
    tokenizer = Tokenizer.from_spec(resolve_spec(minilm_directory))
    encoded = tokenizer.encode([row["text"] for row in rows])
    assert [tokenizer.truncate(ids, 256).tolist() for ids in encoded] == [row["ids"] for row in rows]


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(st.text(), min_size=1, max_size=4), special=st.booleans())
def test_any_text_gives_the_ids_of_transformers(reference: object, texts: list[str], special: bool) -> None:
    ours = TINY.encode(texts, add_special_tokens=special)
    theirs = reference(texts, add_special_tokens=special)["input_ids"]  # type: ignore[operator]
    assert [ids.tolist() for ids in ours] == theirs


@pytest.fixture(scope="module")
def reference() -> object:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(TINY_BERT)


@given(words=st.integers(0, 90), limit=st.integers(2, 80))
def test_truncation_keeps_the_first_and_the_last_special_token(words: int, limit: int) -> None:
    ids = TINY.encode(["the river " * words])[0]
    cut = TINY.truncate(ids, limit)
    assert len(cut) == min(limit, len(ids))
    assert (cut[0], cut[-1]) == (CLS, SEP)
    np.testing.assert_array_equal(cut[:-1], ids[: len(cut) - 1])


@given(ids=st.lists(st.integers(5, 90), max_size=30), limit=st.integers(1, 30))
def test_ids_without_special_tokens_are_simply_cut(ids: list[int], limit: int) -> None:
    assert TINY.truncate(np.array(ids, dtype=np.int32), limit).tolist() == ids[:limit]


def test_a_limit_too_small_for_the_special_tokens_still_holds() -> None:
    assert TINY.truncate(TINY.encode(["the river"])[0], 1).tolist() == [CLS]


def test_a_checkpoint_that_wants_lowercased_texts_gets_them() -> None:
    spec = resolve_spec(TINY_BERT)
    tokenizer = Tokenizer.from_spec(replace(spec, lowercase=True))
    assert tokenizer.encode(["[SEP]"])[0].tolist() != TINY.encode(["[SEP]"])[0].tolist()
    assert tokenizer.encode(["RIVER"])[0].tolist() == TINY.encode(["river"])[0].tolist()


def test_a_broken_tokenizer_is_named(tmp_path: Path) -> None:
    directory = copied(TINY_BERT, tmp_path / "model")
    (directory / "tokenizer.json").write_text('{"model": {}}')
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        Tokenizer.from_spec(resolve_spec(directory))


def test_a_tokenizer_of_another_model_is_refused() -> None:
    with pytest.raises(CheckpointError, match="vocab_size is 20"):
        Tokenizer.from_spec(replace(resolve_spec(TINY_BERT), vocab_size=20))
