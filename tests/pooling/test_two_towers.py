"""CLIP and SigLIP beside what tests/golden/vision records: where texts end, how they are filled up, what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pooling.config import ModelSpec, resolve_spec
from pooling.engine import Engine, PoolingInput
from pooling.errors import CheckpointError, InputError
from pooling.model_options import ModelOptions
from pooling.padding import Padding, read_padding
from pooling.settings import Settings
from pooling.tokenizing import Tokenizer
from pooling.vision import clip_processor
from pooling.vision.images import decoded
from pooling.vision.processors import PreparedImage, read_image_processor
from tests.pooling.checkpoints import copied, edit_json, read_safetensors, write_safetensors
from tests.pooling.conftest import GOLDEN

VISION = GOLDEN / "vision"
CLIPS, SIGLIPS = ("clip", "clip-right-end"), ("siglip", "siglip2")

LEAST_COSINE = 0.99999
LEAST_COSINE_IN_16_BITS = 0.999
LARGEST_BATCH_DIFFERENCE = 1e-5


@pytest.fixture(scope="module", params=[*CLIPS, *SIGLIPS])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each golden's engine, loaded once."""
    return Engine.load(resolve_spec(VISION / request.param))


@pytest.fixture(scope="module", params=CLIPS)
def clip(request: pytest.FixtureRequest) -> Engine:
    """Each CLIP's, whose configurations say in two ways where a text ends."""
    return Engine.load(resolve_spec(VISION / request.param))


@pytest.fixture(scope="module")
def siglip() -> Engine:
    """SigLIP's, whose texts are filled up behind."""
    return Engine.load(resolve_spec(VISION / "siglip"))


def recorded(spec: ModelSpec) -> list[dict[str, Any]]:
    """The texts of a golden, with their ids and the reference's rows."""
    inputs = json.loads((VISION / f"{spec.directory.name}.expected.json").read_text("utf-8"))["inputs"]
    return [each for each in inputs if isinstance(each["messages"][0]["content"], str)]


def image_of(spec: ModelSpec, name: str) -> PreparedImage:
    """One of the images of tests/golden/vision."""
    processor = read_image_processor(spec)
    assert processor is not None
    return processor.prepared(name.encode(), decoded((VISION / "images" / f"{name}.png").read_bytes()), {})


def text(*ids: int) -> PoolingInput:
    """A text of these ids."""
    return PoolingInput(np.array(ids, dtype=np.int32))


def image_input(image: PreparedImage) -> PoolingInput:
    """An image as a sequence of its own."""
    return PoolingInput(np.zeros(1, dtype=np.int32), images=(image,))


