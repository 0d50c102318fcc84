"""What Sentence Transformers' files say of a checkpoint: modules, prompts, limits, a cross encoder's activation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from pooling.checkpoint import read_json, read_json_value
from pooling.errors import CheckpointError
from pooling.pooler_config import Activation, PoolingType
from pooling.settings import Settings

MODULES_FILE = "modules.json"
SENTENCE_CONFIG_FILE = "sentence_bert_config.json"
PROMPTS_FILE = "config_sentence_transformers.json"

# The first that is there counts; all but the first are of its oldest versions.
SENTENCE_CONFIG_FILES = (
    SENTENCE_CONFIG_FILE,
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)

# What a class of modules.json or of an activation must begin with; all else is code of the checkpoint's own.
MODULE_PACKAGE, ACTIVATION_PACKAGE = "sentence_transformers.", "torch."

# Prompts that every model has, though they be empty.
USUAL_PROMPTS = ("query", "document")

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

_ACTIVATIONS = MappingProxyType(
    {
        "Identity": Activation.NONE,
        "Sigmoid": Activation.SIGMOID,
        "Tanh": Activation.TANH,
        "Softmax": Activation.SOFTMAX,
    }
)


@dataclass(frozen=True)
class Dense:
    """A Dense module behind the pooler: a linear layer and an activation.

    Attributes:
        directory: where its config.json and its weights lie.
        inputs, outputs: its widths.
        bias: whether it has one.
        activation: "Identity", "Tanh", ...: the last part of a torch class's name.
    """

    directory: Path
    inputs: int
    outputs: int
    bias: bool
    activation: str


@dataclass(frozen=True)
class Modules:
    """modules.json, read. Whatever it does not mention is None or empty.

    Attributes:
        present: whether there is such a file.
        pooling_type: of its Pooling module.
        normalize: whether it has a Normalize module.
        dense: its Dense modules, in order.
        score_token_ids: the tokens of a LogitScore module, the one that means yes first.
        reads_messages: whether its Transformer module is given conversations, to be rendered by the chat template.
    """

    present: bool = False
    pooling_type: PoolingType | None = None
    normalize: bool = False
    dense: tuple[Dense, ...] = ()
    score_token_ids: tuple[int, ...] = ()
    reads_messages: bool | None = None


@dataclass(frozen=True)
class Prompts:
    """Texts put before an input, by name, and the one used when none is named."""

    texts: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None


def sentence_config_path(directory: Path) -> Path:
    """Where the limits of the Transformer module are, though there may be no such file."""
    paths = [directory / name for name in SENTENCE_CONFIG_FILES]
    return next((path for path in paths if path.exists()), paths[0])


def read_modules(directory: Path) -> Modules:
    """What modules.json makes of the backbone.

    Raises:
        CheckpointError: a module that is not supported, by its name and place.
    """
    path = directory / MODULES_FILE
    if not path.exists():
        return Modules()
    entries = read_json_value(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise CheckpointError(f"{path} is not a list of modules: download it again.")
    pooling_type: PoolingType | None = None
    dense: list[Dense] = []
    score_token_ids: tuple[int, ...] = ()
    normalize = False
    for position, entry in enumerate(entries):
        name = str(entry.get("type", ""))
        # A class of the same name in the checkpoint's own code may do anything.
        kind = name.rpartition(".")[2] if name.startswith(MODULE_PACKAGE) else ""
        folder = directory / str(entry.get("path", ""))
        if kind == "Transformer" and position == 0:
            continue
        if kind == "Pooling" and position == 1:
            pooling_type = _pooling_type(folder / "config.json")
        elif kind == "Dense" and position > 1 and not normalize:
            dense.append(_dense(folder))
        elif kind == "Normalize" and position > 1:
            normalize = True
        elif kind == "LogitScore" and position == 1:
            score_token_ids = _score_token_ids(folder / "config.json")
        else:
            raise CheckpointError(
                f"{path} has {entry.get('type')} in place {position}, which is not supported: use a model made of "
                "Transformer, Pooling and, optionally, Dense and Normalize, or of Transformer and LogitScore."
            )
    return Modules(True, pooling_type, normalize, tuple(dense), score_token_ids, _reads_messages(directory))


def read_prompts(directory: Path) -> Prompts:
    """The prompts of config_sentence_transformers.json; raises CheckpointError where the default is none of them."""
    path = directory / PROMPTS_FILE
    if not path.exists():
        return Prompts()
    settings = Settings(read_json(path), path)
    section = settings.section("prompts")
    texts = {} if section is None else {name: section.text(name, default="") for name in section}
    default = settings.get("default_prompt_name")
    if default in USUAL_PROMPTS:
        texts.setdefault(str(default), "")
    if default is not None and default not in texts:
        raise CheckpointError(
            f"{path} has default_prompt_name = {default!r}, which is none of its prompts: correct it."
        )
    return Prompts(MappingProxyType(texts), None if default is None else str(default))


def truncated_dimensions(directory: Path) -> int | None:
    """To how many numbers the model's embeddings are cut (`truncate_dim`), or None for all of them."""
    path = directory / PROMPTS_FILE
    return Settings(read_json(path), path).optional_integer("truncate_dim") if path.exists() else None


