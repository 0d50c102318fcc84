"""BERT (Devlin et al. 2018) as a backbone for pooling; reference: transformers.models.bert.modeling_bert."""

from collections.abc import Mapping
from typing import ClassVar

import paddle

from pooling.config import ModelSpec
from pooling.layers.layer import Layer
from pooling.layers.linear import Linear
from pooling.models.encoder import EncoderForPooling, EncoderShape
from pooling.models.interface import default_pooling_type
from pooling.settings import Settings


class BertHead(Layer):
    """The first token's vector through a linear layer and tanh (BERT calls it the pooler), then the classifier."""

    checkpoint_names: ClassVar[Mapping[str, str]] = {"dense.": "pooler.dense.", "output.": "classifier."}

    def __init__(self, hidden: int, labels: int) -> None:
        super().__init__()
        self.dense = Linear(hidden, hidden)
        self.output = Linear(hidden, labels)

    def forward(self, rows: paddle.Tensor) -> paddle.Tensor:
        return self.output(paddle.tanh(self.dense(rows)))


@default_pooling_type("MEAN")
class BertForPooling(EncoderForPooling):
    """BERT. The default is MEAN, as Sentence Transformers reads a bare BERT checkpoint."""

    checkpoint_prefixes: ClassVar[tuple[str, ...]] = ("bert.",)
    checkpoint_names: ClassVar[Mapping[str, str]] = {
        "embeddings.word.": "embeddings.word_embeddings.",
        "embeddings.position.": "embeddings.position_embeddings.",
        "embeddings.segment.": "embeddings.token_type_embeddings.",
        "embeddings.norm.": "embeddings.LayerNorm.",
        "layers.": "encoder.layer.",
        "attention.query.": "attention.self.query.",
        "attention.key.": "attention.self.key.",
        "attention.value.": "attention.self.value.",
        "attention.output.": "attention.output.dense.",
        "attention_norm.": "attention.output.LayerNorm.",
        "feed_forward.up.": "intermediate.dense.",
        "feed_forward.down.": "output.dense.",
        "feed_forward_norm.": "output.LayerNorm.",
    }
    checkpoint_ignored: ClassVar[tuple[str, ...]] = ("pooler.", "cls.", "embeddings.position_ids")

    @classmethod
    def shape(cls, config: Settings) -> EncoderShape:
        """Raises CheckpointError for the variants of BERT that are not supported."""
        position_kind = config.text("position_embedding_type", default="absolute")
        if position_kind != "absolute":
            raise config.refuse("position_embedding_type", position_kind, "use a BERT with absolute positions")
        if config.flag("is_decoder"):
            raise config.refuse("is_decoder", True, "use a BERT that is an encoder")
        return EncoderShape.of(config)

    @classmethod
    def classification_head(cls, spec: ModelSpec) -> Layer:
        return BertHead(spec.hidden_size, spec.labels)
