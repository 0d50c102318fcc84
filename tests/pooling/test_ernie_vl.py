"""ERNIE 4.5 VL: every way to write its checkpoints gives the same, and text has no part of what is for images."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pooling.config import resolve_spec
from pooling.engine import Engine, PoolingInput
from pooling.errors import CheckpointError
from pooling.inspection import inspected
from pooling.model_options import ModelOptions
from pooling.pooler_config import PoolingType
from pooling.vision.images import decoded
from pooling.vision.processors import read_image_processor
from tests.pooling.checkpoints import copied, edit_json, read_safetensors, write_safetensors
from tests.pooling.conftest import GOLDEN

Tensors = dict[str, np.ndarray]

REWARD = GOLDEN / "families" / "ernie-vl-reward"
IMAGES = GOLDEN / "vision"
REWARD_OF_IMAGES = IMAGES / "ernie-vl-reward"
INPUT = [PoolingInput(np.array([1, 300, 45, 7, 310], dtype=np.int32))]


def scores(directory: Path, options: ModelOptions | None = None) -> np.ndarray:
    return Engine.load(resolve_spec(directory, options)).forward(INPUT)[0]


@pytest.fixture(scope="module")
def as_written() -> np.ndarray:
    """The score of the golden's checkpoint."""
    return scores(REWARD)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return copied(REWARD, tmp_path / "model")


def rewrite(directory: Path, change: Callable[[Tensors], Tensors]) -> None:
    path = directory / "model.safetensors"
    write_safetensors(path, change(read_safetensors(path)))


def prefixed(prefix: str) -> Callable[[Tensors], Tensors]:
    """With this in place of `model.`, and before the vision model, but not before the head."""

    def rename(name: str) -> str:
        return name if name.startswith("rm_head.") else prefix + name.removeprefix("model.")

    return lambda tensors: {rename(name): tensor for name, tensor in tensors.items()}


def transposed(ending: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: t.T if name.endswith(ending) else t for name, t in tensors.items()}


@pytest.mark.parametrize(
    "change",
    [
        prefixed(""),
        prefixed("ernie."),
        lambda tensors: tensors | {"lm_head.weight": np.zeros((3, 4))},
        transposed("rm_head.up_gate_proj.weight"),
        transposed("rm_head.down_proj.weight"),
        transposed("mlp.gate.weight"),
    ],
    ids=["no prefix", "ernie", "with a language-model head", "up and gate transposed", "down transposed", "router"],
)
def test_every_way_to_store_the_weights_gives_the_same_score(
    as_written: np.ndarray, directory: Path, change: Callable[[Tensors], Tensors]
) -> None:
    rewrite(directory, change)
    np.testing.assert_array_equal(scores(directory), as_written)


def of_images(name: str) -> bool:
    parts = name.split(".")
    return "experts" in parts and int(parts[parts.index("experts") + 1]) >= 5


def changed_for_images(tensors: Tensors) -> Tensors:
    """Other experts, another router and another vision tower for images."""
    for name, tensor in tensors.items():
        if of_images(name) or name.endswith("gate.weight_1") or "vision_model" in name or "resampler" in name:
            tensors[name] = tensor[::-1] + np.float32(0.5)
        if name.endswith("e_score_correction_bias"):
            tensors[name] = tensor + np.array([[0], [1]], dtype=np.float32) * np.arange(5)
    return tensors


def test_what_is_for_images_changes_nothing_on_text(as_written: np.ndarray, directory: Path) -> None:
    rewrite(directory, changed_for_images)
    np.testing.assert_array_equal(scores(directory), as_written)


def image_scores(directory: Path) -> np.ndarray:
    """The score of the golden's conversation with three images."""
    engine = Engine.load(resolve_spec(directory))
    processor = read_image_processor(engine.spec)
    assert processor is not None
    messages = json.loads((IMAGES / "ernie-vl-reward.expected.json").read_text("utf-8"))["inputs"][2]
    names = [part["image"] for each in messages["messages"] for part in each["content"] if part["type"] == "image"]
    pixels = [decoded((IMAGES / "images" / name).read_bytes()) for name in names]
    prepared = tuple(processor.prepared(name.encode(), each, {}) for name, each in zip(names, pixels, strict=True))
    return engine.forward([PoolingInput(np.array(messages["ids"], dtype=np.int32), images=prepared)])[0]


