"""The longest sequence that a model takes: the smallest of all limits that its files state, or the user's."""

from collections.abc import Mapping
from pathlib import Path

from pooling.checkpoint import read_json
from pooling.errors import OptionError
from pooling.sentence_transformers import sentence_config_path
from pooling.settings import Settings

TOKENIZER_CONFIG_FILE = "tokenizer_config.json"

# Where Sentence Transformers keeps what it gives to the tokenizer, today and formerly.
TOKENIZER_ARGUMENTS = ("processor_kwargs", "tokenizer_args")

# Model types whose positions begin behind the padding token, so that the table is that much too long.
SHIFTED_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet")


def longest_sequence(
    directory: Path, settings: Settings, wanted: int | None, max_embed_len: int | None
) -> tuple[int, bool, str]:
    """The longest sequence in tokens, whether texts are lowercased first, and what set the limit.

    Args:
        wanted: `--max-model-len`.
        max_embed_len: of `--pooler-config`.

    Raises:
        OptionError: an option is beyond the model's own limit.
    """
    sentence_path = sentence_config_path(directory)
    sentence_config = _optional_json(sentence_path)
    tokenizer_config = _optional_json(directory / TOKENIZER_CONFIG_FILE)
    positions = settings.integer("max_position_embeddings")
    if settings.get("model_type") in SHIFTED_POSITIONS:
        pad = settings.get("pad_token_id")
        positions -= (pad if isinstance(pad, int) else 1) + 1
    stated = (
        (sentence_config.get("max_seq_length"), sentence_path.name),
        *((_tokenizer_limit(sentence_config.get(name)), sentence_path.name) for name in TOKENIZER_ARGUMENTS),
        (tokenizer_config.get("model_max_length"), TOKENIZER_CONFIG_FILE),
        (_stretched(positions, settings), "config.json"),
    )
    # Tokenizers without a limit state one of 1e30; it never is the smallest, as config.json always has its own.
    limits = [(int(value), source) for value, source in stated if isinstance(value, (int, float)) and value > 0]
    limit, source = min(limits, key=lambda found: found[0])
    if wanted is not None:
        if not 1 <= wanted <= limit:
            raise OptionError(
                f"--max-model-len {wanted} does not fit this model: choose from 1 to {limit}, the limit that {source} "
                "sets."
            )
        limit, source = wanted, "--max-model-len"
    # A longer one is for embeddings that are made of several sequences.
    if max_embed_len is not None and max_embed_len < limit:
        limit, source = max_embed_len, "--pooler-config's max_embed_len"
    return limit, bool(sentence_config.get("do_lower_case", False)), source


def _stretched(positions: int, settings: Settings) -> int:
    """The positions with what rotary scaling adds to those that the model was trained on.

    "linear" and "dynamic" state the trained length as `max_position_embeddings`; YaRN states it apart, and so does
    Llama 3, whose `max_position_embeddings` is the stretched length already (vLLM reads them in the same way).
    """
    scaling = settings.section("rope_parameters") or settings.section("rope_scaling")
    kind = scaling.text("rope_type", "type", default="default") if scaling else "default"
    if scaling is None or kind not in ("linear", "dynamic", "yarn"):
        return positions
    trained = scaling.optional_integer("original_max_position_embeddings")
    factor = scaling.number("factor", default=1.0)
    return max(positions, int(trained * factor)) if trained else int(positions * factor)


def _tokenizer_limit(arguments: object) -> object:
    return arguments.get("model_max_length") if isinstance(arguments, dict) else None


def _optional_json(path: Path) -> Mapping[str, object]:
    return read_json(path) if path.exists() else {}