def cross_encoder_activation(directory: Path, config: Settings) -> tuple[Activation, str] | None:
    """The activation that a CrossEncoder states and the file that does so, or None where it states none.

    Args:
        config: config.json, where it was until Sentence Transformers 5.4 put it beside the prompts.

    Raises:
        CheckpointError: it is not one that is supported.
    """
    path = directory / PROMPTS_FILE
    saved = Settings(read_json(path) if path.exists() else {}, path)
    section = config.section("sentence_transformers") or Settings({}, config.path)
    for settings, key in (
        (saved, "activation_fn"),
        (section, "activation_fn"),
        (config, "sbert_ce_default_activation_function"),
    ):
        stated = settings.get(key)
        if stated is None:
            continue
        name = str(stated).rpartition(".")[2]
        if not str(stated).startswith(ACTIVATION_PACKAGE) or name not in _ACTIVATIONS:
            raise settings.refuse(key, stated, f"use a model with torch's {', '.join(_ACTIVATIONS)}")
        return _ACTIVATIONS[name], settings.path.name
    return None


def _reads_messages(directory: Path) -> bool:
    """Whether sentence_bert_config.json lists "message" among its modalities; older ones list none and mean text."""
    path = directory / SENTENCE_CONFIG_FILE
    modalities = read_json(path).get("modality_config") if path.exists() else None
    return isinstance(modalities, dict) and "message" in modalities


def _pooling_type(path: Path) -> PoolingType:
    config = read_json(path)
    mode = config.get("pooling_mode")
    flags = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    modes = [mode] if isinstance(mode, str) else list(mode) if isinstance(mode, list) else flags or ["mean"]
    if len(modes) != 1 or modes[0] not in _POOLING_MODES:
        raise CheckpointError(
            f"{path} asks for the pooling {' + '.join(map(str, modes))}, which is not supported: use a model that "
            "pools by exactly one of mean, cls and lasttoken."
        )
    if config.get("include_prompt") is False:
        raise CheckpointError(
            f"{path} has include_prompt = false, which is not supported: use a model that pools over its prompt too."
        )
    return _POOLING_MODES[modes[0]]


def _dense(directory: Path) -> Dense:
    path = directory / "config.json"
    config = Settings(read_json(path), path)
    activation = config.text("activation_function", default="torch.nn.Tanh")
    if not activation.startswith(ACTIVATION_PACKAGE):
        raise config.refuse("activation_function", activation, "use a model with a function of torch")
    if config.flag("use_residual"):
        raise config.refuse("use_residual", True, "use a model without it")
    for name in ("module_input_name", "module_output_name"):
        value = config.text(name, default="sentence_embedding")
        if value != "sentence_embedding":
            raise config.refuse(name, value, "use a model whose Dense modules change its embeddings")
    return Dense(
        directory,
        config.integer("in_features"),
        config.integer("out_features"),
        config.flag("bias", default=True),
        activation.rpartition(".")[2],
    )


def _score_token_ids(path: Path) -> tuple[int, ...]:
    config = Settings(read_json(path), path)
    no = config.get("false_token_id")
    yes = config.integer("true_token_id")
    return (yes,) if no is None else (yes, config.integer("false_token_id"))
