"""RoBERTa (Liu et al. 2019) and XLM-RoBERTa (Conneau et al. 2020); reference: transformers.models.roberta."""

from collections.abc import Mapping
from typing import ClassVar

from pooling.config import ModelSpec
from pooling.layers.layer import Layer
from pooling.models.bert import BertForPooling, BertHead
from pooling.models.encoder import EncoderShape
from pooling.models.interface import default_pooling_type
from pooling.settings import Settings


class RobertaHead(BertHead):
    """BERT's head, of which both layers belong to the classifier."""

    checkpoint_names: ClassVar[Mapping[str, str]] = {
        "dense.": "classifier.dense.",
        "output.": "classifier.out_proj.",
    }


@default_pooling_type("MEAN")
class RobertaForPooling(BertForPooling):
    """BERT whose positions begin behind the padding token's id; the second text of a pair is no other segment."""

    checkpoint_prefixes: ClassVar[tuple[str, ...]] = ("roberta.",)
    checkpoint_ignored: ClassVar[tuple[str, ...]] = ("pooler.", "lm_head.", "embeddings.position_ids")

    @classmethod
    def shape(cls, config: Settings) -> EncoderShape:
        position_kind = config.text("position_embedding_type", default="absolute")
        if position_kind != "absolute":
            raise config.refuse("position_embedding_type", position_kind, "use a RoBERTa with absolute positions")
        return EncoderShape.of(config, after_padding=True)

    @classmethod
    def classification_head(cls, spec: ModelSpec) -> Layer:
        return RobertaHead(spec.hidden_size, spec.labels)
