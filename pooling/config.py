"""From a checkpoint directory to a `ModelSpec`: everything about a model that is known without its weights."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from pooling.architectures import known_architecture
from pooling.checkpoint import read_json, read_json_value, weight_files
from pooling.errors import CheckpointError, OptionError

MODULES_FILE = "modules.json"
SENTENCE_CONFIG_FILE = "sentence_bert_config.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"


class PoolingType(StrEnum):
    """How the vectors of a sequence's tokens become its result."""

    LAST = "LAST"
    ALL = "ALL"
    CLS = "CLS"
    MEAN = "MEAN"
    STEP = "STEP"


SUPPORTED_POOLING_TYPES = frozenset({PoolingType.LAST, PoolingType.CLS, PoolingType.MEAN})

# The names of Sentence Transformers since 6.0 (`pooling_mode`), and the flags of its older configurations.
_POOLING_MODES = MappingProxyType(
    {
        "cls": PoolingType.CLS,
        "mean": PoolingType.MEAN,
        "lasttoken": PoolingType.LAST,
        "pooling_mode_cls_token": PoolingType.CLS,
        "pooling_mode_mean_tokens": PoolingType.MEAN,
        "pooling_mode_lasttoken": PoolingType.LAST,
    }
)


@dataclass(frozen=True)
class PoolerConfig:
    """How token vectors become one vector, as far as the checkpoint says.

    Attributes:
        pooling_type: None where the checkpoint is silent; the model class then decides (`@default_pooling_type`).
        normalize: whether vectors have length 1 unless a request asks otherwise.
        matryoshka_dimensions: the sizes a request may ask for, ascending; empty means `dimensions` is not supported.
    """

    pooling_type: PoolingType | None
    normalize: bool
    matryoshka_dimensions: tuple[int, ...] = ()


@dataclass(frozen=True)
class ModelSpec:
    """A checkpoint as Millpond will serve it.

    Attributes:
        directory: where the checkpoint lies.
        architecture: the class named in config.json, one of `pooling.architectures.ARCHITECTURES`.
        config: config.json as it is, for what only one family knows.
        lowercase: whether texts are lowercased before the tokenizer sees them (sentence_bert_config.json).
        max_model_len: the longest sequence in tokens, special tokens included.
        max_model_len_source: the file or option that set `max_model_len`.
        embedding_dimensions: the length of a result when no `dimensions` are asked for.
        dtype: the type of weights and activations.
        fingerprint: 16 hex digits over the configuration, the tokenizer and the names and sizes of the weights; two
            processes with different fingerprints hold different models.
    """

    directory: Path
    architecture: str
    model_type: str
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    layer_norm_eps: float
    hidden_act: str
    config: Mapping[str, object]
    lowercase: bool
    max_model_len: int
    max_model_len_source: str
    embedding_dimensions: int
    pooler: PoolerConfig
    dtype: str
    fingerprint: str

    @property
    def supported_dimensions(self) -> tuple[int, ...]:
        """The lengths of a result that a request may ask for, ascending; the model's own is always one of them."""
        return tuple(sorted({*self.pooler.matryoshka_dimensions, self.embedding_dimensions}))


def resolve_spec(directory: Path, *, max_model_len: int | None = None, dtype: str = "auto") -> ModelSpec:
    """Read the small files of a checkpoint and decide how it will be served.

    Args:
        directory: a checkpoint that `verify_checkpoint` has accepted.
        max_model_len: the longest sequence wanted, in tokens; None takes the model's own limit.
        dtype: "auto" or "float32".

    Raises:
        CheckpointError: a file is missing or broken, or the model is of a kind not supported.
        OptionError: `max_model_len` is beyond the model's limit, or `dtype` is not supported.
    """
    path = directory / "config.json"
    config = read_json(path)
    architecture = known_architecture(config.get("architectures"))
    hidden_size = _positive(config, "hidden_size", path)
    heads = _positive(config, "num_attention_heads", path)
    if hidden_size % heads:
        raise CheckpointError(
            f"{path} has hidden_size {hidden_size}, which is no multiple of num_attention_heads {heads}: "
            "download it again."
        )
    sentence_config = _optional_json(directory / SENTENCE_CONFIG_FILE)
    limit, source = _max_model_len(directory, config, sentence_config, max_model_len)
    return ModelSpec(
        directory=directory,
        architecture=architecture,
        model_type=str(config.get("model_type", "")),
        hidden_size=hidden_size,
        num_hidden_layers=_positive(config, "num_hidden_layers", path),
        num_attention_heads=heads,
        intermediate_size=_positive(config, "intermediate_size", path),
        vocab_size=_positive(config, "vocab_size", path),
        max_position_embeddings=_positive(config, "max_position_embeddings", path),
        layer_norm_eps=_number(config, "layer_norm_eps", 1e-12, path),
        hidden_act=str(config.get("hidden_act", "gelu")),
        config=MappingProxyType(dict(config)),
        lowercase=bool(sentence_config.get("do_lower_case", False)),
        max_model_len=limit,
        max_model_len_source=source,
        embedding_dimensions=hidden_size,
        pooler=_pooler_config(directory, config, hidden_size),
        dtype=_dtype(dtype),
        fingerprint=_fingerprint(directory),
    )