@pytest.fixture(scope="module")
def of_three_images() -> np.ndarray:
    """The score of the golden's checkpoint."""
    return image_scores(REWARD_OF_IMAGES)


@pytest.fixture
def directory_of_images(tmp_path: Path) -> Path:
    return copied(REWARD_OF_IMAGES, tmp_path / "model")


@pytest.mark.parametrize("change", [prefixed(""), prefixed("ernie.")], ids=["no prefix", "ernie"])
def test_every_way_to_store_the_weights_gives_images_the_same_score(
    of_three_images: np.ndarray, directory_of_images: Path, change: Callable[[Tensors], Tensors]
) -> None:
    rewrite(directory_of_images, change)
    np.testing.assert_array_equal(image_scores(directory_of_images), of_three_images)


@pytest.mark.parametrize(
    "part",
    [
        ".experts.5.",
        "gate.weight_1",
        "e_score_correction_bias",
        "vision_model.patch_embed.proj.weight",
        "vision_model.blocks.1.attn.qkv.weight",
        "resampler_model.spatial_linear.0.weight",
        "resampler_model.temporal_linear.2.weight",
        "shared_experts.up_proj.weight",
    ],
)
def test_each_part_for_images_has_its_part_in_their_score(
    of_three_images: np.ndarray, directory_of_images: Path, part: str
) -> None:
    def change(tensors: Tensors) -> Tensors:
        found = [name for name in tensors if part in name]
        assert found
        return tensors | {name: np.ascontiguousarray(tensors[name][::-1]) * np.float32(1.5) for name in found}

    rewrite(directory_of_images, change)
    assert np.abs(image_scores(directory_of_images) - of_three_images).max() > 1e-3


def test_the_tokens_around_an_image_go_to_the_experts_for_images(
    of_three_images: np.ndarray, directory_of_images: Path
) -> None:
    edit_json(directory_of_images / "config.json", lambda config: config.update(image_start_token_id=1_000_000))
    assert np.abs(image_scores(directory_of_images) - of_three_images).max() > 1e-3


def test_bounds_that_baidus_own_files_state_do_not_count(tmp_path: Path, of_three_images: np.ndarray) -> None:
    directory = copied(REWARD_OF_IMAGES, tmp_path / "model")
    edit_json(directory / "preprocessor_config.json", lambda config: config.update(min_pixels=64, max_pixels=128))
    np.testing.assert_array_equal(image_scores(directory), of_three_images)


