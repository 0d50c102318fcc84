"""Each image gets the places of its tokens, nobody else gets any, and what is too long is refused before it is made."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.answering import PoolingCall, items_of
from api.callers import ANONYMOUS
from api.errors import ApiError
from api.images import ImageReader, image_options
from api.imaging import (
    Unexpanded,
    check_no_placeholders,
    check_places,
    check_written,
    sequences_with,
    with_images,
)
from api.media.references import FetchedImage, ImageReference
from api.placeholders import written_in
from api.sequences import Limit, Sequences
from api.serving import ServedModel
from pooling.config import ModelOptions, resolve_spec
from pooling.tokenizing import TokenIds, Tokenizer
from pooling.vision.layout import expanded
from pooling.vision.processors import ImageOptions
from scheduler.messages import ImageUse
from tests.server import GOLDEN, TINY_BERT

PLACEHOLDER = 5
PAD = "<|image_pad|>"
TEMPLATE = "The chat template of this model (chat_template.jinja)"

SPEC = resolve_spec(GOLDEN / "vision" / "qwen2-vl", ModelOptions())
READER = ImageReader.of(SPEC, Tokenizer.from_spec(SPEC))
MODEL = cast("ServedModel", SimpleNamespace(images=READER, name="tiny"))
SQUARE = FetchedImage(b"square", b"s" * 32, 40, 40)
WIDE = FetchedImage(b"wide", b"w" * 32, 101, 17)


def reader() -> ImageReader:
    assert READER is not None
    return READER


def ids_of(*ids: int) -> TokenIds:
    return np.array(ids, dtype=np.int32)


def limit(tokens: int) -> Limit:
    return Limit(tokens, True, "right", "")


def unexpanded(ids: TokenIds, images: int, counted: bool = True) -> Unexpanded:
    references = [ImageReference("https://a/b", f"messages[0].content[{index}]") for index in range(images)]
    return Unexpanded("messages", ids, references, counted)


@given(st.lists(st.integers(6, 99) | st.integers(1, 40).map(lambda count: -count), max_size=50))
def test_each_placeholder_is_repeated_and_all_else_keeps_its_order(tokens: list[int]) -> None:
    """A negative token is an image of so many."""
    counts = [-each for each in tokens if each < 0]
    ids = ids_of(*(PLACEHOLDER if each < 0 else each for each in tokens))
    wanted = [each for token in tokens for each in ([PLACEHOLDER] * -token if token < 0 else [token])]
    found = expanded(ids, PLACEHOLDER, counts)
    assert found.dtype == np.int32
    assert found.tolist() == wanted


def test_the_text_of_the_placeholder_comes_from_the_checkpoint() -> None:
    assert (reader().placeholder_id, reader().placeholder, reader().mark) == (PLACEHOLDER, PAD, None)
    text_only = resolve_spec(TINY_BERT, ModelOptions())
    assert ImageReader.of(text_only, Tokenizer.from_spec(text_only)) is None


def test_a_mark_that_baidus_templates_write_becomes_the_placeholder() -> None:
    ernie = ImageReader(reader().processor, 9, "<|IMAGE_PLACEHOLDER|>", "<|image@placeholder|>")
    assert ernie.with_placeholders("a<|image@placeholder|>b") == "a<|IMAGE_PLACEHOLDER|>b"
    assert reader().with_placeholders("a<|image@placeholder|>b") == "a<|image@placeholder|>b"
    for word in ernie.written:
        with pytest.raises(ApiError, match="which stands for an image"):
            check_written(ernie, [{"role": "user", "content": f"a{word}"}], "messages")


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([{"role": "user", "content": f"see {PAD}"}], "messages[0].content"),
        ([{"role": "user", "content": "a"}, {"role": PAD, "content": "a"}], "messages[1].role"),
        ([{"role": "user", "content": [{"type": "text", "text": PAD}]}], "messages[0].content[0].text"),
        ([{"role": "a", "tool_calls": [{"function": {"arguments": {"x": PAD}}}]}], "function.arguments.x"),
        ([{"role": "a", "tool_calls": [{"function": {"arguments": {PAD: 1}}}]}], "function.arguments"),
    ],
)
def test_a_placeholder_that_a_caller_wrote_is_found_wherever_it_is(value: object, place: str) -> None:
    found = written_in(value, [PAD], "messages")
    assert found is not None
    assert found[0].endswith(place)
    with pytest.raises(ApiError, match="leave it out, and send the image as a part") as caught:
        check_written(READER, value, "messages")
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, "messages", "reserved_token")


def test_an_innocent_text_and_one_of_another_model_are_not_looked_at_twice() -> None:
    check_written(READER, [{"role": "user", "content": "<|image_pad", "n": [1, None, True, 2.5]}], "messages")
    check_written(None, [{"role": "user", "content": PAD}], "messages")


def test_nesting_as_deep_as_json_may_be_is_searched() -> None:
    value: object = PAD
    for _ in range(5_000):
        value = [value]
    assert written_in(value, [PAD], "messages") is not None


@pytest.mark.parametrize(("ids", "images"), [((1, 2), 1), ((1, PLACEHOLDER, PLACEHOLDER), 1), ((PLACEHOLDER,), 2)])
def test_a_template_that_makes_more_or_fewer_places_than_images_is_refused(ids: tuple[int, ...], images: int) -> None:
    with pytest.raises(ApiError) as caught:
        check_places(
            reader(), unexpanded(ids_of(*ids), images), "The chat template of this model (chat_template.jinja)"
        )
    error = caught.value
    assert (error.status, error.param, error.code) == (400, "messages", "image_places")
    assert TEMPLATE in error.message
    assert f"{ids.count(PLACEHOLDER)} places for images ({PAD}) of {images} images" in error.message


def test_places_of_a_text_that_was_cut_are_not_counted() -> None:
    check_places(reader(), unexpanded(ids_of(1, 2), 3, counted=False), "")


def test_images_fill_their_places_in_order() -> None:
    options: ImageOptions = {}
    counts = [reader().tokens(each, options) for each in (SQUARE, WIDE)]
    sequence = unexpanded(ids_of(1, PLACEHOLDER, 7, PLACEHOLDER, 2), 2)
    found = with_images(reader(), sequence, [SQUARE, WIDE], options, limit(1000))
    wanted = [1, *[PLACEHOLDER] * counts[0], 7, *[PLACEHOLDER] * counts[1], 2]
    assert found.ids.tolist() == wanted
    assert (found.images, found.image_tokens) == ([SQUARE, WIDE], sum(counts))


def test_a_sequence_that_its_images_make_too_long_is_refused_and_never_cut() -> None:
    tokens = reader().tokens(SQUARE, {})
    sequence = unexpanded(ids_of(1, PLACEHOLDER, 2), 1)
    assert len(with_images(reader(), sequence, [SQUARE], {}, limit(tokens + 2)).ids) == tokens + 2
    with pytest.raises(ApiError, match=f"has {tokens + 2} tokens, {tokens} of them for its images, over the limit of"):
        with_images(reader(), sequence, [SQUARE], {}, limit(tokens + 1))


def test_an_image_made_immense_by_options_is_refused_before_its_places_are_made() -> None:
    options = {"min_pixels": 2**31, "max_pixels": 2**32}
    assert reader().processor.refusal(options) is None
    with pytest.raises(ApiError, match="of them for its images") as caught:
        with_images(reader(), unexpanded(ids_of(PLACEHOLDER), 1), [SQUARE], options, limit(256))
    assert caught.value.code == "context_length_exceeded"


def test_options_that_the_processor_does_not_know_are_named_with_those_that_it_does() -> None:
    assert image_options(READER, {"image_size": 224}) == {"image_size": 224}
    assert image_options(READER, None) == {}
    assert image_options(None, {"whatever": "a model of text alone takes"}) == {}
    with pytest.raises(ApiError, match=r"mm_processor_kwargs: fps is not among .* min_pixels, max_pixels") as caught:
        image_options(READER, {"fps": 2})
    assert (caught.value.status, caught.value.param) == (400, "mm_processor_kwargs")


def test_sequences_without_images_have_no_placeholders() -> None:
    check_no_placeholders(MODEL, Sequences("input", [ids_of(1, 2)]))
    check_no_placeholders(MODEL, Sequences("input", [ids_of(1, PLACEHOLDER)], images=[[SQUARE]], image_tokens=1))
    with pytest.raises(ApiError, match=rf"input\[1\] has the token {PLACEHOLDER}") as caught:
        check_no_placeholders(
            MODEL, Sequences("input", [ids_of(PLACEHOLDER), ids_of(PLACEHOLDER)], images=[[SQUARE], []])
        )
    assert caught.value.code == "reserved_token"


def test_where_no_token_stands_for_images_an_image_is_a_sequence_of_its_own() -> None:
    alone = ImageReader(reader().processor, None, "")
    found = with_images(alone, unexpanded(ids_of(), 1), [SQUARE], {}, limit(256))
    assert (found.ids.tolist(), found.images) == ([0], [SQUARE])


def test_items_name_the_images_of_their_sequences_and_how_they_are_processed() -> None:
    options: ImageOptions = {"min_pixels": 256, "max_pixels": 1024}
    sequence = unexpanded(ids_of(1, PLACEHOLDER, PLACEHOLDER), 2)
    pictured = with_images(reader(), sequence, [SQUARE, WIDE], options, limit(1000))
    plain = Sequences("input", [ids_of(7, 8)])
    both = Sequences.joined("rows", [plain, sequences_with("messages", [pictured], options)])
    items = items_of("r", PoolingCall(MODEL, both), 5.0, ANONYMOUS)
    assert [item.images for item in items] == [(), (ImageUse(b"s" * 32, 40, 40), ImageUse(b"w" * 32, 101, 17))]
    assert [item.image_options for item in items] == [b"", b'{"max_pixels":1024,"min_pixels":256}']
    assert items[1].tokens == pictured.image_tokens + 1
    assert both.image_tokens == pictured.image_tokens


def test_items_of_sequences_without_images_have_none() -> None:
    items = items_of("r", PoolingCall(MODEL, Sequences.joined("rows", [Sequences("a", [ids_of(1)])])), 5.0, ANONYMOUS)
    assert [(item.images, item.image_options) for item in items] == [((), b"")]
