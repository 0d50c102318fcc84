"""From a checkpoint directory to a `ModelSpec`: everything about a model that is known without its weights."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from pooling.architectures import Architecture, Convert, Family, Head, class_pooling_type, known_architecture
from pooling.chat_template import CHAT_TEMPLATE_FILE, SPECIAL_TOKENS_FILE
from pooling.checkpoint import read_json, weight_files
from pooling.errors import CheckpointError, OptionError
from pooling.lengths import TOKENIZER_CONFIG_FILE, longest_sequence
from pooling.model_options import ModelOptions, dtype_of, quantization_of
from pooling.pooler_config import OPTION, Activation, PoolerConfig, PoolingType, overridden, read_option
from pooling.sentence_transformers import (
    MODULES_FILE,
    PROMPTS_FILE,
    SENTENCE_CONFIG_FILES,
    Dense,
    Modules,
    Prompts,
    cross_encoder_activation,
    read_modules,
    read_prompts,
    truncated_dimensions,
)
from pooling.settings import Settings

CONFIG_FILE = "config.json"

# How images are processed; transformers writes either.
PREPROCESSOR_FILE = "preprocessor_config.json"
PROCESSOR_FILE = "processor_config.json"
IMAGE_FILES = (PREPROCESSOR_FILE, PROCESSOR_FILE)

# Where a multimodal configuration keeps what describes its language model, and its vision tower. As in transformers the
# sections that CLIP's first configurations have beside hold.
TEXT_SECTIONS = ("text_config_dict", "text_config")
VISION_SECTIONS = ("vision_config_dict", "vision_config")

# Classes of transformers that checkpoints are known to replace by code of their own under the same name.
SHADOWED = ("LlamaModel", "MistralModel", "Qwen2Model", "Qwen3Model")

# `<extra_0>`, which ends a step for Qwen2.5-Math-PRM; vLLM assumes it too where nothing else is said.
QWEN_STEP_TAG = 151651


@dataclass(frozen=True)
class ModelSpec:
    """A checkpoint as Millpond will serve it.

    Attributes:
        directory: where the checkpoint lies.
        architecture: the class named in config.json: its family and its head.
        convert: how it was made a pooling model.
        head: what stands behind the pooler.
        tasks: what it is served for: "embed", "reward", "score" (a query with documents), "classify".
        settings: config.json, or its part for text, for what only one family knows.
        whole: all of config.json.
        hidden_size: the numbers of a row as it leaves the model: of its hidden states, or what they are projected to.
        lowercase: whether texts are lowercased before the tokenizer sees them (sentence_bert_config.json).
        max_model_len: the longest sequence in tokens, special tokens included.
        embedding_dimensions: the numbers in an embedding when no `dimensions` are asked for.
        labels: the scores that the head gives for a row; 0 without a head.
        label_names: what they are called (config.json's id2label), in order.
        activation_stated: whether the checkpoint or the user says what is applied to scores.
        dense: linear layers behind the pooler, in order.
        prompts: texts that callers may have put before their input.
        reads_messages: whether Sentence Transformers renders inputs by the chat template; None without modules.json,
            when it does so where there is a template.
        tied_embeddings: whether the language-model head is the embedding.
        dtype: the type of weights and activations.
        quantization: "int8" where the linear layers before the pooler hold a byte a weight, else "none".
        fingerprint: 16 hex digits over the configuration, the tokenizer, the names and sizes of the weights and the
            options; two processes with different fingerprints would give different results.
        origins: for each decision, the file, class or option that made it.
        vision: config.json's part about the vision tower; None for a model of text alone.
        placeholder_id: the token that stands for a part of an image; None where an image is a sequence of its own.
    """

    directory: Path
    architecture: Architecture
    convert: Convert
    head: Head
    tasks: tuple[str, ...]
    settings: Settings
    whole: Settings
    hidden_size: int
    vocab_size: int
    lowercase: bool
    max_model_len: int
    embedding_dimensions: int
    labels: int
    label_names: tuple[str, ...]
    activation_stated: bool
    pooler: PoolerConfig
    dense: tuple[Dense, ...]
    prompts: Prompts
    reads_messages: bool | None
    tied_embeddings: bool
    dtype: str
    quantization: str
    fingerprint: str
    origins: Mapping[str, str] = field(compare=False)
    vision: Settings | None = None
    placeholder_id: int | None = None

    @property
    def takes_images(self) -> bool:
        """Whether requests may bring images."""
        return self.vision is not None

    @property
    def supported_dimensions(self) -> tuple[int, ...]:
        """The lengths of a result that a request may ask for, ascending; the model's own is always one of them."""
        return tuple(sorted({*self.pooler.matryoshka_dimensions, self.embedding_dimensions}))

    @property
    def good_label(self) -> int | None:
        """Where the head gives two logits for and against the same thing: which speaks for it. Else None."""
        if self.head is Head.TOKENS and self.labels == 2:
            return 0
        return 1 if self.head is Head.REWARD and self.labels == 2 else None

    @property
    def row_width(self) -> int:
        """The numbers in one row of a result when no `dimensions` are asked for."""
        if self.head is Head.NONE:
            return self.embedding_dimensions
        return self.labels if self.good_label is None else 1

    @property
    def many_rows(self) -> bool:
        """Whether a result has several rows, one for each token or step."""
        return self.pooler.pooling_type in (PoolingType.ALL, PoolingType.STEP)


def resolve_spec(
    directory: Path, options: ModelOptions | None = None, weights: Sequence[Path] | None = None
) -> ModelSpec:
    """Read the small files of a checkpoint and decide how it will be served.

    Args:
        directory: a checkpoint that `verify_checkpoint` has accepted.
        options: what the user said; None leaves all to the checkpoint.
        weights: its weight files where the caller knows them, perhaps none; None looks, and refuses to find none.

    Raises:
        CheckpointError: a file is missing or broken, or the model is of a kind not supported.
        OptionError: an option does not fit this model.
    """
    options = options or ModelOptions()
    path = directory / CONFIG_FILE
    whole = Settings(read_json(path), path)
    architecture = known_architecture(whole.get("architectures"), path)
    _refuse_own_code(whole, architecture)
    family = architecture.family
    settings = _section(whole, TEXT_SECTIONS, family.text_defaults) or whole
    modules = read_modules(directory)
    convert = architecture.conversion(options.convert)
    origins = {
        "architecture": CONFIG_FILE,
        "runner": "--runner" if options.runner != "auto" else "the default",
        "convert": "--convert" if options.convert != "auto" else f"the name {architecture.name}",
    }
    overrides = read_option(options.pooler_config)
    stated = cross_encoder_activation(directory, whole)
    pooler = overridden(_pooler(architecture, convert, modules, whole, stated, origins), overrides)
    origins |= {f"pooler.{name}": OPTION for name in overrides}
    head = Head.TOKENS if pooler.returned_token_ids else architecture.head
    hidden_size = _width(whole, settings, family)
    _check_widths(modules.dense, hidden_size)
    label_names = _label_names(whole, head)
    spec = ModelSpec(
        directory=directory,
        architecture=architecture,
        convert=convert,
        head=head,
        tasks=_tasks(head, pooler, len(label_names)),
        settings=settings,
        whole=whole,
        hidden_size=hidden_size,
        vocab_size=settings.integer("vocab_size"),
        lowercase=False,
        max_model_len=0,
        embedding_dimensions=modules.dense[-1].outputs if modules.dense else hidden_size,
        labels=_labels(head, architecture, pooler, len(label_names)),
        label_names=label_names,
        activation_stated=stated is not None or "activation" in overrides,
        pooler=pooler,
        dense=modules.dense,
        prompts=read_prompts(directory),
        reads_messages=modules.reads_messages,
        tied_embeddings=whole.flag("tie_word_embeddings", default=settings.flag("tie_word_embeddings", default=False)),
        dtype=dtype_of(options, settings, whole),
        quantization=quantization_of(options),
        fingerprint=_fingerprint(directory, options, weight_files(directory) if weights is None else weights),
        origins=MappingProxyType(origins),
        vision=_section(whole, VISION_SECTIONS, family.vision_defaults) if family.images else None,
        placeholder_id=_placeholder_id(whole, architecture),
    )
    _check_pooler(spec)
    length, lowercase, origin = longest_sequence(directory, settings, options.max_model_len, pooler.max_embed_len)
    origins["max_model_len"] = origin
    return replace(_with_dimensions(spec, whole), max_model_len=length, lowercase=lowercase)


def _section(config: Settings, names: Sequence[str], defaults: Mapping[str, object]) -> Settings | None:
    """The first of these objects in config.json, over what it holds where it is silent."""
    section = next((section for name in names if (section := config.section(name)) is not None), None)
    return section.over(defaults) if section is not None else None


def _width(config: Settings, settings: Settings, family: Family) -> int:
    """The numbers of a row as it leaves the model: its hidden size, or what that is projected to."""
    hidden = settings.integer("hidden_size", "dim")
    if family.projection is None:
        return hidden
    return config.integer(family.projection, default=settings.integer(family.projection, default=hidden))


def _placeholder_id(config: Settings, architecture: Architecture) -> int | None:
    names = architecture.family.placeholder
    return config.integer(*names) if names and config.section("vision_config") is not None else None


def _pooler(
    architecture: Architecture,
    convert: Convert,
    modules: Modules,
    config: Settings,
    stated: tuple[Activation, str] | None,
    origins: dict[str, str],
) -> PoolerConfig:
    """The pooler before `--pooler-config`: the class's default, over which modules.json takes precedence."""
    pooling_type, origin = PoolingType.LAST, f"--convert {convert}"
    activation, activation_origin = Activation.NONE, "rewards are raw"
    if architecture.head is Head.NONE and convert is Convert.NONE:
        pooling_type = class_pooling_type(architecture.family)
        origin = f"@default_pooling_type on {architecture.family.model}"
    elif architecture.scores_steps and convert is Convert.NONE:
        pooling_type, activation = PoolingType.STEP, Activation.SOFTMAX
        origin = activation_origin = f"the name {architecture.name}"
    elif architecture.head is Head.CLASSIFICATION:
        pooling_type, origin = architecture.family.classified_by, f"the head of {architecture.name}"
        if config.get("classifier_pooling") == "mean":  # ModernBERT
            pooling_type, origin = PoolingType.MEAN, CONFIG_FILE
    elif architecture.head is not Head.NONE:
        origin = f"the head of {architecture.name}"
    if modules.pooling_type:
        pooling_type, origin = modules.pooling_type, MODULES_FILE
    if stated:
        activation, activation_origin = stated
    normalize = modules.normalize if modules.present else True
    origins["pooler.pooling_type"] = origin
    origins["pooler.activation"] = activation_origin
    origins["pooler.normalize"] = MODULES_FILE if modules.present else "the default for embeddings"
    return PoolerConfig(
        pooling_type,
        normalize,
        activation,
        step_tag_id=QWEN_STEP_TAG if architecture.scores_steps else None,
        returned_token_ids=modules.score_token_ids,
    )


def _tasks(head: Head, pooler: PoolerConfig, labels: int) -> tuple[str, ...]:
    if head is Head.NONE:
        return ("embed",)
    if pooler.pooling_type in (PoolingType.STEP, PoolingType.ALL) or head in (Head.REWARD, Head.GATED_REWARD):
        return ("reward",)
    if labels == 1 or len(pooler.returned_token_ids) in (1, 2):
        return ("reward", "score")
    return ("reward",) if head is Head.TOKENS else ("classify", "reward")


def _label_names(config: Settings, head: Head) -> tuple[str, ...]:
    """The labels of a classification head; as in transformers there are two where the configuration is silent."""
    if head is not Head.CLASSIFICATION:
        return ()
    names = config.section("id2label")
    if names is not None:
        if any(not key.isdecimal() for key in names):
            raise config.refuse("id2label", config.get("id2label"), "its names must be the numbers of the labels")
        return tuple(names.text(key) for key in sorted(names, key=int))
    return tuple(f"LABEL_{number}" for number in range(config.integer("num_labels", default=2)))


def _labels(head: Head, architecture: Architecture, pooler: PoolerConfig, classes: int) -> int:
    if head is Head.CLASSIFICATION:
        return classes
    if head is Head.TOKENS:
        return len(pooler.returned_token_ids)
    if head is Head.REWARD:
        return 2 if architecture.scores_steps else 1
    return 1 if head is Head.GATED_REWARD else 0


def _refuse_own_code(config: Settings, architecture: Architecture) -> None:
    """Refuse a checkpoint whose own code stands in for a known class, unless it says how its tokens see each other.

    Embedding models that are decoders in name have brought such code to attend both ways (gte-Qwen2): served as what
    they are called, they would give other vectors, and nobody would notice.
    """
    section = config.section("auto_map")
    code = str(section.get("AutoModel")) if section else ""
    known = architecture.backbone
    if known in SHADOWED and code.rpartition(".")[2] == known and config.get("is_causal") is None:
        raise CheckpointError(
            f"{config.path} has AutoModel = {code!r} in auto_map, which is code in the place of {known} and is not "
            "run: add is_causal to it, false where tokens see those after them too, else true."
        )


def _check_widths(modules: Sequence[Dense], width: int) -> None:
    for dense in modules:
        if dense.inputs != width:
            raise CheckpointError(
                f"{dense.directory / CONFIG_FILE} has in_features = {dense.inputs}, but what comes in is {width} wide: "
                "use the modules that belong to this model."
            )
        width = dense.outputs


def _check_pooler(spec: ModelSpec) -> None:
    pooler = spec.pooler
    if pooler.pooling_type is PoolingType.STEP and pooler.step_tag_id is None:
        raise OptionError(f"The pooling type STEP needs the token that ends a step: give step_tag_id in {OPTION}.")
    if pooler.pooling_type is PoolingType.STEP and spec.head is Head.NONE:
        raise OptionError(
            f"The pooling type STEP scores steps, and {spec.architecture.name} has no head that scores: name the two "
            f"tokens to read as returned_token_ids in {OPTION}."
        )
    for token in (*pooler.returned_token_ids, pooler.step_tag_id or 0):
        if token >= spec.vocab_size:
            raise OptionError(f"{OPTION} names token {token}, but the vocabulary ends at {spec.vocab_size - 1}.")
    if pooler.returned_token_ids and not spec.architecture.causal_lm:
        raise OptionError(
            f"{OPTION} has returned_token_ids, but {spec.architecture.name} has no language-model head to read "
            "tokens off: use a *ForCausalLM checkpoint."
        )


def _with_dimensions(spec: ModelSpec, config: Settings) -> ModelSpec:
    """The spec with the sizes that a request may ask for; a default size becomes the model's own."""
    pooler, full = spec.pooler, spec.embedding_dimensions
    origins = dict(spec.origins)
    width = MODULES_FILE if spec.dense else CONFIG_FILE
    sizes = OPTION if pooler.matryoshka_dimensions else width
    stated = config.get("matryoshka_dimensions")
    if not pooler.matryoshka_dimensions and stated is not None:
        if not isinstance(stated, list) or not all(isinstance(size, int) and 1 <= size <= full for size in stated):
            raise CheckpointError(
                f"config.json has matryoshka_dimensions {stated}, of which not all are from 1 to the model's {full} "
                "dimensions: download it again."
            )
        pooler = replace(pooler, matryoshka_dimensions=tuple(sorted(set(stated))))
        sizes = CONFIG_FILE
    cut = truncated_dimensions(spec.directory)
    if pooler.dimensions:
        width = OPTION
    elif cut is not None and cut < full:
        # Sentence Transformers cuts by default, and gives all to those who ask.
        pooler = replace(pooler, dimensions=cut, matryoshka_dimensions=(*pooler.matryoshka_dimensions, full))
        width = sizes = PROMPTS_FILE
    for size in (*pooler.matryoshka_dimensions, pooler.dimensions or 1):
        if size > full:
            raise OptionError(f"{OPTION} asks for {size} dimensions, but this model gives {full}: ask for less.")
    origins |= {"dimensions": width, "supported_dimensions": sizes if pooler.matryoshka_dimensions else width}
    return replace(
        spec, pooler=pooler, embedding_dimensions=pooler.dimensions or full, origins=MappingProxyType(origins)
    )


def _fingerprint(directory: Path, options: ModelOptions, weights: Sequence[Path]) -> str:
    narrow = "" if options.float32_matmul_precision == "highest" else f" {options.float32_matmul_precision}"
    narrow += "" if options.quantization == "none" else f" {options.quantization}"
    digest = hashlib.sha256(
        f"{options.convert} {options.dtype}{narrow} {sorted(read_option(options.pooler_config).items())}\n".encode()
    )
    module_configs = sorted(directory.glob("[0-9]_*/config.json"))
    names = [CONFIG_FILE, MODULES_FILE, *SENTENCE_CONFIG_FILES, PROMPTS_FILE]
    names += ["tokenizer.json", TOKENIZER_CONFIG_FILE, SPECIAL_TOKENS_FILE, CHAT_TEMPLATE_FILE, *IMAGE_FILES]
    for path in [*(directory / name for name in names), *module_configs]:
        if path.exists():
            content = path.read_bytes()
            digest.update(f"{path.relative_to(directory)} {len(content)}\n".encode() + content)
    for path in (*weights, *sorted(directory.glob("[0-9]_*/*.safetensors"))):
        digest.update(f"{path.relative_to(directory)} {path.stat().st_size}\n".encode())
    return digest.hexdigest()[:16]