def test_the_configuration_of_transformers_is_read_as_baidus(as_written: np.ndarray, directory: Path) -> None:
    def change(config: dict[str, object]) -> None:
        text = {name: config.pop(name) for name in list(config) if name not in ("architectures", "vision_config")}
        for name in ("moe_layer_start_index", "moe_layer_end_index", "moe_layer_interval", "rope_theta"):
            text.pop(name)
        config["image_token_id"] = text.pop("im_patch_id")
        text["moe_num_experts"] = 5
        text["mlp_layer_types"] = ["dense", "sparse", "sparse"]
        text["rope_parameters"] = {"rope_type": "default", "rope_theta": 500.0, "mrope_section": [2, 2, 1]}
        config["text_config"] = text

    edit_json(directory / "config.json", change)
    np.testing.assert_array_equal(scores(directory), as_written)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t | {"model.layers.1.mlp.experts.10.up_proj.weight": np.zeros((5, 20))}, r"experts\.10\.up_proj"),
        (lambda t: {n: a for n, a in t.items() if "layers.2.mlp.experts.4.up" not in n}, r"lacks 1 .*experts\.4\.up"),
        (lambda t: {n: a for n, a in t.items() if not of_images(n)}, r"lacks 30 .*layers\.1\.mlp\.experts\.5\."),
        (lambda t: {n: a for n, a in t.items() if "vision_model.ln" not in n}, r"lacks 2 .*vision_model\.ln\.bias"),
        (lambda t: t | {"rm_head.up_gate_proj.weight": np.zeros((80, 20))}, r"up_gate_proj.*\[80, 20\].*\[40, 20\]"),
        (lambda t: t | {"model.layers.1.mlp.gate.weight": np.zeros((6, 20))}, r"gate\.weight.*\[6, 20\].*\[5, 20\]"),
    ],
    ids=[
        "an expert too many",
        "an expert too few",
        "none for images",
        "no last norm",
        "a wider head",
        "a router of more experts",
    ],
)
def test_what_does_not_fit_is_named(directory: Path, change: Callable[[Tensors], Tensors], message: str) -> None:
    rewrite(directory, change)
    with pytest.raises(CheckpointError, match=message):
        scores(directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"moe_num_experts": ["5", "5"]}, r"moe_num_experts = \['5', '5'\]"),
        ({"mlp_layer_types": ["dense"]}, "mlp_layer_types.*each of the model's 3 layers"),
        ({"moe_num_experts": [5, 4]}, r"moe_num_experts = \[5, 4\].*as many experts for images as for text"),
        ({"freq_allocation": 2}, "freq_allocation = 2.*share equally what it leaves of 5"),
        ({"temporal_conv_size": 3}, "temporal_merge_size = 3.*merges 2 moments"),
        ({"vision_config": None}, "vision_config = None"),
        ({"rope_scaling": {"mrope_section": [1, 2, 2]}}, r"mrope_section = \[1, 2, 2\].*twice the same number"),
    ],
)
def test_a_wrong_configuration_is_named(directory: Path, change: dict[str, object], message: str) -> None:
    edit_json(directory / "config.json", lambda config: config.update(change))
    with pytest.raises(CheckpointError, match=message):
        scores(directory)


def test_converted_to_embed_its_score_is_that_of_the_last_token_and_not_normalised(as_written: np.ndarray) -> None:
    options = ModelOptions(convert="embed")
    spec = resolve_spec(REWARD, options)
    assert (spec.convert, spec.pooler.pooling_type, spec.tasks) == ("embed", PoolingType.LAST, ("reward",))
    np.testing.assert_array_equal(scores(REWARD, options), as_written)
    assert as_written.shape == (1, 1)
    assert abs(abs(float(as_written[0, 0])) - 1) > 0.01


def test_every_token_is_scored_where_the_caller_says_so(as_written: np.ndarray) -> None:
    rows = scores(REWARD, ModelOptions(pooler_config='{"pooling_type": "ALL"}'))
    assert rows.shape == (5, 1)
    np.testing.assert_allclose(rows[-1:], as_written, atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "tasks", "head"),
    [
        ("Ernie4_5_VLMoeForProcessRewardModel", ["reward"], "gated reward"),
        ("Ernie4_5_VLMoeForConditionalGeneration", ["embed"], "none"),
        ("Ernie4_5_VL_MoeForConditionalGeneration", ["embed"], "none"),
        ("Ernie4_5_VLMoeModel", ["embed"], "none"),
    ],
)
def test_its_architectures_are_known(directory: Path, architecture: str, tasks: list[str], head: str) -> None:
    edit_json(directory / "config.json", lambda config: config.update(architectures=[architecture]))
    facts = inspected(directory).facts
    assert (facts["tasks"], facts["head"], facts["pooling_type"]) == (tasks, head, "LAST")


def test_a_multimodal_model_of_another_family_is_still_refused_by_name(directory: Path) -> None:
    edit_json(directory / "config.json", lambda config: config.update(architectures=["Gemma3ForConditionalGeneration"]))
    with pytest.raises(CheckpointError, match="Gemma3ForConditionalGeneration, which is not supported"):
        resolve_spec(directory)
