"""What a pooler does, and the option that changes it (`--pooler-config`)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TypeGuard

from pooling.errors import OptionError

OPTION = "--pooler-config"


class PoolingType(StrEnum):
    """Which rows of a sequence's hidden states become its result."""

    LAST = "LAST"
    ALL = "ALL"
    CLS = "CLS"
    MEAN = "MEAN"
    STEP = "STEP"


class Activation(StrEnum):
    """What is applied to scores."""

    NONE = "none"
    SIGMOID = "sigmoid"
    SOFTMAX = "softmax"
    TANH = "tanh"


@dataclass(frozen=True)
class PoolerConfig:
    """From the hidden states of a sequence to its result.

    Attributes:
        pooling_type: which rows.
        normalize: whether an embedding's rows have length 1 unless a request asks otherwise; scores never do.
        activation: what is applied to scores.
        dimensions: to how many numbers an embedding is cut unless a request asks otherwise; None means all.
        matryoshka_dimensions: the sizes a request may ask for, ascending.
        step_tag_id: the token that ends a step, for STEP.
        returned_token_ids: the tokens of the language-model head whose logits are the scores. Of two, the first is the
            one that means good, or yes.
        max_embed_len: the longest input taken for an embedding, in tokens. Where it is shorter than the model's own
            limit, it is the limit; where it is longer, it is how long a document may be that is embedded in pieces.
        enable_chunked_processing: whether inputs over the model's limit are embedded in pieces without being asked.
    """

    pooling_type: PoolingType
    normalize: bool = True
    activation: Activation = Activation.NONE
    dimensions: int | None = None
    matryoshka_dimensions: tuple[int, ...] = ()
    step_tag_id: int | None = None
    returned_token_ids: tuple[int, ...] = ()
    max_embed_len: int | None = None
    enable_chunked_processing: bool = False


def read_option(value: str | None) -> Mapping[str, object]:
    """The fields that `--pooler-config` sets: a JSON object, or the path of a file that holds one.

    Raises:
        OptionError: it is neither, or has a field that is not known or of the wrong type.
    """
    if not value:
        return {}
    text = value
    if not value.lstrip().startswith("{"):
        try:
            text = Path(value).read_text("utf-8")
        except OSError as error:
            raise OptionError(
                f"{OPTION} {value} is neither a JSON object nor a readable file ({error.strerror}): correct it."
            ) from error
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise OptionError(f"{OPTION} is not valid JSON ({error}): correct it.") from error
    if not isinstance(fields, dict):
        raise OptionError(f"{OPTION} holds a JSON {type(fields).__name__} where an object belongs: correct it.")
    return {name: _checked(name, entry) for name, entry in fields.items() if entry is not None}


def overridden(config: PoolerConfig, fields: Mapping[str, object]) -> PoolerConfig:
    """The config with the fields of `read_option` in place of its own."""
    return replace(config, **fields)  # type: ignore[arg-type]  # _checked has given each its type


def _checked(name: str, value: object) -> object:
    if name in ("pooling_type", "activation"):
        return _choice(name, value, PoolingType if name == "pooling_type" else Activation)
    if name in ("normalize", "enable_chunked_processing") and isinstance(value, bool):
        return value
    if name in ("dimensions", "step_tag_id", "max_embed_len") and _whole(value, 0 if name == "step_tag_id" else 1):
        return value
    if name in ("returned_token_ids", "matryoshka_dimensions") and _whole_numbers(value):
        return tuple(value) if name == "returned_token_ids" else tuple(sorted(set(value)))
    wanted = _WANTED.get(name)
    if wanted is None:
        raise OptionError(f"{OPTION} has {name}, which is not known: use {', '.join(sorted(_WANTED))}.")
    raise OptionError(f"{OPTION} has {name} = {value!r} where {wanted} belongs: correct it.")


def _choice(name: str, value: object, kinds: type[PoolingType] | type[Activation]) -> PoolingType | Activation:
    # vLLM and FastDeploy write pooling types in capitals, activations (there true or false) in small letters.
    wanted = str(value).upper() if kinds is PoolingType else str(value).lower()
    for kind in kinds:
        if kind.value == wanted:
            return kind
    raise OptionError(f"{OPTION} has {name} = {value!r}, which is not known: use {', '.join(kinds)}.")


def _whole_numbers(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and bool(value) and all(_whole(entry, 0) for entry in value)


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


_WANTED: Mapping[str, str] = {
    "pooling_type": "the name of a pooling type",
    "activation": "the name of an activation",
    "normalize": "true or false",
    "dimensions": "a positive whole number",
    "matryoshka_dimensions": "a list of positive whole numbers",
    "step_tag_id": "a token id",
    "returned_token_ids": "a list of token ids",
    "max_embed_len": "a positive whole number",
    "enable_chunked_processing": "true or false",
}