def _max_model_len(
    directory: Path, config: Mapping[str, object], sentence_config: Mapping[str, object], wanted: int | None
) -> tuple[int, str]:
    """The longest sequence and the place that says so: the smallest of the model's own limits, or the option."""
    tokenizer_config = _optional_json(directory / TOKENIZER_CONFIG_FILE)
    stated = (
        (sentence_config.get("max_seq_length"), SENTENCE_CONFIG_FILE),
        (tokenizer_config.get("model_max_length"), TOKENIZER_CONFIG_FILE),
        (config.get("max_position_embeddings"), "config.json"),
    )
    # Tokenizers without a limit state one of 1e30; it never is the smallest, as config.json always has its own.
    limits = [(int(value), source) for value, source in stated if isinstance(value, (int, float)) and value > 0]
    limit, source = min(limits, key=lambda found: found[0])
    if wanted is None:
        return limit, source
    if not 1 <= wanted <= limit:
        raise OptionError(
            f"--max-model-len {wanted} does not fit this model: choose from 1 to {limit}, the limit that {source} sets."
        )
    return wanted, "--max-model-len"


def _pooler_config(directory: Path, config: Mapping[str, object], hidden_size: int) -> PoolerConfig:
    """The pooler that modules.json describes; without that file only "normalised" is known (as in the OpenAI API)."""
    matryoshka = _matryoshka_dimensions(config, hidden_size)
    path = directory / MODULES_FILE
    if not path.exists():
        return PoolerConfig(pooling_type=None, normalize=True, matryoshka_dimensions=matryoshka)
    modules = read_json_value(path)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise CheckpointError(f"{path} is not a list of modules: download it again.")
    pooling_type: PoolingType | None = None
    normalize = False
    for position, module in enumerate(modules):
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind == "Transformer" and position == 0:
            continue
        if kind == "Pooling" and position == 1:
            pooling_type = _sentence_pooling_type(directory / str(module.get("path", "")) / "config.json")
        elif kind == "Normalize" and position > 1:
            normalize = True
        else:
            raise CheckpointError(
                f"{path} has {module.get('type')} in place {position}, which is not supported: use a model made of "
                "Transformer, Pooling and, optionally, Normalize."
            )
    return PoolerConfig(pooling_type=pooling_type, normalize=normalize, matryoshka_dimensions=matryoshka)


def _sentence_pooling_type(path: Path) -> PoolingType:
    """The pooling type in the configuration of a Sentence Transformers Pooling module."""
    config = read_json(path)
    mode = config.get("pooling_mode")
    flags = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    modes = [mode] if isinstance(mode, str) else list(mode) if isinstance(mode, list) else flags or ["mean"]
    if len(modes) != 1 or modes[0] not in _POOLING_MODES:
        raise CheckpointError(
            f"{path} asks for the pooling {' + '.join(map(str, modes))}, which is not supported: use a model that "
            "pools by exactly one of mean, cls and lasttoken."
        )
    return _POOLING_MODES[modes[0]]


def _matryoshka_dimensions(config: Mapping[str, object], hidden_size: int) -> tuple[int, ...]:
    stated = config.get("matryoshka_dimensions")
    if not isinstance(stated, list):
        return ()
    if not all(isinstance(size, int) and 1 <= size <= hidden_size for size in stated):
        raise CheckpointError(
            f"config.json has matryoshka_dimensions {stated}, of which not all are from 1 to the hidden "
            f"size {hidden_size}: download it again."
        )
    return tuple(sorted(set(stated)))


def _dtype(wanted: str) -> str:
    if wanted not in ("auto", "float32"):
        raise OptionError(f"--dtype {wanted} is not supported yet: use auto or float32.")
    return "float32"


def _fingerprint(directory: Path) -> str:
    digest = hashlib.sha256()
    pooling_configs = sorted(directory.glob("*_Pooling/config.json"))
    names = ("config.json", "tokenizer.json", MODULES_FILE, SENTENCE_CONFIG_FILE)
    for path in [*(directory / name for name in names), *pooling_configs]:
        if path.exists():
            content = path.read_bytes()
            digest.update(f"{path.relative_to(directory)} {len(content)}\n".encode() + content)
    for path in weight_files(directory):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    return digest.hexdigest()[:16]


def _optional_json(path: Path) -> Mapping[str, object]:
    return read_json(path) if path.exists() else {}


def _positive(config: Mapping[str, object], key: str, path: Path) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"{path} has {key} = {value!r} where a positive whole number belongs: download it again.")
    return value


def _number(config: Mapping[str, object], key: str, default: float, path: Path) -> float:
    value = config.get(key, default)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise CheckpointError(f"{path} has {key} = {value!r} where a number belongs: download it again.")
    return float(value)
