"""`--quantization int8`: rounded to the nearest step, a byte a weight, close to float32, or refused."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pooling.architectures import Head
from pooling.config import resolve_spec
from pooling.device import processor_has_amx
from pooling.engine import Engine, PoolingInput
from pooling.errors import OptionError
from pooling.inspection import inspected
from pooling.layers.embedding import Embedding
from pooling.layers.experts import MixtureOfExperts
from pooling.layers.linear import Linear, PartialLinear
from pooling.model_options import ModelOptions
from pooling.precision import Precision, building
from pooling.quantization import quantized
from pooling.tokenizing import Tokenizer
from tests.pooling import test_vision_families as vision
from tests.pooling.conftest import GOLDEN
from tests.pooling.test_families import FAMILIES, NAMES, cosines, inputs_of, options_of, pooling_input
from tests.pooling.test_parallel import rows_of_ranks

INT8 = ModelOptions(quantization="int8")
LEAST_COSINE = 0.99
# Of the largest score of a golden. Random weights with experts: some tokens go to others once the rest is rounded.
LARGEST_SHARE_OF_SCORES = 0.1
LEAST_COSINE_OF_MINILM = 0.995
LARGEST_DIFFERENCE_IN_COMPANY = 1e-5


def engine_of(name: str, **options: str) -> Engine:
    """The engine of a golden family with int8, and with what else is given."""
    return Engine.load(resolve_spec(FAMILIES / name, replace(options_of(name), quantization="int8", **options)))


def rows_of(engine: Engine, name: str) -> list[np.ndarray]:
    tokenizer = Tokenizer.from_spec(engine.spec)
    return engine.forward([pooling_input(known, tokenizer) for known in inputs_of(name)])


def linears(engine: Engine) -> Iterable[tuple[str, PartialLinear]]:
    return [(path, layer) for path, layer in engine._model.named_sublayers() if isinstance(layer, PartialLinear)]


def bytes_of(engine: Engine) -> int:
    """What the parameters and buffers of a model hold."""
    model = engine._model
    return sum(each.element_size() * each.size for each in (*model.parameters(), *model.buffers()))


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=2), elements=st.floats(-(2**100), 2**100, width=32)))
def test_a_weight_is_at_most_half_a_step_from_what_is_kept(weight: np.ndarray) -> None:
    numbers, steps = quantized(weight)
    assert numbers.dtype == np.int8
    assert np.abs(numbers.astype(np.int32)).max() <= 127
    assert (steps > 0).all()
    kept = numbers.astype(np.float64) * steps[:, None]
    # A step is rounded itself, to 24 bits.
    assert (np.abs(kept - weight) <= steps[:, None].astype(np.float64) * (0.5 + 127 * 2.0**-22)).all()


def test_an_outlier_costs_its_own_row_only() -> None:
    numbers, steps = quantized(np.array([[1.0, -1.0, 0.5], [100.0, 1.0, 0.1], [0, 0, 0]], dtype=np.float32))
    assert numbers.tolist() == [[127, -127, 64], [127, 1, 0], [0, 0, 0]]
    np.testing.assert_allclose(steps, [1 / 127, 100 / 127, 1], rtol=1e-6)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_broken_number_is_not_hidden(broken: float) -> None:
    _, steps = quantized(np.array([[1.0, broken], [1.0, 2.0]], dtype=np.float32))
    assert np.isfinite(steps).tolist() == [False, True]


@pytest.mark.parametrize("name", NAMES)
def test_every_family_gives_nearly_what_it_gives_in_float32(name: str) -> None:
    engine = engine_of(name)
    full = rows_of(Engine.load(resolve_spec(FAMILIES / name, options_of(name))), name)
    found = rows_of(engine, name)
    differ = [not np.array_equal(mine, theirs) for mine, theirs in zip(found, full, strict=True)]
    assert any(differ), "the weights are rounded"
    largest = max(float(np.abs(known.rows).max()) for known in inputs_of(name))
    for known, mine in zip(inputs_of(name), found, strict=True):
        if engine.spec.head is Head.NONE:
            assert cosines(mine, known.rows).min() >= LEAST_COSINE, known.text
        else:
            bound = LARGEST_SHARE_OF_SCORES * largest
            np.testing.assert_allclose(mine, known.rows, rtol=0, atol=bound, err_msg=str(known.text))


# So small random models magnify what is rounded: to a cosine of 0.988, also where each token keeps its experts.
ROUTED = ("ernie-vl", "ernie-vl-reward")


@pytest.mark.parametrize("name", [name for name in vision.NAMES if name not in ROUTED])
def test_families_with_images_do_too(name: str) -> None:
    options = ModelOptions(**vision.recorded(name).get("options", {}), quantization="int8")
    golden = vision.golden_of(name, options)
    found = golden.engine.forward(vision.inputs_of(golden))
    largest = max(float(np.abs(known.rows).max()) for known in golden.inputs)
    for known, mine in zip(golden.inputs, found, strict=True):
        if golden.engine.spec.head is Head.NONE:
            assert cosines(mine, known.rows).min() >= LEAST_COSINE, known.images
        else:
            np.testing.assert_allclose(mine, known.rows, rtol=0, atol=LARGEST_SHARE_OF_SCORES * largest)


def test_real_vectors_stay_close(minilm_directory: Path) -> None:
    engine = Engine.load(resolve_spec(minilm_directory, INT8))
    texts = map(json.loads, (GOLDEN / "minilm" / "texts.jsonl").read_text("utf-8").splitlines())
    rows = engine.forward([PoolingInput(np.array(text["ids"], dtype=np.int32)) for text in texts])
    wanted = np.load(GOLDEN / "minilm" / "vectors.npy")
    assert cosines(np.concatenate(rows), wanted).min() >= LEAST_COSINE_OF_MINILM


@pytest.mark.parametrize("name", ["roberta", "llama", "modernbert"])
def test_a_text_has_the_same_vector_in_any_company(name: str) -> None:
    engine = engine_of(name)
    inputs = [PoolingInput(np.array(known.ids, dtype=np.int32)) for known in inputs_of(name)]
    together = engine.forward(inputs * 3)
    for each, rows in zip(inputs, together, strict=False):
        alone = engine.forward([each])[0]
        assert np.abs(alone - rows).max() <= LARGEST_DIFFERENCE_IN_COMPANY * max(1.0, float(np.abs(alone).max()))


def test_linear_layers_take_a_quarter_of_the_memory() -> None:
    def held(quantization: str) -> int:
        with building(Precision(int8=quantization == "int8")):
            layer = Linear(768, 3072)
        return sum(each.element_size() * each.size for each in (layer.weight, *layer.buffers()))

    assert held("int8") == 768 * 3072 + 4 * 3072
    assert held("int8") < held("none") * 0.26


@pytest.mark.parametrize("name", ["roberta", "qwen3", "ernie-moe"])
def test_a_model_takes_less_memory(name: str) -> None:
    full = Engine.load(resolve_spec(FAMILIES / name, options_of(name)))
    narrow = engine_of(name)
    saved = sum(3 * layer.weight.size for _, layer in linears(narrow) if layer.weight.dtype == paddle.int8)
    steps = sum(4 * layer.weight.shape[0] for _, layer in linears(narrow) if layer.weight.dtype == paddle.int8)
    assert saved
    assert bytes_of(narrow) == bytes_of(full) - saved + steps


@pytest.mark.parametrize("name", ["bert-cross-encoder", "ernie-moe", "ernie-vl"])
def test_embeddings_heads_and_routers_are_left_as_they_are(name: str) -> None:
    engine = engine_of(name)
    kinds = {path: layer.weight.dtype for path, layer in linears(engine)}
    left = {path for path, dtype in kinds.items() if dtype != paddle.int8 and not path.endswith("patch_embed.proj")}
    assert left == {path for path in kinds if path.startswith("head.") or path.endswith("router")}
    for _, layer in engine._model.named_sublayers():
        if isinstance(layer, Embedding):
            assert layer.weight.dtype == paddle.float32
        if isinstance(layer, MixtureOfExperts):
            assert layer.experts[0].up.weight.dtype == paddle.int8


def test_what_is_left_may_be_of_16_bits() -> None:
    engine = engine_of("roberta", dtype="bfloat16")
    dtypes = {str(each.dtype) for each in engine._model.parameters()}
    assert dtypes == {"paddle.int8", "paddle.bfloat16", "paddle.float32"}
    for known, rows in zip(inputs_of("roberta"), rows_of(engine, "roberta"), strict=True):
        assert cosines(rows, known.rows).min() >= LEAST_COSINE, known.text


@pytest.mark.parametrize("name", ["llama", "modernbert"])
def test_a_divided_model_is_rounded_by_rank(name: str) -> None:
    # Where a rank has some of the inputs of an output, the step is of those: other than a single rank's.
    for known, rows in zip(inputs_of(name), rows_of_ranks(2, name, quantization="int8"), strict=True):
        assert cosines(rows, known.rows).min() >= LEAST_COSINE, known.text


IN_A_PROCESS = """
import json, sys
from pathlib import Path
from pooling.device import prepare_process
prepare_process("cpu", 1, "medium")
import numpy as np
from pooling.config import resolve_spec
from pooling.model_options import ModelOptions
from pooling.engine import Engine, PoolingInput
options = ModelOptions(float32_matmul_precision="medium", quantization="int8")
engine = Engine.load(resolve_spec(Path(sys.argv[1]), options))
inputs = [PoolingInput(np.array(ids, dtype=np.int32)) for ids in json.loads(sys.argv[2])]
print(json.dumps([rows.tolist() for rows in engine.forward(inputs)]))
"""


def test_it_is_multiplied_in_bfloat16_where_that_is_asked_for_too() -> None:
    if not processor_has_amx():
        pytest.skip("this processor has no AMX")
    known = inputs_of("roberta")
    command = [sys.executable, "-c", IN_A_PROCESS, str(FAMILIES / "roberta"), json.dumps([each.ids for each in known])]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ONEDNN_")}
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    narrow = [np.array(rows, dtype=np.float32) for rows in json.loads(output.splitlines()[-1])]
    exact = rows_of(engine_of("roberta"), "roberta")
    differences = [np.abs(mine - theirs).max() for mine, theirs in zip(narrow, exact, strict=True)]
    assert max(differences) > 1e-5
    for each, mine in zip(known, narrow, strict=True):
        assert cosines(mine, each.rows).min() >= LEAST_COSINE


def test_it_is_refused_on_a_gpu() -> None:
    with pytest.raises(OptionError, match=r"--quantization int8 is for a cpu, and not written for gpu:1: leave it out"):
        resolve_spec(FAMILIES / "roberta", replace(INT8, device="gpu:1"))


@pytest.mark.parametrize("wrong", ["int4", "fp8", "INT8", ""])
def test_other_values_are_refused(wrong: str) -> None:
    with pytest.raises(OptionError, match=f"--quantization {wrong} is not supported: use none or int8"):
        resolve_spec(FAMILIES / "roberta", ModelOptions(quantization=wrong))


def test_a_worker_with_int8_has_another_fingerprint() -> None:
    assert resolve_spec(FAMILIES / "roberta", INT8).fingerprint != resolve_spec(FAMILIES / "roberta").fingerprint


def test_inspect_says_so() -> None:
    found = inspected(FAMILIES / "roberta", INT8)
    assert (found.facts["quantization"], found.origins["quantization"]) == ("int8", "--quantization")
    assert inspected(FAMILIES / "roberta").origins["quantization"] == "the default"