def assert_same(rows: NDArray[np.float32], others: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(rows, others, rtol=0, atol=LARGEST_BATCH_DIFFERENCE)


def test_token_ids_are_those_of_the_reference(engine: Engine) -> None:
    tokenizer = Tokenizer.from_spec(engine.spec)
    for known in recorded(engine.spec):
        words = known["messages"][0]["content"]
        assert tokenizer.encode([words])[0].tolist() == known["ids"], words


@pytest.mark.parametrize("way", ["eager", "compiled"])
def test_texts_alone_are_right_eagerly_and_compiled(engine: Engine, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "eager_tokens", 10**9 if way == "eager" else 0)
    known = recorded(engine.spec)
    assert max(len(each["ids"]) for each in known) == engine.spec.max_model_len
    for each, rows in zip(known, engine.forward([text(*each["ids"]) for each in known]), strict=True):
        assert float((rows * np.array(each["rows"])).sum()) >= LEAST_COSINE, each["messages"]


@pytest.mark.parametrize("name", ["clip", "siglip2"])
def test_in_16_bits_embeddings_of_both_kinds_are_nearly_the_same(name: str) -> None:
    whole, half = (resolve_spec(VISION / name, ModelOptions(dtype=dtype)) for dtype in ("float32", "bfloat16"))
    given = [text(*each["ids"]) for each in recorded(whole)] + [image_input(image_of(whole, "odd"))]
    for rows, others in zip(Engine.load(whole).forward(given), Engine.load(half).forward(given), strict=True):
        assert float((rows * others).sum()) >= LEAST_COSINE_IN_16_BITS


def test_company_of_both_kinds_does_not_change_a_result(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(5)
    images = [image_input(image_of(engine.spec, name)) for name in ("odd", "wide", "tiny")]
    lengths = generator.integers(1, engine.spec.max_model_len, size=29, endpoint=True)
    texts = [text(*generator.integers(0, engine.spec.vocab_size, length).tolist()) for length in lengths]
    crowd = [(texts + images)[place] for place in generator.permutation(32)]
    alone = [engine.forward([each])[0] for each in crowd]
    for chunk_tokens in (engine.chunk_tokens, 10**9):
        monkeypatch.setattr(engine, "chunk_tokens", chunk_tokens)
        for rows, expected in zip(engine.forward(crowd), alone, strict=True):
            assert_same(rows, expected)


def test_an_embedding_is_normalised_unless_the_caller_says_otherwise(engine: Engine) -> None:
    image = image_input(image_of(engine.spec, "square"))
    raw = PoolingInput(image.ids, images=image.images, normalize=False)
    (unit,), (row,) = engine.forward([image, raw])
    assert np.linalg.norm(unit) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(row) != pytest.approx(1, abs=1e-2)
    assert_same(row / np.linalg.norm(row), unit)


def test_clip_reads_a_text_up_to_its_first_end(clip: Engine) -> None:
    end = clip.spec.vocab_size - 1
    short, longer = clip.forward([text(end - 1, 7, 8, end), text(end - 1, 7, 8, end, 9, 10, end, 11)])
    assert_same(short, longer)


def test_clip_pools_a_text_without_an_end_at_its_last_token(clip: Engine) -> None:
    end = clip.spec.vocab_size - 1
    first, other, shorter = clip.forward([text(end - 1, 7, 8, 9), text(end - 1, 7, 8, 10), text(end - 1, 7, 8)])
    assert not np.allclose(first, other, atol=1e-3)
    assert not np.allclose(first, shorter, atol=1e-3)


def test_siglip_takes_a_text_that_is_filled_up_already(siglip: Engine) -> None:
    filling = [1] * (siglip.spec.max_model_len - 3)
    short, whole = siglip.forward([text(5, 6, 1), text(5, 6, 1, *filling)])
    assert_same(short, whole)


@pytest.mark.parametrize(
    ("ids", "count"), [((5, 6, 7), 1), ((0, 0), 2), ((0,), 2)], ids=["a text beside", "two images", "two in one place"]
)
def test_an_image_stands_alone(engine: Engine, ids: tuple[int, ...], count: int) -> None:
    images = tuple(image_of(engine.spec, name) for name in ("odd", "wide")[:count])
    given = PoolingInput(np.array(ids, dtype=np.int32), images=images)
    with pytest.raises(InputError, match=rf"Input 1 has {len(ids)} tokens and {count} images.* either a text or one"):
        engine.forward([text(5, 6), given])


def test_an_image_is_one_token_and_its_patches_fill_the_square(engine: Engine) -> None:
    image = image_of(engine.spec, "tall")
    processor = read_image_processor(engine.spec)
    assert processor is not None
    assert image.tokens == processor.tokens(9, 71, {}) == 1
    assert image.grid == (1, 3, 3)
    assert image.patches.shape == (9, 3 * 8 * 8)


def test_an_image_takes_no_options_and_says_so(engine: Engine) -> None:
    processor = read_image_processor(engine.spec)
    assert processor is not None
    assert processor.refusal({}) is None
    size = engine.spec.vision.integer("image_size") if engine.spec.vision else 0
    assert re.search(
        f"max_pixels is not taken.* made {size} x {size}", str(processor.refusal({"size": 1, "max_pixels": 9}))
    )


def test_of_a_long_image_the_middle_is_prepared_as_of_the_whole(clip: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    processor = read_image_processor(clip.spec)
    assert processor is not None
    across, down = np.mgrid[0:12, 0:500][1], np.mgrid[0:12, 0:500][0]
    pixels = np.stack([across % 256, 20 * down, (across + down) % 256], axis=-1).astype(np.uint8)
    for turned in (pixels, np.ascontiguousarray(pixels.swapaxes(0, 1))):
        cut = processor.prepared(b"cut", turned, {}).patches
        with monkeypatch.context() as patched:
            patched.setattr(clip_processor, "MOST_ELONGATED", 10**9)
            whole = processor.prepared(b"whole", turned, {}).patches
        np.testing.assert_allclose(cut, whole, rtol=0, atol=0.05)


def test_a_line_of_pixels_is_not_blown_up(clip: Engine) -> None:
    processor = read_image_processor(clip.spec)
    assert processor is not None
    # Resized as a whole it would have 120 million pixels.
    line = np.zeros((1, 131_072, 3), dtype=np.uint8)
    assert processor.prepared(b"line", line, {}).patches.shape == (9, 192)


def test_image_processors_of_old_configurations_state_their_sizes_as_numbers(tmp_path: Path) -> None:
    directory = copied(VISION / "clip", tmp_path / "clip")
    edit_json(
        directory / "preprocessor_config.json",
        lambda value: value.update(
            size=30, crop_size=28, image_processor_type=None, feature_extractor_type="CLIPFeatureExtractor"
        ),
    )
    before, after = (image_of(resolve_spec(each), "odd") for each in (VISION / "clip", directory))
    np.testing.assert_array_equal(before.patches, after.patches)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_size": 32}, "image_size 28 in config.json and an image processor that makes images of 32 x 32 pixels"),
        ({"do_center_crop": False}, "image_size 28 in config.json.* of no fixed size"),
        ({"image_processor_type": "BitImageProcessor"}, "'BitImageProcessor', which is not supported"),
    ],
)
def test_an_image_processor_that_does_not_fit_is_refused(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    directory = copied(VISION / "clip", tmp_path / "clip")
    edit_json(directory / "preprocessor_config.json", lambda value: value.update(changes))
    with pytest.raises(CheckpointError, match=message):
        read_image_processor(resolve_spec(directory))


@pytest.mark.parametrize(
    ("name", "section", "changes", "message"),
    [
        ("clip", None, {"vision_config": None}, "vision_config = None.* needs a tower for images"),
        ("clip", None, {"projection_dim": 17}, r"projection\.weight .*shape"),
        ("clip", "text_config", {"num_attention_heads": 3}, "num_attention_heads = 3.*must divide hidden_size 20"),
        ("clip", "vision_config", {"num_channels": 4}, "num_channels = 4"),
        ("siglip", "vision_config", {"vision_use_head": False}, "vision_use_head = False"),
        ("siglip", "text_config", {"projection_size": 20}, "hidden_size = 24.*embeddings of texts are 20 wide"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(
    name: str, section: str | None, changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    directory = copied(VISION / name, tmp_path / name)
    edit_json(directory / "config.json", lambda value: (value[section] if section else value).update(changes))
    with pytest.raises(CheckpointError, match=message):
        Engine.load(resolve_spec(directory))


# What published configurations leave out is what transformers has by default.
@pytest.mark.parametrize(
    ("architecture", "beside", "expected"),
    [
        ("CLIPModel", {}, (512, 49408, 77)),
        ("CLIPModel", {"projection_dim": 768}, (768, 49408, 77)),
        ("CLIPModel", {"text_config_dict": {"max_position_embeddings": 55}}, (512, 49408, 55)),
        ("SiglipModel", {}, (768, 32000, 64)),
        ("SiglipModel", {"text_config": {"vocab_size": 256000, "projection_size": 1152}}, (1152, 256000, 64)),
    ],
)
def test_a_configuration_that_says_little_has_the_defaults_of_its_class(
    architecture: str, beside: dict[str, object], expected: tuple[int, int, int], tmp_path: Path
) -> None:
    config = {"architectures": [architecture], "text_config": {"model_type": "it"}, "vision_config": {}, **beside}
    (tmp_path / "config.json").write_text(json.dumps(config))
    spec = resolve_spec(tmp_path, weights=[])
    assert (spec.embedding_dimensions, spec.vocab_size, spec.max_model_len) == expected
    assert spec.takes_images
    assert spec.placeholder_id is None
    assert spec.tasks == ("embed",)


def padding_of(directory: Path, config: dict[str, object], tokenizer: dict[str, object]) -> Padding:
    """The padding that these two files of a tokenizer ask for, of 64 tokens with ids below 10."""
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = Settings({"max_position_embeddings": 64, "vocab_size": 10, "pad_token_id": 1}, directory / "config.json")
    return read_padding(directory, settings)


def test_padding_is_what_the_tokenizer_says_and_not_the_configuration(tmp_path: Path) -> None:
    unigram = {"model": {"vocab": [["<pad>", 0], ["</s>", 0]]}, "added_tokens": [{"content": "<fill>", "id": 7}]}
    pairs = {"model": {"vocab": {"<pad>": 3}}}
    fixed = {**pairs, "padding": {"direction": "Left", "pad_token": "<pad>"}}
    gemma = {"tokenizer_class": "GemmaTokenizerFast", "pad_token": {"content": "<pad>"}}
    assert padding_of(tmp_path, {"pad_token": "</s>"}, unigram) == Padding(64, 1, "right")
    assert padding_of(tmp_path, {"pad_token": "<fill>", "padding_side": "left"}, unigram) == Padding(64, 7, "left")
    assert padding_of(tmp_path, gemma, pairs) == Padding(64, 3, "left")
    assert padding_of(tmp_path, {**gemma, "padding_side": "right"}, pairs) == Padding(64, 3, "right")
    assert padding_of(tmp_path, {}, fixed) == Padding(64, 3, "left")
    assert padding_of(tmp_path, {}, pairs) == Padding(64, 1, "right")  # nothing but config.json names a token
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": {"content": "<fill>"}}))
    assert padding_of(tmp_path, {}, unigram) == Padding(64, 7, "right")


@pytest.mark.parametrize(
    ("config", "message"),
    [({"pad_token": "<no>"}, "'<no>', which is not among the 10 tokens"), ({"padding_side": "top"}, "'top'")],
)
def test_padding_that_cannot_be_is_refused(config: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        padding_of(tmp_path, config, {"model": {"vocab": {"a": 0}}})


@pytest.mark.parametrize(
    ("name", "same"),
    [("SiglipTokenizer", ("what S the  RIVER", "what's, (the) river!")), ("Siglip2Tokenizer", ("A Mill", "a mill"))],
)
def test_siglip_tokenizers_see_texts_as_their_classes_change_them(
    name: str, same: tuple[str, str], tmp_path: Path
) -> None:
    directory = copied(VISION / "siglip2", tmp_path / "siglip2")
    edit_json(directory / "tokenizer_config.json", lambda value: value.update(tokenizer_class=name))
    tokenizer = Tokenizer.from_spec(resolve_spec(directory))
    first, second = (ids.tolist() for ids in tokenizer.encode([each.replace("t S", "ts") for each in same]))
    assert first == second
    plain = Tokenizer.from_spec(resolve_spec(VISION / "siglip2"))
    assert plain.encode([same[0]])[0].tolist() != plain.encode([same[1]])[0].tolist()


def test_weights_of_old_exports_with_stored_position_ids_are_read(tmp_path: Path) -> None:
    directory = copied(VISION / "clip", tmp_path / "clip")
    path = directory / "model.safetensors"
    places = {f"{tower}_model.embeddings.position_ids": np.arange(10)[None] for tower in ("text", "vision")}
    write_safetensors(path, {**read_safetensors(path), **places}, dict.fromkeys(places, "I64"))
    Engine.load(resolve_spec(directory))
