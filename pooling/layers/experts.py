"""A mixture of experts (Shazeer et al. 2017) over packed tokens: each goes through a few of many feed-forwards."""

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional

from pooling.layers.feed_forward import GatedFeedForward
from pooling.layers.layer import Layer, WeightedLayer
from pooling.layers.linear import Linear
from pooling.parallel import summed
from pooling.precision import unquantized
from pooling.tensors import tensor_of


class ScoreCorrection(WeightedLayer):
    """scores [T, experts] -> the scores by which experts are chosen; those by which they count stay as they were.

    It keeps the load of experts even while training (Wang et al. 2024).
    """

    def __init__(self, experts: int) -> None:
        super().__init__()
        self.e_score_correction_bias = self.new_vector(1, experts)

    def forward(self, scores: paddle.Tensor) -> paddle.Tensor:
        return scores + self.e_score_correction_bias


class MixtureOfExperts(Layer):
    """x [T, hidden] -> the weighted sum of what each token's experts give, and of the shared ones [T, hidden].

    Tokens are sorted by expert, so that each expert sees its own ones in one matrix product and none is padded or
    dropped. Which expert gets how many is known only while it runs, so a model with experts is not compiled. Each rank
    holds a part of every expert; what they give is summed once.

    Args:
        hidden, inner: widths of the hidden states and within an expert.
        experts, chosen: how many there are, and how many a token goes through.
        shared_inner: width within the feed-forward that every token goes through; 0 means there is none.
        least_sum: below it the sum of a token's weights counts as this.
    """

    def __init__(
        self,
        hidden: int,
        inner: int,
        *,
        experts: int,
        chosen: int,
        shared_inner: int,
        act: str,
        bias: bool,
        least_sum: float,
    ) -> None:
        super().__init__()
        self.chosen = chosen
        self.least_sum = least_sum
        with unquantized():  # or a token could go to another expert
            self.router = Linear(hidden, experts, bias=False)
        self.statics = ScoreCorrection(experts)

        def part(width: int) -> GatedFeedForward:
            return GatedFeedForward(hidden, width, act, bias=bias, reduce=False)

        self.experts = nn.LayerList([part(inner) for _ in range(experts)])
        self.shared = part(shared_inner) if shared_inner else None

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        scores = functional.softmax(self.router(x))
        chosen = paddle.topk(self.statics(scores), self.chosen)[1]
        weights = paddle.take_along_axis(scores, chosen, axis=-1)
        weights = weights / weights.sum(-1, keepdim=True).clip(min=self.least_sum)
        mixed = (self._of_experts(x, chosen) * weights.unsqueeze(-1)).sum(1)
        return summed(mixed if self.shared is None else mixed + self.shared(x))

    def _of_experts(self, x: paddle.Tensor, chosen: paddle.Tensor) -> paddle.Tensor:
        """What each chosen expert makes of each token, [T, chosen, hidden]."""
        expert = chosen.numpy().reshape(-1)
        order = np.argsort(expert, kind="stable")
        ends = np.cumsum(np.bincount(expert, minlength=len(self.experts)))
        sorted_tokens = paddle.gather(x, tensor_of(order // self.chosen))
        begins = np.concatenate([[0], ends[:-1]])
        parts = [
            self.experts[number](sorted_tokens[begin:end])
            for number, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True))
            if begin < end
        ]
        back = paddle.gather(paddle.concat(parts), tensor_of(np.argsort(order)))
        return back.reshape([-1, self.chosen, x.shape[-1]])
