"""Which models there are, by the architecture name in config.json, and how each is served; loads no model code.

An architecture's name is a family and an ending: `Qwen2` and `ForRewardModel`. The family says which file of
`pooling.models` holds the backbone; the ending says which head stands behind it and how it is converted.
"""

import ast
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pooling.errors import CheckpointError, OptionError
from pooling.pooler_config import PoolingType


class Head(StrEnum):
    """What stands between pooled hidden states and the result."""

    NONE = "none"
    CLASSIFICATION = "classification"
    REWARD = "reward"
    GATED_REWARD = "gated reward"
    TOKENS = "tokens of the language-model head"


class Convert(StrEnum):
    """How a model without a pooling interface becomes one (`--convert`)."""

    NONE = "none"
    EMBED = "embed"
    CLASSIFY = "classify"


@dataclass(frozen=True)
class Family:
    """Where a family's backbone is: a module of `pooling.models` and a class in it.

    Attributes:
        pools: whether the family's bare model implements the pooling interface itself; a decoder is converted.
        classified_by: which rows its classification head reads.
        heads: endings that mean another head in this family than in HEADS.
        multimodal: whether its `*ForConditionalGeneration` is served too, by its language model.
        images: which file of `pooling.vision` has its image processor (`NAME_processor.py`); None for text alone.
        placeholder: what config.json may call the id of the token that stands for a part of an image; empty where an
            image is a sequence of its own.
        projection: what config.json calls the width of embeddings, where it may be another than the hidden size.
        text_defaults, vision_defaults: values of config.json's parts that transformers does not write, being its own.
    """

    module: str
    model: str
    pools: bool = False
    classified_by: PoolingType = PoolingType.LAST
    heads: Mapping[str, Head] = field(default_factory=dict, hash=False)
    multimodal: bool = False
    images: str | None = None
    placeholder: tuple[str, ...] = ()
    projection: str | None = None
    text_defaults: Mapping[str, object] = field(default_factory=dict, hash=False)
    vision_defaults: Mapping[str, object] = field(default_factory=dict, hash=False)


