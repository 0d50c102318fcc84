"""What is decided for a checkpoint is shown with what decided it, and for the goldens it is what they were made for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pooling.checkpoint import weight_files
from pooling.config import resolve_spec
from pooling.errors import CheckpointError
from pooling.inspection import Inspection, inspected
from pooling.model_options import ModelOptions
from tests.pooling.checkpoints import copied, edit_json, read_safetensors, write_safetensors
from tests.pooling.conftest import GOLDEN, TINY_BERT, TINY_BERT_CLS
from tests.pooling.test_checkpoint import make_git_lfs_pointer, shard, shorten

FAMILIES = GOLDEN / "families"
FAMILY_NAMES = sorted(path.name.removesuffix(".expected.json") for path in FAMILIES.glob("*.expected.json"))


# Tasks and pooling type, and the goldens that were made for them; later goldens need not be here.
MADE_FOR = {
    ("embed", "MEAN"): "distilbert embedding-gemma modernbert mpnet roberta",
    ("embed", "LAST"): "ernie ernie-moe gemma3 llama llama-3 llama-dynamic llama-linear llama-yarn mistral qwen2 "
    "qwen2-two-way qwen3",
    ("classify, reward", "CLS"): "bert-classifier distilbert-classifier xlm-roberta-classifier",
    ("classify, reward", "LAST"): "mistral-classifier",
    ("reward, score", "LAST"): "llama-classifier qwen3-classifier qwen3-reranker",
    ("reward, score", "MEAN"): "modernbert-classifier",
    ("reward", "LAST"): "qwen2-reward",
    ("reward", "STEP"): "math-shepherd qwen2-process-reward",
}


def options_of(stated: dict[str, Any]) -> ModelOptions:
    """The options that a table states; a pooler's are an object there."""
    pooler = stated.get("pooler_config")
    return ModelOptions(**{**stated, "pooler_config": None if pooler is None else json.dumps(pooler)})


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_a_golden_is_inspected_as_its_recorded_results_are(name: str) -> None:
    golden = json.loads((FAMILIES / f"{name}.expected.json").read_text("utf-8"))
    options = golden["options"]
    found = inspected(FAMILIES / name, options_of(options)).facts
    pooler = options.get("pooler_config", {})
    for fact in ("pooling_type", "normalize", "step_tag_id", "returned_token_ids"):
        if fact in pooler and found[fact] is not None:
            assert found[fact] == pooler[fact]
    tokenizer_config = json.loads((FAMILIES / name / "tokenizer_config.json").read_text("utf-8"))
    assert found["max_model_len"] == tokenizer_config["model_max_length"]
    for known in golden["inputs"]:
        rows = np.array(known["rows"])
        assert len(known["ids"]) <= tokenizer_config["model_max_length"]
        if found["pooling_type"] not in ("ALL", "STEP"):
            assert rows.shape[0] == 1
        if found["tasks"] == ["embed"]:
            assert rows.shape[-1] == found["dimensions"]
        else:
            assert rows.shape[-1] == (found["labels"] if "classify" in str(found["tasks"]) else 1)
        if found["tasks"] == ["embed"] and found["normalize"]:
            np.testing.assert_allclose(np.linalg.norm(rows, axis=-1), 1.0, rtol=1e-4)


@pytest.mark.parametrize(("tasks", "pooling_type"), MADE_FOR)
def test_a_golden_is_served_for_what_it_was_made(tasks: str, pooling_type: str) -> None:
    for name in MADE_FOR[tasks, pooling_type].split():
        golden = json.loads((FAMILIES / f"{name}.expected.json").read_text("utf-8"))
        found = inspected(FAMILIES / name, options_of(golden["options"])).facts
        assert (found["tasks"], found["pooling_type"]) == (tasks.split(", "), pooling_type), name


@pytest.mark.parametrize(
    ("directory", "pooling_type", "normalize", "sizes"),
    [(TINY_BERT, "MEAN", True, [48]), (TINY_BERT_CLS, "CLS", False, [12, 24, 36])],
)
def test_a_tiny_bert_is_inspected(directory: Path, pooling_type: str, normalize: bool, sizes: list[int]) -> None:
    found = inspected(directory)
    facts = found.facts
    assert (facts["tasks"], facts["convert"], facts["runner"]) == (["embed"], "none", "pooling")
    assert (facts["pooling_type"], facts["normalize"]) == (pooling_type, normalize)
    assert (facts["dimensions"], facts["supported_dimensions"]) == (sizes[-1], sizes)
    assert facts["fingerprint"] == resolve_spec(directory).fingerprint
    tensors = read_safetensors(directory / "model.safetensors")
    assert facts["parameters"] == sum(tensor.size for tensor in tensors.values())
    assert facts["weights_bytes"] == (directory / "model.safetensors").stat().st_size
    assert facts["stored_dtype"] == "float32"


