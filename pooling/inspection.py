"""What is decided for a checkpoint and where each decision comes from, as `millpond inspect` shows it; no weights."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pooling.architectures import Head
from pooling.checkpoint import (
    TOKENIZER_FILE,
    StoredTensor,
    read_json,
    read_safetensors_header,
    verify_safetensors,
    weight_files,
)
from pooling.config import CONFIG_FILE, ModelSpec, resolve_spec
from pooling.errors import AbsentWeightsError
from pooling.model_options import ModelOptions
from pooling.sentence_transformers import MODULES_FILE, PROMPTS_FILE, Dense, sentence_config_path
from pooling.tokenizing import Tokenizer

# The names that safetensors has for the types that weights come in; others are shown as they are written.
TYPE_NAMES = MappingProxyType({"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"})

# Whole numbers of eight bytes are tables of positions, which some checkpoints store beside their weights.
NO_PARAMETERS = "I64"

# Not known without the weights: their origin then says what is missing. Other facts that are None do not apply.
MAY_BE_UNKNOWN = ("parameters", "weights_bytes", "stored_dtype")


@dataclass(frozen=True)
class StoredWeights:
    """What the headers of the weight files say.

    Attributes:
        parameters: their number over all tensors, with the heads that are stored and not used.
        size: of the files, in bytes.
        dtype: the type of most parameters, None where there are none.
    """

    parameters: int
    size: int
    dtype: str | None


@dataclass(frozen=True)
class Inspection:
    """A checkpoint as it would be served.

    Attributes:
        facts: what was decided, by name, in the order to be shown; values that JSON can hold, None where a fact does
            not apply or is not known.
        origins: for each fact that applies, what decided it: a file, a class, an option, or why it is not known.
    """

    facts: Mapping[str, object]
    origins: Mapping[str, str]


def inspected(directory: Path, options: ModelOptions | None = None) -> Inspection:
    """Decide how a checkpoint would be served, though it may lack weights or tokenizer.

    What is there must be whole, as for serving; whether its tensors fit the model is found when they are loaded.

    Raises:
        CheckpointError: the configuration is missing, any file is broken, or the model is of a kind not supported.
        OptionError: an option does not fit this model.
    """
    options = options or ModelOptions()
    files, missing = _weight_files(directory)
    spec = resolve_spec(directory, options, files)
    if (directory / TOKENIZER_FILE).exists():
        read_json(directory / TOKENIZER_FILE)
        Tokenizer.from_spec(spec)
    weights = stored_weights([*files, *_dense_files(spec.dense)]) if files else None
    decided = {**_model(spec), **_pooler(spec), **_result(spec), **_stored(spec, weights, options, missing)}
    facts = {"directory": str(directory)} | {name: value for name, (value, _) in decided.items()}
    origins = {name: origin for name, (value, origin) in decided.items() if value is not None or name in MAY_BE_UNKNOWN}
    return Inspection(MappingProxyType(facts), MappingProxyType(origins))


def stored_weights(files: Sequence[Path]) -> StoredWeights:
    """The sum over the headers of safetensors files; raises CheckpointError for a file that is not whole."""
    numbers: dict[str, int] = {}
    for path in files:
        verify_safetensors(path)
        tensors, _ = read_safetensors_header(path)
        for tensor in tensors.values():
            numbers[tensor.dtype] = numbers.get(tensor.dtype, 0) + _elements(tensor)
    numbers.pop(NO_PARAMETERS, None)
    most = max(numbers, key=lambda dtype: numbers[dtype], default=None)
    size = sum(path.stat().st_size for path in files)
    return StoredWeights(sum(numbers.values()), size, None if most is None else TYPE_NAMES.get(most, most))


def _weight_files(directory: Path) -> tuple[tuple[Path, ...], str]:
    """The weight files, or none and the reason, where only the configuration is there."""
    try:
        return weight_files(directory), ""
    except AbsentWeightsError as error:
        return (), str(error)


def _dense_files(modules: Sequence[Dense]) -> list[Path]:
    return [path for dense in modules for path in weight_files(dense.directory)]


def _elements(tensor: StoredTensor) -> int:
    return math.prod(tensor.shape)


# Facts by name, each with what decided it.
_Facts = dict[str, tuple[object, str]]


def _model(spec: ModelSpec) -> _Facts:
    name, origins = f"the name {spec.architecture.name}", spec.origins
    head = _tokens_origin(spec) if spec.head is Head.TOKENS else name
    return {
        "architecture": (spec.architecture.name, origins["architecture"]),
        "model": (spec.architecture.family.model, name),
        "runner": ("pooling", origins["runner"]),
        "convert": (str(spec.convert), origins["convert"]),
        "tasks": (list(spec.tasks), "the head, its labels and the pooling type"),
        "head": (str(spec.head), head),
    }


def _pooler(spec: ModelSpec) -> _Facts:
    pooler, origins = spec.pooler, spec.origins
    embeds = spec.head is Head.NONE
    step_tag = origins.get("pooler.step_tag_id", f"the name {spec.architecture.name}")
    return {
        "pooling_type": (str(pooler.pooling_type), origins["pooler.pooling_type"]),
        "normalize": (pooler.normalize if embeds else None, origins["pooler.normalize"]),
        "activation": (None if embeds else str(pooler.activation), origins["pooler.activation"]),
        "step_tag_id": (pooler.step_tag_id, step_tag),
        "returned_token_ids": (list(pooler.returned_token_ids) or None, _tokens_origin(spec)),
    }


def _result(spec: ModelSpec) -> _Facts:
    origins, embeds = spec.origins, spec.head is Head.NONE
    named = spec.settings.get("id2label", "num_labels") is not None
    return {
        "labels": (None if embeds else spec.labels, f"the head: {spec.head}"),
        "label_names": (list(spec.label_names) or None, CONFIG_FILE if named else "the default of transformers"),
        "max_model_len": (spec.max_model_len, origins["max_model_len"]),
        "lowercase": (
            spec.lowercase,
            sentence_config_path(spec.directory).name if spec.lowercase else "the default",
        ),
        "dimensions": (spec.embedding_dimensions if embeds else None, origins["dimensions"]),
        "supported_dimensions": (
            list(spec.supported_dimensions) if embeds else None,
            origins["supported_dimensions"],
        ),
        "prompts": (list(spec.prompts.texts), PROMPTS_FILE if spec.prompts.texts else "the default"),
        "default_prompt": (spec.prompts.default, PROMPTS_FILE),
    }


def _stored(spec: ModelSpec, weights: StoredWeights | None, options: ModelOptions, missing: str) -> _Facts:
    asked = "--dtype" if options.dtype != "auto" else "the default"
    held = {
        "dtype": (spec.dtype, asked),
        "quantization": (spec.quantization, "--quantization" if options.quantization != "none" else "the default"),
    }
    if weights is None:
        stated = spec.settings.get("dtype", "torch_dtype")
        return {
            "parameters": (None, missing),
            "weights_bytes": (None, "as for parameters"),
            "stored_dtype": (stated, CONFIG_FILE if stated else "as for parameters"),
            **held,
            "fingerprint": (None, missing),
        }
    return {
        "parameters": (weights.parameters, "the headers of the weights"),
        "weights_bytes": (weights.size, "the weight files"),
        "stored_dtype": (weights.dtype, "the headers of the weights"),
        **held,
        "fingerprint": (spec.fingerprint, "the configuration, tokenizer, weights and options"),
    }


def _tokens_origin(spec: ModelSpec) -> str:
    return spec.origins.get("pooler.returned_token_ids", MODULES_FILE)
