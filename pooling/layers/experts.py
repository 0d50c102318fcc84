"""A mixture of experts (Shazeer et al. 2017) over packed tokens: each goes through a few of many feed-forwards."""

from collections.abc import Sequence

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional

from pooling.layers.feed_forward import GatedFeedForward
from pooling.layers.layer import Layer, WeightedLayer
from pooling.layers.linear import Linear
from pooling.layers.stored_either_way import LinearStoredEitherWay
from pooling.parallel import summed
from pooling.precision import unquantized
from pooling.tensors import tensor_of


class ScoreCorrection(WeightedLayer):
    """scores [T, experts] -> the scores by which experts are chosen; those by which they count stay as they were.

    It keeps the load of experts even while training (Wang et al. 2024).

    Args:
        sets: how many sets of experts there are, each with a correction.
    """

    def __init__(self, experts: int, sets: int = 1) -> None:
        super().__init__()
        self.e_score_correction_bias = self.new_vector(sets, experts)

    def forward(self, scores: paddle.Tensor, of_set: paddle.Tensor | None = None) -> paddle.Tensor:
        """The set is the first where `of_set`, int64 [T, 1], does not say another."""
        correction = self.e_score_correction_bias
        return scores + (correction[:1] if of_set is None else paddle.gather(correction, of_set.flatten()))


class MixtureOfExperts(Layer):
    """x [T, hidden] -> the weighted sum of what each token's experts give, and of the shared ones [T, hidden].

    Tokens are sorted by expert, so that each expert sees its own ones in one matrix product and none is padded or
    dropped. Which expert gets how many is known only while it runs, so a model with experts is not compiled. Each rank
    holds a part of every expert; what they give is summed once.

    Args:
        hidden, inner: widths of the hidden states and within an expert; several where there are several sets of experts
            (`ExpertsByModality`), which are numbered through.
        experts, chosen: how many there are in a set, and how many a token goes through.
        shared_inner: width within the feed-forward that every token goes through; 0 means there is none.
        least_sum: below it the sum of a token's weights counts as this.
    """

    def __init__(
        self,
        hidden: int,
        inner: int | Sequence[int],
        *,
        experts: int,
        chosen: int,
        shared_inner: int,
        act: str,
        bias: bool,
        least_sum: float,
    ) -> None:
        super().__init__()
        inners = [inner] if isinstance(inner, int) else inner
        self.chosen = chosen
        self.least_sum = least_sum
        with unquantized():  # or a token could go to another expert
            self.router = Linear(hidden, experts, bias=False)
        self.statics = ScoreCorrection(experts)

        def part(width: int) -> GatedFeedForward:
            return GatedFeedForward(hidden, width, act, bias=bias, reduce=False)

        self.experts = nn.LayerList([part(inner) for inner in inners for _ in range(experts)])
        self.shared = part(shared_inner) if shared_inner else None

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        scores = functional.softmax(self.router(x))
        return self.mixed(x, scores, paddle.topk(self.statics(scores), self.chosen)[1])

    def mixed(
        self, x: paddle.Tensor, scores: paddle.Tensor, chosen: paddle.Tensor, first: paddle.Tensor | None = None
    ) -> paddle.Tensor:
        """What the chosen experts and the shared ones make of each token, [T, hidden].

        Args:
            x: [T, hidden].
            scores: of the experts among which each token chose, [T, experts].
            chosen: which of them it chose, int64 [T, chosen].
            first: for each token the number of the first of them, int64 [T, 1]; None where all choose among the same.
        """
        weights = paddle.take_along_axis(scores, chosen, axis=-1)
        weights = weights / weights.sum(-1, keepdim=True).clip(min=self.least_sum)
        experts = chosen if first is None else chosen + first
        mixed = (self._of_experts(x, experts) * weights.unsqueeze(-1)).sum(1)
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


class ExpertsByModality(MixtureOfExperts):
    """A mixture in which tokens of images choose among experts of their own; the shared ones are everyone's.

    The experts for text come first. Each set has its router and its correction of scores, an equal number of experts,
    and `inner` has the width within those for text and within those for images.
    """

    def __init__(
        self,
        hidden: int,
        inner: tuple[int, int],
        *,
        experts: int,
        chosen: int,
        shared_inner: int,
        act: str,
        bias: bool,
        least_sum: float,
    ) -> None:
        super().__init__(
            hidden,
            inner,
            experts=experts,
            chosen=chosen,
            shared_inner=shared_inner,
            act=act,
            bias=bias,
            least_sum=least_sum,
        )
        with unquantized():
            self.router = LinearStoredEitherWay(hidden, experts, bias=False)
            self.image_router = LinearStoredEitherWay(hidden, experts, bias=False)
        self.statics = ScoreCorrection(experts, sets=len(inner))

    def routed(self, x: paddle.Tensor, of_images: paddle.Tensor | None) -> paddle.Tensor:
        """x [T, hidden] -> [T, hidden].

        Args:
            of_images: 1 for the tokens of images and 0 for those of text, int64 [T, 1]; None where all are text's.
        """
        scores = functional.softmax(self.router(x))
        if of_images is not None:
            # Both routers see all tokens: they are a thousandth of what the experts take.
            scores = paddle.where(of_images > 0, functional.softmax(self.image_router(x)), scores)
        chosen = paddle.topk(self.statics(scores, of_images), self.chosen)[1]
        return self.mixed(x, scores, chosen, None if of_images is None else of_images * scores.shape[-1])

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.routed(x, None)