def test_every_fact_that_applies_has_its_origin_and_json_holds_them_all() -> None:
    found = inspected(TINY_BERT)
    assert set(found.origins) == {name for name, value in found.facts.items() if value is not None} - {"directory"}
    assert json.loads(json.dumps(dict(found.facts))) == found.facts


def test_an_option_is_named_as_the_origin() -> None:
    pooler = {"pooling_type": "LAST", "normalize": False, "dimensions": 12}
    found = inspected(TINY_BERT, options_of({"pooler_config": pooler, "max_model_len": 10, "dtype": "float32"}))
    assert {name: found.facts[name] for name in pooler} == pooler
    assert {found.origins[name] for name in pooler} == {"--pooler-config"}
    assert (found.origins["max_model_len"], found.origins["dtype"]) == ("--max-model-len", "--dtype")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return copied(TINY_BERT, tmp_path / "model")


def unknown(found: Inspection) -> str:
    """The reason for which parameters and size are unknown."""
    assert found.facts["parameters"] is found.facts["weights_bytes"] is found.facts["fingerprint"] is None
    return found.origins["parameters"]


def test_without_weights_and_tokenizer_the_rest_is_known(directory: Path) -> None:
    for name in ("model.safetensors", "tokenizer.json"):
        (directory / name).unlink()
    found = inspected(directory)
    assert "holds neither model.safetensors" in unknown(found)
    assert found.facts["dimensions"] == 48
    assert (found.facts["stored_dtype"], found.origins["stored_dtype"]) == ("float32", "config.json")
    # What is served is looked at more closely.
    with pytest.raises(CheckpointError, match=r"holds neither model\.safetensors"):
        resolve_spec(directory)


def test_of_a_sharded_checkpoint_the_index_may_be_there_alone_but_no_part_of_the_shards(directory: Path) -> None:
    shard(directory)
    first, second = weight_files(directory)
    second.unlink()
    with pytest.raises(CheckpointError, match=second.name):
        inspected(directory)
    first.unlink()
    assert first.name in unknown(inspected(directory))


def pickled(directory: Path) -> str:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    return "pytorch_model.bin is a pickle"


def pointing(directory: Path) -> str:
    make_git_lfs_pointer(directory / "model.safetensors")
    return "model.safetensors is a git-lfs pointer"


def truncated(directory: Path) -> str:
    shorten(directory / "model.safetensors")
    return r"model\.safetensors has \d+ bytes where its header promises"


def without_its_tokenizer(directory: Path) -> str:
    (directory / "tokenizer.json").write_text("{}")
    return "tokenizer.json is not a readable tokenizer"


@pytest.mark.parametrize("damage", [pickled, pointing, truncated, without_its_tokenizer])
def test_what_is_there_and_broken_is_refused_as_it_would_be_for_serving(
    directory: Path, damage: Callable[[Path], str]
) -> None:
    message = damage(directory)
    with pytest.raises(CheckpointError, match=message):
        inspected(directory)


def test_parameters_are_counted_over_shards_and_modules_and_without_positions(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    shards = {"a": "one.safetensors", "b": "two.safetensors", "positions": "two.safetensors"}
    write_safetensors(directory / "one.safetensors", {"a": np.ones((3, 4))}, {"a": "BF16"})
    write_safetensors(
        directory / "two.safetensors", {"b": np.ones(5), "positions": np.ones((1, 72))}, {"positions": "I64"}
    )
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (directory / "2_Dense").mkdir()
    dense = {"in_features": 48, "out_features": 2, "bias": False, "activation_function": "torch.nn.Identity"}
    (directory / "2_Dense" / "config.json").write_text(json.dumps(dense))
    write_safetensors(directory / "2_Dense" / "model.safetensors", {"linear.weight": np.ones((2, 48))})
    edit_json(
        directory / "modules.json",
        lambda modules: modules.insert(2, {"path": "2_Dense", "type": "sentence_transformers.models.Dense"}),
    )
    found = inspected(directory)
    assert found.facts["parameters"] == 12 + 5 + 96
    assert found.facts["stored_dtype"] == "float32"
    assert (found.facts["dimensions"], found.origins["dimensions"]) == (2, "modules.json")
    files = [*directory.glob("*.safetensors"), directory / "2_Dense" / "model.safetensors"]
    assert found.facts["weights_bytes"] == sum(path.stat().st_size for path in files)
