"""The way to packed attention on a GPU, with a plain computation in the operator's place: no machine here has a GPU.

This holds the arguments to the operator's documentation; what the operator makes of them is not seen here.
"""

import itertools

import numpy as np
import paddle
import pytest

from pooling.config import resolve_spec
from pooling.engine import Engine, PoolingInput
from pooling.layers import flash
from pooling.layers.attention import AttentionKind, AttentionPlan, DistanceBuckets
from tests.pooling.test_families import FAMILIES, inputs_of, options_of


def plain(query, key, value, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, scale, *, causal, training):  # type: ignore[no-untyped-def]
    """What `flash_attn_unpadded` documents, one sequence at a time; [T, heads, head_dim] each."""
    assert not training
    assert cu_seqlens_q.dtype == paddle.int32
    places = cu_seqlens_q.numpy()
    assert max_seqlen_q >= np.diff(places).max()
    repeats = query.shape[1] // key.shape[1]
    outputs = []
    for begin, end in itertools.pairwise(places):
        if begin == end:
            continue
        q, k, v = (x[begin:end].transpose([1, 0, 2]) for x in (query, key, value))
        k, v = (paddle.repeat_interleave(x, repeats, axis=0) for x in (k, v))
        scores = paddle.matmul(q, k, transpose_y=True) * scale
        if causal:
            scores = scores + paddle.triu(paddle.full_like(scores[0], -1e9), diagonal=1)
        outputs.append(paddle.matmul(paddle.nn.functional.softmax(scores), v).transpose([1, 0, 2]))
    return paddle.concat(outputs), None


def packed_plans(monkeypatch: pytest.MonkeyPatch) -> list[AttentionPlan]:
    """Has models that are built from now on attend to packed sequences; their plans."""
    of_rank = AttentionPlan.of_rank
    plans = []

    def with_flash(*arguments: object, **named: object) -> AttentionPlan:
        plan = of_rank(*arguments, **named)  # type: ignore[arg-type]
        plans.append(AttentionPlan(plan.heads, plan.kv_heads, plan.kinds, plan.rotated, flash=True))
        return plans[-1]

    monkeypatch.setattr(AttentionPlan, "of_rank", with_flash)
    return plans


@pytest.mark.parametrize("name", ["llama", "qwen3", "xlm-roberta-classifier"])
def test_packed_attention_gives_what_the_padded_one_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = resolve_spec(FAMILIES / name, options_of(name))
    inputs = [PoolingInput(np.array(known.ids, dtype=np.int32)) for known in inputs_of(name)]
    expected = Engine.load(spec).forward(inputs)
    monkeypatch.setattr(flash, "flash_attn_unpadded", plain)
    plans = packed_plans(monkeypatch)
    engine = Engine.load(spec)
    monkeypatch.setattr(engine, "eager_tokens", 10**9)
    for rows, before in zip(engine.forward(inputs), expected, strict=True):
        np.testing.assert_allclose(rows, before, rtol=0, atol=1e-5 * max(1.0, float(np.abs(before).max())))
    assert plans


def test_a_window_or_a_bias_is_not_left_out() -> None:
    assert flash.fits([AttentionKind(causal=True), AttentionKind()], 100)
    assert flash.fits([AttentionKind(causal=True, reach=99)], 100)
    assert not flash.fits([AttentionKind(causal=True), AttentionKind(causal=True, reach=98)], 100)
    assert not flash.fits([AttentionKind(buckets=DistanceBuckets())], 10)
