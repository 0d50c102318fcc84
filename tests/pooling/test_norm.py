"""Norms by themselves, on processors with AVX-512 and without."""

import numpy as np
import paddle
import pytest

from pooling.compiled import as_program
from pooling.device import processor_has_avx512
from pooling.layers import norm
from pooling.layers.norm import rms_normalised

EPSILON = 1e-6


@pytest.mark.parametrize("avx512", [True, False])
@pytest.mark.parametrize("shape", [(1, 16), (7, 768), (5, 6, 64)], ids=str)
@pytest.mark.parametrize("compiled", [True, False], ids=["program", "eager"])
def test_rows_are_divided_by_their_root_mean_square(
    avx512: bool, shape: tuple[int, ...], compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if avx512 and not processor_has_avx512():
        pytest.skip("Paddle's operator dies on this processor")
    monkeypatch.setattr(norm, "processor_has_avx512", lambda: avx512)
    generator = np.random.default_rng(0)
    x, weight = (generator.normal(3, 2, size=size).astype(np.float32) for size in (shape, shape[-1:]))
    scale = paddle.to_tensor(weight)
    with paddle.no_grad():
        if compiled:
            rows = paddle.static.InputSpec([None, *shape[1:]], "float32", "x")
            signature = paddle.static.InputSpec([*shape[-1:]], "float32", "scale")
            program = as_program(
                lambda given, scales: [rms_normalised(given[0], scales[0], EPSILON)], [rows], [signature]
            )
            (found,) = program([paddle.to_tensor(x)], [scale])
        else:
            found = rms_normalised(paddle.to_tensor(x), scale, EPSILON)
    exact = x.astype(np.float64)
    wanted = exact / np.sqrt((exact**2).mean(-1, keepdims=True) + EPSILON) * weight
    np.testing.assert_allclose(found.numpy(), wanted, rtol=2e-6, atol=2e-6)
