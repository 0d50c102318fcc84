"""Weights reach the parameters from every form of checkpoint, and what does not fit is named."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pooling.config import resolve_spec
from pooling.engine import Engine, PoolingInput
from pooling.errors import CheckpointError
from pooling.layers import layer
from pooling.stored import WeightFile
from tests.pooling.checkpoints import copied, edit_json, read_safetensors, write_safetensors
from tests.pooling.conftest import TINY_BERT
from tests.pooling.test_checkpoint import shard

Tensors = dict[str, np.ndarray]
INPUT = [PoolingInput(np.array([2, 9, 40, 3], dtype=np.int32))]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return copied(TINY_BERT, tmp_path / "model")


def rewrite(directory: Path, change: Callable[[Tensors], Tensors]) -> None:
    path = directory / "model.safetensors"
    write_safetensors(path, change(read_safetensors(path)))


def vector_of(directory: Path) -> np.ndarray:
    return Engine.load(resolve_spec(directory)).forward(INPUT)[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: {f"bert.{name}": tensor for name, tensor in tensors.items()},
        lambda tensors: {name.replace("LayerNorm.weight", "LayerNorm.gamma"): t for name, t in tensors.items()},
        lambda tensors: {name.replace("LayerNorm.bias", "LayerNorm.beta"): t for name, t in tensors.items()},
        lambda tensors: {name: t for name, t in tensors.items() if not name.startswith("pooler.")},
        lambda tensors: tensors | {"cls.predictions.bias": np.zeros(3)},
    ],
    ids=["prefix", "gamma", "beta", "without pooler", "with head"],
)
def test_every_naming_of_the_same_weights_gives_the_same_vector(
    tiny_engine: Engine, directory: Path, change: Callable[[Tensors], Tensors]
) -> None:
    rewrite(directory, change)
    np.testing.assert_array_equal(vector_of(directory), tiny_engine.forward(INPUT)[0])


def test_shards_give_the_same_vector_as_one_file(tiny_engine: Engine, directory: Path) -> None:
    shard(directory)
    np.testing.assert_array_equal(vector_of(directory), tiny_engine.forward(INPUT)[0])


def test_a_missing_tensor_is_named(directory: Path) -> None:
    name = "encoder.layer.1.attention.self.key.weight"
    rewrite(directory, lambda tensors: {key: tensor for key, tensor in tensors.items() if key != name})
    with pytest.raises(CheckpointError, match=rf"lacks 1 of the tensors.*{name}"):
        vector_of(directory)


def test_a_tensor_too_many_is_named_with_its_shape(directory: Path) -> None:
    rewrite(directory, lambda tensors: tensors | {"encoder.layer.3.output.dense.bias": np.zeros(48)})
    with pytest.raises(CheckpointError, match=r"1 tensors.*encoder\.layer\.3\.output\.dense\.bias \[48\]"):
        vector_of(directory)


@pytest.mark.parametrize(
    "name",
    [
        "embeddings.word_embeddings.weight",
        "encoder.layer.0.attention.self.value.weight",
        "encoder.layer.2.output.dense.bias",
    ],
)
def test_a_tensor_of_the_wrong_shape_is_named_with_both_shapes(directory: Path, name: str) -> None:
    rewrite(directory, lambda tensors: tensors | {name: np.zeros((7, 5))})
    with pytest.raises(CheckpointError, match=rf"{name}.*shape \[7, 5\].*needs \[(\d+, )?48\]"):
        vector_of(directory)


def test_a_quantised_tensor_is_refused_by_its_type(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"I32"', 1))
    with pytest.raises(CheckpointError, match="I32"):
        vector_of(directory)


def test_half_precision_is_widened_without_loss(tmp_path: Path) -> None:
    numbers = np.array([1.5, -2.0, 0.15625, 65504.0], dtype=np.float32)
    as_bfloat16 = (np.array([1.5, -2.0, 0.15625, 3.0e38], dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16)
    path = tmp_path / "half.safetensors"
    write_safetensors(path, {"a": numbers, "b": as_bfloat16}, {"a": "F16", "b": "BF16"})
    with WeightFile(path) as file:
        values = {tensor.name: tensor.read(slice(0, 4)) for tensor in file.tensors}
    np.testing.assert_array_equal(values["a"], numbers)
    np.testing.assert_allclose(values["b"], [1.5, -2.0, 0.15625, 3.0e38], rtol=2**-8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"num_attention_heads": 5}, "num_attention_heads = 5.*must divide hidden_size 48"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps = 'small'"),
        ({"is_decoder": True}, "is_decoder = True"),
        ({"hidden_act": "swish"}, "swish"),
    ],
)
def test_a_variant_of_bert_that_is_not_supported_is_refused(
    directory: Path, change: dict[str, object], message: str
) -> None:
    edit_json(directory / "config.json", lambda config: config.update(change))
    with pytest.raises(CheckpointError, match=message):
        vector_of(directory)


def test_the_size_of_a_slab_does_not_matter(
    tiny_engine: Engine, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer, "SLAB_BYTES", 1000)
    np.testing.assert_array_equal(vector_of(directory), tiny_engine.forward(INPUT)[0])


def test_several_tensors_that_do_not_fit_are_named_with_their_shapes(directory: Path) -> None:
    rewrite(directory, lambda tensors: {key: tensor for key, tensor in tensors.items() if "layer.1." not in key})
    with pytest.raises(
        CheckpointError, match=r"lacks 16 .*layer\.1\.attention\.output\.LayerNorm\.bias \[48\], .*11 more"
    ):
        vector_of(directory)


def test_rows_and_columns_are_read_and_nothing_else(tmp_path: Path) -> None:
    numbers = np.arange(30, dtype=np.float32).reshape(6, 5)
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"before": np.ones(3), "a": numbers})
    with WeightFile(path) as file:
        tensor = file.tensors[1]
        np.testing.assert_array_equal(tensor.read(slice(2, 5)), numbers[2:5])
        assert file.bytes_read == 3 * 5 * 4
        np.testing.assert_array_equal(tensor.read(slice(1, 3), slice(2, 4)), numbers[1:3, 2:4])
        assert file.bytes_read == 3 * 5 * 4 + 2 * 2 * 4
