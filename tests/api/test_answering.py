"""What is refused before anything is queued."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from api.answering import PoolingCall, check_possible
from api.errors import ApiError
from api.sequences import Sequences
from api.serving import ServedModel
from pooling.config import ModelSpec, resolve_spec
from pooling.model_options import ModelOptions
from pooling.pooler_config import Activation, PoolingType
from tests.server import GOLDEN, TINY_BERT

EMBEDDER = resolve_spec(TINY_BERT, ModelOptions())
STEPS = resolve_spec(
    GOLDEN / "families" / "qwen2-reward", ModelOptions(pooler_config='{"pooling_type": "STEP", "step_tag_id": 9}')
)
TWO = Sequences("input", [np.array([2, 9, 9, 3], np.int32), np.array([2, 3], np.int32)])


def call(spec: ModelSpec, pooling: PoolingType | None = None, dimensions: int | None = None) -> PoolingCall:
    return PoolingCall(cast("ServedModel", SimpleNamespace(spec=spec)), TWO, dimensions, pooling_type=pooling)


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (call(EMBEDDER), 2 * EMBEDDER.embedding_dimensions),
        (call(EMBEDDER, dimensions=5), 2 * 5),
        (call(EMBEDDER, PoolingType.ALL), 6 * EMBEDDER.embedding_dimensions),
        (call(STEPS), 2),
        (call(STEPS, PoolingType.ALL), 6),
    ],
)
def test_a_reply_over_the_limit_is_refused_with_the_flag_that_moves_it(wanted: PoolingCall, numbers: int) -> None:
    check_possible(wanted, 4 * numbers)
    with pytest.raises(ApiError, match=f"{4 * numbers} bytes of numbers.*--max-response-bytes") as caught:
        check_possible(wanted, 4 * numbers - 1)
    assert (caught.value.status, caught.value.param, caught.value.code) == (413, "input", "response_too_large")


def test_what_a_worker_would_refuse_is_refused_at_once() -> None:
    model = cast("ServedModel", SimpleNamespace(spec=EMBEDDER))
    for wrong, why in (
        (PoolingCall(model, TWO, pooling_type=PoolingType.STEP), "pooling_type STEP scores steps"),
        (PoolingCall(model, TWO, activation=Activation.SIGMOID), "activation sigmoid is for scores"),
    ):
        with pytest.raises(ApiError, match=why) as caught:
            check_possible(wrong, 2**30)
        assert caught.value.status == 400
