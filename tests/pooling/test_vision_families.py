"""Models with images give Hugging Face's numbers (tests/golden/vision), alone and in company."""

import json
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from pooling.architectures import Head
from pooling.config import resolve_spec
from pooling.embedded_images import EmbeddedImages
from pooling.engine import Engine, PoolingInput
from pooling.errors import InputError
from pooling.model_options import ModelOptions
from pooling.tokenizing import Tokenizer
from pooling.vision.images import decoded
from pooling.vision.layout import expanded
from pooling.vision.processors import ImageProcessor, PreparedImage, image_key, read_image_processor
from tests.pooling.conftest import GOLDEN

VISION = GOLDEN / "vision"
NAMES = sorted(path.name.removesuffix(".expected.json") for path in VISION.glob("*.expected.json"))

LEAST_COSINE = 0.99999
LARGEST_SCORE_DIFFERENCE = 1e-4
LARGEST_BATCH_DIFFERENCE = 1e-5


class Known(NamedTuple):
    """A conversation of a golden: the files of its images, its ids, and the rows that the reference gives."""

    images: list[str]
    ids: list[int]
    rows: NDArray[np.float32]


class Golden(NamedTuple):
    """A golden, the engine that serves it, and its image processor."""

    engine: Engine
    processor: ImageProcessor
    inputs: list[Known]


def images_of(messages: list[dict[str, Any]]) -> list[str]:
    """The files that a conversation's parts name."""
    contents = [each["content"] for each in messages if isinstance(each["content"], list)]
    return [part["image"] for content in contents for part in content if part["type"] == "image"]


def recorded(name: str) -> dict[str, Any]:
    """What a golden's file says."""
    found: dict[str, Any] = json.loads((VISION / f"{name}.expected.json").read_text("utf-8"))
    return found


def golden_of(name: str, options: ModelOptions) -> Golden:
    """A golden, its engine loaded with these options."""
    spec = resolve_spec(VISION / name, options)
    processor = read_image_processor(spec)
    assert processor is not None
    inputs = [
        Known(images_of(each["messages"]), each["ids"], np.array(each["rows"], dtype=np.float32))
        for each in recorded(name)["inputs"]
    ]
    return Golden(Engine.load(spec), processor, inputs)


@pytest.fixture(scope="module", params=NAMES)
def golden(request: pytest.FixtureRequest) -> Golden:
    """Each golden in turn, its engine loaded once."""
    name = str(request.param)
    return golden_of(name, ModelOptions(**recorded(name).get("options", {})))


def prepared(golden: Golden, name: str) -> PreparedImage:
    """An image file as the golden's processor prepares it."""
    pixels = decoded((VISION / "images" / name).read_bytes())
    return golden.processor.prepared(image_key(name.encode(), {}), pixels, {})


def inputs_of(golden: Golden) -> list[PoolingInput]:
    """The conversations with their recorded ids and their images."""
    return [
        PoolingInput(np.array(each.ids, dtype=np.int32), images=tuple(prepared(golden, name) for name in each.images))
        for each in golden.inputs
    ]


def assert_right(golden: Golden, found: list[NDArray[np.float32]]) -> None:
    for known, rows in zip(golden.inputs, found, strict=True):
        assert rows.shape == known.rows.shape
        if golden.engine.spec.head is not Head.NONE:
            np.testing.assert_allclose(
                rows, known.rows, rtol=0, atol=LARGEST_SCORE_DIFFERENCE, err_msg=str(known.images)
            )
        else:
            cosines = (rows * known.rows).sum(-1) / np.linalg.norm(rows, axis=-1) / np.linalg.norm(known.rows, axis=-1)
            assert cosines.min() >= LEAST_COSINE, known.images


def test_a_golden_has_text_alone_and_images_of_odd_sizes_in_the_first_and_the_last_turn(golden: Golden) -> None:
    counts = [len(known.images) for known in golden.inputs]
    # Where an image is a sequence of its own there is one, or none.
    assert ({0, 1} if golden.engine.spec.placeholder_id is None else {0, 1, 3}) <= set(counts)


