"""ERNIE 4.5 VL on text: every way to write its checkpoints gives the same, and what is for images has no part in it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pooling.config import ModelOptions, resolve_spec
from pooling.engine import Engine, PoolingInput
from pooling.errors import CheckpointError
from pooling.inspection import inspected
from pooling.pooler_config import PoolingType
from tests.pooling.checkpoints import copied, edit_json, read_safetensors, write_safetensors
from tests.pooling.conftest import GOLDEN

Tensors = dict[str, np.ndarray]

REWARD = GOLDEN / "families" / "ernie-vl-reward"
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


def test_what_is_for_images_changes_nothing(as_written: np.ndarray, directory: Path) -> None:
    def change(tensors: Tensors) -> Tensors:
        for name, tensor in tensors.items():
            if of_images(name) or name.endswith("gate.weight_1") or "vision_model" in name or "resampler" in name:
                tensors[name] = tensor + 100
            if name.endswith("e_score_correction_bias"):
                tensors[name] = tensor + np.array([[0], [100]], dtype=np.float32) * np.arange(5)
        return tensors

    rewrite(directory, change)
    np.testing.assert_array_equal(scores(directory), as_written)
    rewrite(directory, lambda tensors: {name: t for name, t in tensors.items() if not of_images(name)})
    np.testing.assert_array_equal(scores(directory), as_written)


def test_the_configuration_of_transformers_is_read_as_baidus(as_written: np.ndarray, directory: Path) -> None:
    def change(config: dict[str, object]) -> None:
        text = {name: config.pop(name) for name in list(config) if name not in ("architectures", "vision_config")}
        for name in ("moe_layer_start_index", "moe_layer_end_index", "moe_layer_interval", "rope_theta"):
            text.pop(name)
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
        (lambda t: t | {"rm_head.up_gate_proj.weight": np.zeros((80, 20))}, r"up_gate_proj.*\[80, 20\].*\[40, 20\]"),
        (lambda t: t | {"model.layers.1.mlp.gate.weight": np.zeros((6, 20))}, r"gate\.weight.*\[6, 20\].*\[5, 20\]"),
    ],
    ids=["an expert too many", "an expert too few", "a wider head", "a router of more experts"],
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


def test_the_golden_holds_what_is_ignored() -> None:
    """Else the test on images would show nothing."""
    names = set(read_safetensors(REWARD / "model.safetensors"))
    assert {"vision_model.ln.weight", "model.resampler_model.mlp.weight", "model.layers.2.mlp.gate.weight_1"} <= names
    assert "model.layers.2.mlp.experts.9.up_proj.weight" in names
    assert len(json.loads((REWARD / "config.json").read_text())["moe_num_experts"]) == 2
