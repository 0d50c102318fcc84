"""Each image gets the places of its tokens, nobody else gets any, and what is too long is refused before it is made."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import ApiError
from api.media.references import FetchedImage, ImageReference
from api.picturing import check_no_places, check_options, check_written, texts_in, with_images
from api.protocol.documents import Document, jina_document
from api.protocol.messages import Conversation, parse_messages
from api.sequences import Limit, Sequences
from api.serving import ServedModel
from pooling.config import ModelSpec, resolve_spec
from pooling.model_options import ModelOptions
from pooling.padding import text_places
from pooling.tokenizing import TokenIds, Tokenizer
from pooling.vision.layout import expanded
from pooling.vision.processors import read_image_processor
from tests.server import GOLDEN, TINY_BERT

PLACEHOLDER = 5
PAD = "<|image_pad|>"

SQUARE = FetchedImage(b"square", b"s" * 32, 40, 40)
WIDE = FetchedImage(b"wide", b"w" * 32, 101, 17)


def model_of(spec: ModelSpec) -> ServedModel:
    """As much of a served model as images need."""
    found = SimpleNamespace(
        name="tiny",
        spec=spec,
        tokenizer=Tokenizer.from_spec(spec),
        image_processor=read_image_processor(spec),
        text_places=text_places(spec),
    )
    return cast("ServedModel", found)


QWEN = model_of(resolve_spec(GOLDEN / "vision" / "qwen2-vl", ModelOptions()))
SIGLIP = model_of(resolve_spec(GOLDEN / "vision" / "siglip", ModelOptions()))
CLIP = model_of(resolve_spec(GOLDEN / "vision" / "clip", ModelOptions()))
TEXT = model_of(resolve_spec(TINY_BERT, ModelOptions()))


def ids_of(*ids: int) -> TokenIds:
    return np.array(ids, dtype=np.int32)


def limit(tokens: int) -> Limit:
    return Limit(tokens, True, "right", "")


def tokens_of(image: FetchedImage, options: dict[str, Any]) -> int:
    assert QWEN.image_processor is not None
    return QWEN.image_processor.tokens(image.width, image.height, options)


@pytest.mark.parametrize(
    ("model", "pictured", "ids", "computed"),
    [
        (CLIP, True, 1, 3 * 3),
        (SIGLIP, True, 1, 3 * 3),
        (CLIP, False, 7, 7),
        (SIGLIP, False, 7, 48),
        (QWEN, True, 30, 30),
        (TEXT, False, 7, 7),
    ],
)
def test_what_is_computed_is_counted(model: ServedModel, pictured: bool, ids: int, computed: int) -> None:
    assert ServedModel.computed(model, np.zeros(ids, dtype=np.int32), pictured=pictured) == computed


@given(st.lists(st.integers(6, 99) | st.integers(1, 40).map(lambda count: -count), max_size=50))
def test_each_placeholder_is_repeated_and_all_else_keeps_its_order(tokens: list[int]) -> None:
    """A negative token is an image of so many."""
    counts = [-each for each in tokens if each < 0]
    ids = ids_of(*(PLACEHOLDER if each < 0 else each for each in tokens))
    found = expanded(ids, PLACEHOLDER, counts)
    assert found.dtype == np.int32
    assert found.tolist() == [each for token in tokens for each in ([PLACEHOLDER] * -token if token < 0 else [token])]


def test_images_fill_their_places_in_order() -> None:
    counts = [tokens_of(each, {}) for each in (SQUARE, WIDE)]
    found = with_images(QWEN, ids_of(1, PLACEHOLDER, 7, PLACEHOLDER, 2), [SQUARE, WIDE], {}, limit(1000))
    assert found.tolist() == [1, *[PLACEHOLDER] * counts[0], 7, *[PLACEHOLDER] * counts[1], 2]


def test_a_sequence_that_its_images_make_too_long_is_refused_and_never_cut() -> None:
    tokens = tokens_of(SQUARE, {})
    ids = ids_of(1, PLACEHOLDER, 2)
    assert len(with_images(QWEN, ids, [SQUARE], {}, limit(tokens + 2))) == tokens + 2
    with pytest.raises(ApiError, match=rf"input\[3\] has {tokens + 2} tokens, {tokens} of them of its 1") as caught:
        with_images(QWEN, ids, [SQUARE], {}, limit(tokens + 1), "input[3]")
    assert (caught.value.param, caught.value.code) == ("input", "context_length_exceeded")


def test_an_image_made_immense_by_options_is_refused_before_its_places_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made(*arguments: object) -> None:
        raise AssertionError("a sequence over the limit was made")

    monkeypatch.setattr("api.picturing.expanded", made)
    options = check_options(QWEN, {"min_pixels": 2**31, "max_pixels": 2**32 - 1})
    with pytest.raises(ApiError, match="has 33558850 tokens") as caught:
        with_images(QWEN, ids_of(1, PLACEHOLDER), [SQUARE], options, limit(256))
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(("ids", "images"), [((1, 2), 1), ((1, PLACEHOLDER, PLACEHOLDER), 1), ((PLACEHOLDER,), 2)])
def test_a_template_that_makes_more_or_fewer_places_than_images_is_refused(ids: tuple[int, ...], images: int) -> None:
    said = f"The chat template of tiny wrote {ids.count(PLACEHOLDER)} placeholders for {images} images"
    with pytest.raises(ApiError, match=said) as caught:
        with_images(QWEN, ids_of(*ids), [SQUARE] * images, {}, limit(1000))
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, "messages", "image_placeholders")


@pytest.mark.parametrize(
    "sent",
    [
        [{"role": "user", "content": f"see {PAD}"}],
        [{"role": "user", "content": "a"}, {"role": PAD, "content": "a"}],
        [{"role": "user", "content": [{"type": "text", "text": f"a{PAD}b"}]}],
        [{"role": "a", "tool_calls": [{"function": {"arguments": {"x": PAD}}}]}],
        [{"role": "a", "tool_calls": [{"function": {"arguments": {PAD: 1}}}]}],
        [{"role": "user", "content": "<|image@placeholder|>"}],
    ],
)
def test_a_placeholder_that_a_caller_wrote_is_found_wherever_it_is(sent: object) -> None:
    with pytest.raises(ApiError, match=r"A text of messages contains .* which stands for an image") as caught:
        check_written(QWEN, sent, "messages")
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, "messages", "reserved_text")
    check_written(TEXT, sent, "messages")
    check_written(CLIP, sent, "messages")


def test_innocent_json_is_taken_and_nesting_as_deep_as_it_may_be_is_searched() -> None:
    check_written(QWEN, [{"role": "user", "content": "<|image_pad", "n": [1, None, True, 2.5]}], "messages")
    value: object = PAD
    for _ in range(5_000):
        value = [value]
    assert list(texts_in(value)) == [PAD]


def test_sequences_without_images_have_no_placeholders() -> None:
    plain, marked = ids_of(1, 2), ids_of(1, PLACEHOLDER)
    check_no_places(QWEN, Sequences("input", [plain]))
    check_no_places(QWEN, Sequences("input", [plain, marked], images=[[], [SQUARE]]))
    check_no_places(TEXT, Sequences("input", [marked]))
    with pytest.raises(ApiError, match=rf"input\[1\] has the token {PLACEHOLDER} \(<\|image_pad\|>\)") as caught:
        check_no_places(QWEN, Sequences("input", [marked, marked], images=[[SQUARE], []]))
    assert caught.value.code == "reserved_text"


def test_a_text_part_with_an_image_of_null_as_data_sets_write_it_is_a_text() -> None:
    part = {"type": "text", "text": "a", "image": None}
    found = parse_messages([{"role": "user", "content": [part]}], 100)
    assert isinstance(found, Conversation)
    assert found.messages == [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
    assert part["image"] is None


def test_a_document_of_jinas_may_have_an_image_and_a_text() -> None:
    found = jina_document({"text": "a", "image": "https://a/b.png"}, "input[1]")
    assert found == Document([ImageReference("https://a/b.png", "input[1].image"), "a"], "input[1]")
    for wrong in ({}, {"text": None}, 3):
        with pytest.raises(ApiError, match=r"input\[1\] is .*; it must be a text"):
            jina_document(wrong, "input[1]")
