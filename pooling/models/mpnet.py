"""MPNet (Song et al. 2020); reference: transformers.models.mpnet.modeling_mpnet."""

from collections.abc import Mapping
from typing import ClassVar

import paddle

from pooling.config import ModelSpec
from pooling.layers.attention import AttentionIndex, AttentionKind, DistanceBuckets
from pooling.layers.embedding import HeadBias
from pooling.layers.layer import Layer
from pooling.models.encoder import EncoderForPooling, EncoderShape
from pooling.models.interface import default_pooling_type
from pooling.models.roberta import RobertaHead
from pooling.settings import Settings


@default_pooling_type("MEAN")
class MPNetForPooling(EncoderForPooling):
    """BERT without segments, whose scores get a learned bias by the distance of two tokens, the same in every layer."""

    inputs: ClassVar[tuple[str, ...]] = ("token_ids", "positions")
    checkpoint_prefixes: ClassVar[tuple[str, ...]] = ("mpnet.",)
    checkpoint_names: ClassVar[Mapping[str, str]] = {
        "distance_bias.": "encoder.relative_attention_bias.",
        "embeddings.word.": "embeddings.word_embeddings.",
        "embeddings.position.": "embeddings.position_embeddings.",
        "embeddings.norm.": "embeddings.LayerNorm.",
        "layers.": "encoder.layer.",
        "attention.query.": "attention.attn.q.",
        "attention.key.": "attention.attn.k.",
        "attention.value.": "attention.attn.v.",
        "attention.output.": "attention.attn.o.",
        "attention_norm.": "attention.LayerNorm.",
        "feed_forward.up.": "intermediate.dense.",
        "feed_forward.down.": "output.dense.",
        "feed_forward_norm.": "output.LayerNorm.",
    }
    checkpoint_ignored: ClassVar[tuple[str, ...]] = ("pooler.", "lm_head.", "embeddings.position_ids")

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.distance_bias = HeadBias(_buckets(spec.settings).count, self.shape(spec.settings).heads)

    def forward(
        self, token_ids: paddle.Tensor, positions: paddle.Tensor, segments: paddle.Tensor, index: AttentionIndex
    ) -> paddle.Tensor:
        bias = self.distance_bias(index.kinds["full"].buckets).transpose([2, 0, 1])
        return super().forward(token_ids, positions, segments, index._replace(bias=bias))

    @classmethod
    def shape(cls, config: Settings) -> EncoderShape:
        return EncoderShape.of(config, segments=False, after_padding=True)

    @classmethod
    def kind(cls, config: Settings) -> AttentionKind:
        return AttentionKind(buckets=_buckets(config))

    @classmethod
    def classification_head(cls, spec: ModelSpec) -> Layer:
        return RobertaHead(spec.hidden_size, spec.labels)


def _buckets(config: Settings) -> DistanceBuckets:
    # The reference always sorts into 32 buckets up to a distance of 128, whatever the size of the table.
    return DistanceBuckets(config.integer("relative_attention_num_buckets", default=32))
