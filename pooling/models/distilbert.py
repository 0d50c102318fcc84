"""DistilBERT (Sanh et al. 2019); reference: transformers.models.distilbert.modeling_distilbert."""

from collections.abc import Mapping
from typing import ClassVar

import paddle
from paddle.nn import functional

from pooling.config import ModelSpec
from pooling.layers.layer import Layer
from pooling.layers.linear import Linear
from pooling.models.encoder import EncoderForPooling, EncoderShape
from pooling.models.interface import default_pooling_type
from pooling.settings import Settings


class DistilBertHead(Layer):
    """The first token's vector through a linear layer and ReLU, then the classifier."""

    checkpoint_names: ClassVar[Mapping[str, str]] = {"dense.": "pre_classifier.", "output.": "classifier."}

    def __init__(self, hidden: int, labels: int) -> None:
        super().__init__()
        self.dense = Linear(hidden, hidden)
        self.output = Linear(hidden, labels)

    def forward(self, rows: paddle.Tensor) -> paddle.Tensor:
        return self.output(functional.relu(self.dense(rows)))


@default_pooling_type("MEAN")
class DistilBertForPooling(EncoderForPooling):
    """BERT without segments, under other names."""

    inputs: ClassVar[tuple[str, ...]] = ("token_ids", "positions")
    checkpoint_prefixes: ClassVar[tuple[str, ...]] = ("distilbert.",)
    checkpoint_names: ClassVar[Mapping[str, str]] = {
        "embeddings.word.": "embeddings.word_embeddings.",
        "embeddings.position.": "embeddings.position_embeddings.",
        "embeddings.norm.": "embeddings.LayerNorm.",
        "layers.": "transformer.layer.",
        "attention.query.": "attention.q_lin.",
        "attention.key.": "attention.k_lin.",
        "attention.value.": "attention.v_lin.",
        "attention.output.": "attention.out_lin.",
        "attention_norm.": "sa_layer_norm.",
        "feed_forward.up.": "ffn.lin1.",
        "feed_forward.down.": "ffn.lin2.",
        "feed_forward_norm.": "output_layer_norm.",
    }
    checkpoint_ignored: ClassVar[tuple[str, ...]] = ("vocab_", "embeddings.position_ids")

    @classmethod
    def shape(cls, config: Settings) -> EncoderShape:
        return EncoderShape.of(config, segments=False)

    @classmethod
    def classification_head(cls, spec: ModelSpec) -> Layer:
        return DistilBertHead(spec.hidden_size, spec.labels)