CLIP = Family(
    "clip",
    "ClipForPooling",
    pools=True,
    images="clip",
    projection="projection_dim",
    text_defaults={
        "vocab_size": 49408,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "projection_dim": 512,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "max_position_embeddings": 77,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "eos_token_id": 49407,
    },
    vision_defaults={
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": 32,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    },
)

SIGLIP_SIZES: Mapping[str, object] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
SIGLIP = Family(
    "siglip",
    "SiglipForPooling",
    pools=True,
    images="clip",
    projection="projection_size",
    text_defaults={**SIGLIP_SIZES, "vocab_size": 32000, "max_position_embeddings": 64, "pad_token_id": 1},
    vision_defaults={**SIGLIP_SIZES, "image_size": 224, "patch_size": 16},
)

IMAGE_TOKEN = ("image_token_id",)

ERNIE_VL_MOE = Family(
    "ernie_vl_moe",
    "ErnieVLMoeForPooling",
    heads={"ForProcessRewardModel": Head.GATED_REWARD},
    multimodal=True,
    images="patches",
    placeholder=("image_token_id", "im_patch_id"),  # the second is Baidu's own
)

FAMILIES: Mapping[str, Family] = {
    "Bert": Family("bert", "BertForPooling", pools=True, classified_by=PoolingType.CLS),
    "Roberta": Family("roberta", "RobertaForPooling", pools=True, classified_by=PoolingType.CLS),
    "XLMRoberta": Family("roberta", "RobertaForPooling", pools=True, classified_by=PoolingType.CLS),
    "DistilBert": Family("distilbert", "DistilBertForPooling", pools=True, classified_by=PoolingType.CLS),
    "MPNet": Family("mpnet", "MPNetForPooling", pools=True, classified_by=PoolingType.CLS),
    "ModernBert": Family("modernbert", "ModernBertForPooling", pools=True, classified_by=PoolingType.CLS),
    "Llama": Family("llama", "LlamaForPooling"),
    "Mistral": Family("mistral", "MistralForPooling"),
    "Qwen2": Family("qwen2", "Qwen2ForPooling"),
    "Qwen3": Family("qwen3", "Qwen3ForPooling"),
    "Qwen2VL": Family("qwen2_vl", "Qwen2VLForPooling", multimodal=True, images="patches", placeholder=IMAGE_TOKEN),
    "Qwen2_5_VL": Family(
        "qwen2_5_vl", "Qwen25VLForPooling", multimodal=True, images="patches", placeholder=IMAGE_TOKEN
    ),
    "Qwen3VL": Family("qwen3_vl", "Qwen3VLForPooling", multimodal=True, images="patches", placeholder=IMAGE_TOKEN),
    "Gemma3Text": Family("gemma3", "Gemma3ForPooling"),
    "Gemma3": Family("gemma3", "Gemma3ForPooling"),
    "Ernie4_5": Family("ernie", "ErnieForPooling"),
    "Ernie4_5_": Family("ernie", "ErnieForPooling"),  # as Baidu's own configurations spell it
    "Ernie4_5_Moe": Family("ernie_moe", "ErnieMoeForPooling"),
    "Ernie4_5_VLMoe": ERNIE_VL_MOE,
    "Ernie4_5_VL_Moe": ERNIE_VL_MOE,  # as transformers spelt it at first
    "CLIP": CLIP,
    "Siglip": SIGLIP,
}

# Endings, the longest first. BARE endings lead to the hidden states; their own heads stay on the disk.
BARE = ("ForTextEncoding", "EmbeddingModel", "ForPreTraining", "ForMaskedLM", "ForCausalLM", "TextModel", "Model")
MULTIMODAL = "ForConditionalGeneration"  # the same, in families that say so
HEADS: Mapping[str, Head] = {
    "ForSequenceClassification": Head.CLASSIFICATION,
    "ForProcessRewardModel": Head.REWARD,  # two labels
    "ForRewardModel": Head.REWARD,
}


@dataclass(frozen=True)
class Architecture:
    """A name out of config.json, taken apart.

    Attributes:
        name: the whole name.
        family: the file and class of its backbone.
        ending: one of BARE or HEADS, or MULTIMODAL.
        head: the head that its weights hold.
    """

    name: str
    family: Family
    ending: str
    head: Head

    @property
    def backbone(self) -> str:
        """What transformers calls its bare model."""
        return f"{self.name.removesuffix(self.ending)}Model"

    @property
    def scores_steps(self) -> bool:
        """Whether its head gives two logits for each step, bad and good (Qwen2.5-Math-PRM)."""
        return self.ending == "ForProcessRewardModel" and self.head is Head.REWARD

    @property
    def causal_lm(self) -> bool:
        """Whether it has a language-model head, of which the logits of single tokens can be read."""
        return self.ending == "ForCausalLM"

    def conversion(self, wanted: str) -> Convert:
        """The conversion for `--convert`, "auto" or the name of one.

        Raises:
            OptionError: the architecture cannot be converted so.
        """
        own = Convert.NONE if self.head is not Head.NONE or self.family.pools else Convert.EMBED
        if wanted == "auto":
            return own
        convert = Convert(wanted)
        if convert is Convert.NONE and own is not Convert.NONE:
            raise OptionError(
                f"--convert none does not fit {self.name}, which has no pooler of its own: use auto or embed."
            )
        if convert is Convert.CLASSIFY and self.head is Head.NONE:
            raise OptionError(
                f"--convert classify does not fit {self.name}, whose weights hold no classification head: use auto, "
                "or name two tokens of its language-model head as returned_token_ids in --pooler-config."
            )
        return convert


def known_architecture(names: object, path: Path) -> Architecture:
    """The first of a checkpoint's architectures that Millpond can run.

    Args:
        names: what config.json has under "architectures"; anything but a list counts as empty.
        path: that config.json, for the message.

    Raises:
        CheckpointError: none of them is known; the message lists those that are.
    """
    candidates = [str(name) for name in names] if isinstance(names, list) else []
    for name in candidates:
        found = _taken_apart(name)
        if found:
            return found
    if not candidates:
        raise CheckpointError(
            f"{path} has no architectures, by which a model's class is known: add the name of its class, such as "
            '"architectures": ["BertModel"].'
        )
    raise CheckpointError(
        f"{path} gives the architecture as {', '.join(candidates)}, which is not supported: use a model of one of the "
        f"families {', '.join(FAMILIES)}, or add one (docs/add-a-model-family.md)."
    )


def _taken_apart(name: str) -> Architecture | None:
    for ending in (*HEADS, MULTIMODAL, *BARE):
        family = FAMILIES.get(name.removesuffix(ending)) if name.endswith(ending) else None
        if family and (family.multimodal or ending != MULTIMODAL):
            return Architecture(name, family, ending, family.heads.get(ending) or HEADS.get(ending, Head.NONE))
    return None


@functools.cache
def class_pooling_type(family: Family) -> PoolingType:
    """The argument of `@default_pooling_type` on a family's class, read from its source without importing it."""
    source = (Path(__file__).parent / "models" / f"{family.module}.py").read_text("utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == family.model:
            for decorator in node.decorator_list:
                match decorator:
                    case ast.Call(func=ast.Name(id="default_pooling_type"), args=[ast.Constant(value=str(name))]):
                        return PoolingType(name)
    raise LookupError(f"{family.model} in pooling/models/{family.module}.py has no @default_pooling_type")
