"""Texts become the same ids as in Hugging Face's tokenizers, and are cut the same way."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pooling.config import resolve_spec
from pooling.errors import CheckpointError
from pooling.tokenizing import Tokenizer
from tests.pooling.checkpoints import copied, edit_json
from tests.pooling.conftest import GOLDEN, TINY_BERT, expected_of

TINY = Tokenizer.from_spec(resolve_spec(TINY_BERT))
FAMILIES = GOLDEN / "families"
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
def test_any_text_gives_the_ids_of_transformers(
    reference: PreTrainedTokenizerFast, texts: list[str], special: bool
) -> None:
    ours = TINY.encode(texts, add_special_tokens=special)
    theirs = reference(texts, add_special_tokens=special)["input_ids"]
    assert [ids.tolist() for ids in ours] == theirs


@pytest.fixture(scope="module")
def reference() -> PreTrainedTokenizerFast:
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
    given_ids = np.array(ids, dtype=np.int32)
    assert TINY.truncate(given_ids, limit).tolist() == ids[:limit]
    assert TINY.truncate(given_ids, limit, "left").tolist() == ids[-limit:]


@pytest.mark.parametrize("side", ["left", "right"])
@given(words=st.integers(1, 40), limit=st.integers(3, 40))
def test_a_framed_text_is_cut_on_either_side_as_transformers_cuts_it(
    reference: PreTrainedTokenizerFast, side: Literal["left", "right"], words: int, limit: int
) -> None:
    text = "the river and a mill " * words
    reference.truncation_side = side
    theirs = reference(text, truncation=True, max_length=limit)["input_ids"]
    assert TINY.truncate(TINY.encode([text])[0], limit, side).tolist() == theirs


@pytest.fixture(scope="module")
def with_segments(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """The tiny tokenizer under the name of one that gives token types."""
    directory = copied(TINY_BERT, tmp_path_factory.mktemp("bert") / "model")
    edit_json(directory / "tokenizer_config.json", lambda config: config.update(tokenizer_class="BertTokenizer"))
    return Tokenizer.from_spec(resolve_spec(directory))


def test_pairs_are_the_ids_and_segments_of_transformers(
    reference: PreTrainedTokenizerFast, with_segments: Tokenizer
) -> None:
    pairs = [("water", "The mill pond stores water."), ("a queue of requests", " "), (" ", "rain"), (" ", " ")]
    for (first, second), ours in zip(pairs, with_segments.encode_pairs(pairs), strict=True):
        theirs = reference(first, second, return_token_type_ids=True)
        assert ours.ids.dtype == np.int32
        assert ours.ids.tolist() == theirs["input_ids"]
        assert ours.second_from is not None
        assert ours.second_from == theirs["token_type_ids"].index(1)
        assert theirs["token_type_ids"][ours.second_from :] == [1] * (len(ours.ids) - ours.second_from)
        assert ours.ids[ours.second.start : ours.second.stop].tolist() == TINY.encode([second], False)[0].tolist()


@given(words=st.integers(1, 30), limit=st.integers(8, 80))
def test_a_pair_is_cut_at_the_end_of_its_second_text(
    reference: PreTrainedTokenizerFast, with_segments: Tokenizer, words: int, limit: int
) -> None:
    query, document = "the water", "the river and a mill " * words
    reference.truncation_side = "right"
    theirs = reference(query, document, truncation="only_second", max_length=limit, return_token_type_ids=True)
    cut = with_segments.encode_pairs([(query, document)])[0].cut(limit)
    assert cut.ids.tolist() == theirs["input_ids"]
    assert cut.second_from == theirs["token_type_ids"].index(1)
    assert cut.cut(limit) is cut


def test_a_first_text_that_leaves_no_room_for_the_second_is_not_cut() -> None:
    pair = TINY.encode_pairs([("the water", "rain falls")])[0]
    assert pair.cut(len(pair.ids) - 1).second == range(pair.second.start, pair.second.stop - 1)
    with pytest.raises(ValueError, match="nothing of the second text"):
        pair.cut(len(pair.ids) - len(pair.second))


@pytest.mark.parametrize(
    "changes",
    [
        {"tokenizer_class": "BertTokenizer"},
        {"tokenizer_class": "BertTokenizerFast"},
        {"tokenizer_class": None},
        {"tokenizer_class": "PreTrainedTokenizerFast"},
        {"tokenizer_class": "TokenizersBackend"},
        {"tokenizer_class": "BertTokenizer", "model_input_names": ["input_ids", "attention_mask"]},
        {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "token_type_ids"]},
    ],
)
def test_a_pair_has_segments_where_transformers_hands_token_types_to_the_model(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    directory = copied(TINY_BERT, tmp_path / "model")
    edit_json(directory / "tokenizer_config.json", lambda config: config.update(changes))
    ours = Tokenizer.from_spec(resolve_spec(directory)).encode_pairs([("water", "The mill pond")])[0]
    theirs = AutoTokenizer.from_pretrained(directory)("water", "The mill pond")
    assert ours.ids.tolist() == theirs["input_ids"]
    types = theirs.get("token_type_ids")
    assert ours.second_from == (types.index(1) if types else None)


def test_a_model_without_a_second_segment_gets_none() -> None:
    roberta = Tokenizer.from_spec(resolve_spec(FAMILIES / "xlm-roberta-classifier"))
    assert roberta.encode_pairs([("water", "rain")])[0].second_from is None


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


LONG_TEXTS = {
    "words": "The river runs to the mill, and the mill grinds the corn. " * 400,
    "one word": "a" * 40_000,
    "Chinese": "图里有几个人在河边散步" * 2_000,
    "spaces": " " * 40_000 + "end",
    "mixed": "".join(f"{number} naïve façade 🙂{'x' * (number % 130)} " for number in range(900)),
}


@pytest.mark.parametrize("text", LONG_TEXTS.values(), ids=LONG_TEXTS)
@pytest.mark.parametrize("family", ["tiny-bert", "llama", "qwen3", "xlm-roberta-classifier", "modernbert", "gemma3"])
def test_a_text_that_is_shortened_first_is_refused_and_cut_as_the_whole(family: str, text: str) -> None:
    directory = TINY_BERT if family == "tiny-bert" else FAMILIES / family
    tokenizer = Tokenizer.from_spec(resolve_spec(directory))
    (whole,) = tokenizer.encode([text])
    for side in ("left", "right"):
        shortened = tokenizer.shortened(text, 32, side)
        (ids,) = tokenizer.encode([shortened])
        assert (len(ids) > 32) == (len(whole) > 32)
        assert tokenizer.truncate(ids, 32, side).tolist() == tokenizer.truncate(whole, 32, side).tolist()
    if len(whole) > 5_000:
        assert len(shortened) < len(text) / 4


def test_a_short_text_is_left_alone() -> None:
    text = "x " * 300
    assert TINY.shortened(text, 64) is text
    assert not TINY.may_shorten(text, 64)
