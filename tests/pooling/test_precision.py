"""Types of 16 bits: rounded to the nearest, and close to float32."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import paddle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pooling import precision as precision_module
from pooling.architectures import Head
from pooling.config import resolve_spec
from pooling.device import processor_has_amx
from pooling.engine import Engine, PoolingInput
from pooling.errors import OptionError
from pooling.layers.feed_forward import FeedForward, GatedFeedForward
from pooling.model_options import ModelOptions
from pooling.precision import Precision, bfloat16_bits, building, precision_on, write
from tests.pooling.test_families import FAMILIES, NAMES, cosines, inputs_of, options_of

FeedForwardKind = type[FeedForward] | type[GatedFeedForward]

LEAST_COSINE = 0.999
EMBEDDING = [name for name in NAMES if resolve_spec(FAMILIES / name, options_of(name)).head is Head.NONE]


def rows_in(dtype: str, name: str) -> list[np.ndarray]:
    engine = Engine.load(resolve_spec(FAMILIES / name, replace(options_of(name), dtype=dtype)))
    return engine.forward([PoolingInput(np.array(known.ids, dtype=np.int32)) for known in inputs_of(name)])


@pytest.mark.parametrize("multiplies", [False, True], ids=["widened", "multiplied as it is"])
@pytest.mark.parametrize("name", EMBEDDING)
def test_bfloat16_embeds_like_float32(name: str, multiplies: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if multiplies and not precision_module.processor_has_bfloat16():
        pytest.skip("this processor has no instructions for bfloat16")
    monkeypatch.setattr(precision_module, "processor_has_bfloat16", lambda: multiplies)
    for known, rows in zip(inputs_of(name), rows_in("bfloat16", name), strict=True):
        assert cosines(rows, known.rows).min() >= LEAST_COSINE, known.text


@pytest.mark.parametrize(("kind", "seen"), [(FeedForward, paddle.bfloat16), (GatedFeedForward, paddle.float32)])
def test_between_two_products_it_stays_bfloat16_but_not_where_halves_meet(kind: FeedForwardKind, seen: object) -> None:
    types = []
    with building(Precision("bfloat16", "float32", multiplies=True)):
        layer = kind(8, 16, "relu")
    activation = layer.activation

    def noted(x: paddle.Tensor) -> paddle.Tensor:
        types.append(x.dtype)
        return activation(x)

    layer.activation = noted

    def forward(x: paddle.Tensor) -> paddle.Tensor:
        return layer(x)

    program = paddle.jit.to_static(forward, [paddle.static.InputSpec([None, 8], "float32")], full_graph=True)
    (result,) = program.concrete_program.outputs
    assert types == [seen]
    assert result.dtype == paddle.float32


@pytest.mark.parametrize("name", ["llama", "roberta", "ernie-moe"])
def test_float16_embeds_like_float32(name: str) -> None:
    for known, rows in zip(inputs_of(name), rows_in("float16", name), strict=True):
        assert cosines(rows, known.rows).min() >= 0.99999, known.text


def test_on_a_cpu_only_weights_are_narrow() -> None:
    assert precision_on("cpu", "float16").activations == "float32"
    assert precision_on("gpu:1", "bfloat16").activations == "bfloat16"


@given(st.lists(st.floats(width=32), min_size=1, max_size=30))
def test_rounding_to_bfloat16_is_paddles(numbers: list[float]) -> None:
    values = np.array(numbers, dtype=np.float32)
    theirs = paddle.to_tensor(values).astype("bfloat16").astype("float32").numpy()
    ours = (bfloat16_bits(values).astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_part_of_a_parameter_is_written_in_its_place(dtype: str) -> None:
    parameter = paddle.zeros([3, 4], dtype=dtype)
    write(parameter, (slice(1, 3), slice(0, 2)), np.array([[1.5, 2.5], [-3.0, 0.25]], dtype=np.float32))
    found = parameter.astype("float32").numpy()
    assert found.tolist() == [[0, 0, 0, 0], [1.5, 2.5, 0, 0], [-3.0, 0.25, 0, 0]]


IN_A_PROCESS = """
import json, sys
from pathlib import Path
from pooling.device import multiplies_narrowly, prepare_process
prepare_process("cpu", 1, sys.argv[1])
import numpy as np
from pooling.config import resolve_spec
from pooling.model_options import ModelOptions
from pooling.engine import Engine, PoolingInput
options = ModelOptions(float32_matmul_precision=sys.argv[1])
engine = Engine.load(resolve_spec(Path(sys.argv[2]), options))
inputs = [PoolingInput(np.array(ids, dtype=np.int32)) for ids in json.loads(sys.argv[3])]
print(json.dumps([engine.eager_tokens, [rows.tolist() for rows in engine.forward(inputs)]]))
"""


def test_float32_is_multiplied_in_bfloat16_only_when_asked_for() -> None:
    if not processor_has_amx():
        pytest.skip("this processor has no AMX")
    known = inputs_of("roberta")
    ids = json.dumps([list(map(int, each.ids)) for each in known])

    def computed(precision: str) -> tuple[int, list[np.ndarray]]:
        command = [sys.executable, "-c", IN_A_PROCESS, precision, str(FAMILIES / "roberta"), ids]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ONEDNN_")}
        output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        eager_tokens, rows = json.loads(output.splitlines()[-1])
        return eager_tokens, [np.array(each, dtype=np.float32) for each in rows]

    (_, exact), (eager_tokens, narrow) = computed("highest"), computed("medium")
    assert eager_tokens == 0, "a short text would be computed otherwise than the same among others"
    differences = [np.abs(mine - theirs).max() for mine, theirs in zip(narrow, exact, strict=True)]
    assert max(differences) > 1e-5
    for each, mine in zip(known, narrow, strict=True):
        assert cosines(mine, each.rows).min() >= LEAST_COSINE


@pytest.mark.parametrize(
    ("dtype", "amx", "said"), [("float32", True, True), ("float32", False, False), ("bfloat16", True, False)]
)
def test_who_could_have_it_is_told_of_it(
    dtype: str, amx: bool, said: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pooling.engine.processor_has_amx", lambda: amx)
    with caplog.at_level("INFO", "pooling.engine"):
        Engine.load(resolve_spec(FAMILIES / "roberta", replace(options_of("roberta"), dtype=dtype)))
    assert ("--float32-matmul-precision medium" in caplog.text) == said


@pytest.mark.parametrize("options", [ModelOptions(dtype="bfloat16"), ModelOptions(device="gpu:0")])
def test_it_is_refused_where_it_would_change_nothing(options: ModelOptions) -> None:
    with pytest.raises(OptionError, match="--float32-matmul-precision medium is for float32 weights on a cpu"):
        resolve_spec(FAMILIES / "roberta", replace(options, float32_matmul_precision="medium"))


def test_a_worker_that_multiplies_otherwise_has_another_fingerprint() -> None:
    medium = ModelOptions(float32_matmul_precision="medium")
    assert resolve_spec(FAMILIES / "roberta", medium).fingerprint != resolve_spec(FAMILIES / "roberta").fingerprint