def test_results_are_those_of_the_reference_one_by_one(golden: Golden) -> None:
    assert_right(golden, [golden.engine.forward([each])[0] for each in inputs_of(golden)])


def test_results_are_those_of_the_reference_in_one_batch(golden: Golden) -> None:
    assert_right(golden, golden.engine.forward(inputs_of(golden)))


def test_images_through_the_tower_one_by_one_give_the_same(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden.engine, "images", EmbeddedImages(golden.engine.spec, golden.engine._model))
    monkeypatch.setattr("pooling.embedded_images.TOWER_PATCHES", 1)
    assert_right(golden, golden.engine.forward(inputs_of(golden)))


def test_images_of_one_size_through_the_tower_together_give_the_same(
    golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden.engine, "images", EmbeddedImages(golden.engine.spec, golden.engine._model))
    monkeypatch.setattr("pooling.embedded_images.FEW_PATCHES", 1)
    assert_right(golden, golden.engine.forward(inputs_of(golden)))


@pytest.mark.parametrize("eager_patches", [0, 1_000_000], ids=["program", "eager"])
def test_a_tower_gives_the_same_as_a_program_and_eagerly(
    golden: Golden, eager_patches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = golden.engine._model.image_tower
    assert tower is not None
    tower.compile(eager_patches)
    monkeypatch.setattr(golden.engine, "images", EmbeddedImages(golden.engine.spec, golden.engine._model))
    assert_right(golden, golden.engine.forward(inputs_of(golden)))


def test_an_image_has_as_many_tokens_as_the_reference_gives_it(golden: Golden) -> None:
    tokenizer, placeholder = Tokenizer.from_spec(golden.engine.spec), golden.engine.spec.placeholder_id
    if placeholder is None:
        pytest.skip("an image is a sequence of its own")
    for known in golden.inputs:
        ids = np.array(known.ids, dtype=np.int32)
        images = [prepared(golden, name) for name in known.images]
        sizes = [decoded((VISION / "images" / name).read_bytes()).shape for name in known.images]
        counts = [golden.processor.tokens(width, height, {}) for height, width, _ in sizes]
        assert counts == [image.tokens for image in images]
        assert sum(counts) == np.count_nonzero(ids == placeholder)
        # One placeholder for each image, as a template writes them, becomes as many as were recorded.
        starts = np.flatnonzero((ids == placeholder) & (np.roll(ids, 1) != placeholder))
        kept = (ids != placeholder) | np.isin(np.arange(len(ids)), starts)
        assert expanded(ids[kept], placeholder, counts).tolist() == known.ids
        assert tokenizer.vocab_size > placeholder


def test_an_image_in_32_sequences_goes_through_the_tower_once(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    images = EmbeddedImages(golden.engine.spec, golden.engine._model)
    monkeypatch.setattr(golden.engine, "images", images)
    given = next(each for each in inputs_of(golden) if len(each.images) == 1)
    first = golden.engine.forward([given])[0]
    for rows in golden.engine.forward([given] * 32):
        np.testing.assert_allclose(rows, first, rtol=0, atol=LARGEST_BATCH_DIFFERENCE * np.abs(first).max())
    assert images.computed == 1


def test_images_that_are_not_kept_are_computed_again(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    images = EmbeddedImages(golden.engine.spec, golden.engine._model, kept_bytes=0)
    monkeypatch.setattr(golden.engine, "images", images)
    given = next(each for each in inputs_of(golden) if len(each.images) == 1)
    first, again = golden.engine.forward([given]), golden.engine.forward([given])
    np.testing.assert_array_equal(first[0], again[0])
    assert images.computed == 2


def test_a_sequence_without_its_image_is_refused(golden: Golden) -> None:
    if golden.engine.spec.placeholder_id is None:
        pytest.skip("an image is a sequence of its own")
    given = next(each for each in inputs_of(golden) if len(each.images) == 1)
    with pytest.raises(InputError, match=r"Input 0 has \d+ placeholders for images that have \d+ tokens"):
        golden.engine.forward([PoolingInput(given.ids[:-20], images=given.images * 2)])
