"""The heads that turn pooled rows into scores; each is named as its checkpoints name its tensors."""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import paddle
from paddle.nn import functional

from pooling.architectures import Head
from pooling.config import ModelSpec
from pooling.layers.layer import Layer, Stored, WeightedLayer
from pooling.layers.linear import Linear
from pooling.layers.stored_either_way import LinearStoredEitherWay
from pooling.precision import current_precision, product, write


class RewardHead(Layer):
    """Linear(h, h), ReLU, Linear(h, labels): Qwen2ForRewardModel and Qwen2ForProcessRewardModel (Qwen2.5-Math)."""

    checkpoint_names: ClassVar[Mapping[str, str]] = {"dense.": "score.0.", "output.": "score.2."}

    def __init__(self, hidden: int, labels: int) -> None:
        super().__init__()
        self.dense = Linear(hidden, hidden)
        self.output = Linear(hidden, labels)

    def forward(self, rows: paddle.Tensor) -> paddle.Tensor:
        return self.output(functional.relu(self.dense(rows)))


class GatedRewardHead(Layer):
    """down(SiLU(gate(x)) * up(x)), as wide inside as outside, one score: Ernie4_5_VLMoeForProcessRewardModel."""

    checkpoint_names: ClassVar[Mapping[str, str]] = {"gate_up.": "rm_head.up_gate_proj.", "down.": "rm_head.down_proj."}

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.gate_up = LinearStoredEitherWay(hidden, 2 * hidden, bias=False)  # the gate's rows first
        self.down = LinearStoredEitherWay(hidden, 1, bias=False)

    def forward(self, rows: paddle.Tensor) -> paddle.Tensor:
        merged = self.gate_up(rows)
        return self.down(functional.silu(merged[:, : self.hidden]) * merged[:, self.hidden :])


class LinearHead(Layer):
    """One linear layer without a bias, `score`: how decoders classify (Llama, Mistral, Qwen2, Qwen3, Gemma 3)."""

    checkpoint_names: ClassVar[Mapping[str, str]] = {"output.": "score."}

    def __init__(self, hidden: int, labels: int) -> None:
        super().__init__()
        self.output = Linear(hidden, labels, bias=False)

    def forward(self, rows: paddle.Tensor) -> paddle.Tensor:
        return self.output(rows)


class TokenHead(Layer):
    """The logits of a few tokens, read off a language-model head or, where it is tied, off the embedding."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.checkpoint_names = {"scores.": "embed_tokens." if spec.tied_embeddings else "lm_head."}
        self.scores = TokenScores(spec.hidden_size, spec.vocab_size, spec.pooler.returned_token_ids)

    def forward(self, rows: paddle.Tensor) -> paddle.Tensor:
        return self.scores(rows)


class TokenScores(WeightedLayer):
    """The logits of a few tokens of a language-model head [vocabulary, h]: rows [rows, h] -> [rows, tokens].

    Only their rows of the matrix are kept.
    """

    def __init__(self, hidden: int, vocabulary: int, token_ids: Sequence[int]) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.token_ids = list(token_ids)
        self.precision = current_precision()
        self.weight = self.new_matrix(len(self.token_ids), hidden)

    def forward(self, rows: paddle.Tensor) -> paddle.Tensor:
        return product(rows, self.weight, None, self.precision)

    def stored_shape(self, parameter: str, shard: str | None = None) -> Sequence[int]:
        return (self.vocabulary, self.weight.shape[1])

    def load(self, parameter: str, stored: Stored, shard: str | None = None) -> None:
        for place, token in enumerate(self.token_ids):
            write(self.weight, (slice(place, place + 1),), stored.read(slice(token, token + 1)))


def new_head(spec: ModelSpec, classification_head: Callable[[ModelSpec], Layer]) -> Layer | None:
    """The head that a spec calls for; `classification_head` makes the family's own."""
    if spec.head is Head.CLASSIFICATION:
        return classification_head(spec)
    if spec.head is Head.REWARD:
        return RewardHead(spec.hidden_size, spec.labels)
    if spec.head is Head.GATED_REWARD:
        return GatedRewardHead(spec.hidden_size)
    if spec.head is Head.TOKENS:
        return TokenHead(spec)
    return None
