"""What fills texts up, for models that take them at one length only."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pooling.checkpoint import TOKENIZER_FILE, read_json
from pooling.config import ModelSpec
from pooling.errors import CheckpointError
from pooling.lengths import TOKENIZER_CONFIG_FILE
from pooling.settings import Settings

SPECIAL_TOKENS_MAP_FILE = "special_tokens_map.json"

# Classes of transformers that fill up before a text where no file says otherwise.
FILLED_BEFORE = ("GemmaTokenizer", "Siglip2Tokenizer")


# Families that take texts at one length only.
FILLED_UP = ("siglip",)


def text_places(spec: ModelSpec) -> int:
    """The tokens that are computed for every text, however short it is; 0 where just its own are."""
    filled = spec.architecture.family.module in FILLED_UP
    return spec.settings.integer("max_position_embeddings") if filled else 0


@dataclass(frozen=True)
class Padding:
    """How texts become of one length.

    Attributes:
        length: of every sequence, in tokens.
        token_id: what fills up.
        side: where, "left" or "right" of the text.
    """

    length: int
    token_id: int
    side: str


def read_padding(directory: Path, settings: Settings) -> Padding:
    """The padding up to the last position, as `transformers.AutoTokenizer` does it by "max_length".

    Raises:
        CheckpointError: the tokenizer fills up with a token that is not in its vocabulary, or at an unknown side.
    """
    path = directory / TOKENIZER_CONFIG_FILE
    config = read_json(path) if path.exists() else {}
    whole = read_json(directory / TOKENIZER_FILE)
    own = whole.get("padding")
    own = own if isinstance(own, dict) else {}
    name = str(config.get("tokenizer_class")).removesuffix("Fast")
    by_default = "left" if name in FILLED_BEFORE else "right"
    side = str(config.get("padding_side") or own.get("direction") or by_default).lower()
    if side not in ("left", "right"):
        raise CheckpointError(f"{path} has padding_side {side!r}, which is neither left nor right: correct it.")
    token = _text(config.get("pad_token")) or _text(_special_tokens(directory).get("pad_token"))
    token = token or _text(own.get("pad_token"))
    token_id = settings.integer("pad_token_id") if token is None else _ids(whole).get(token)
    vocabulary = settings.integer("vocab_size")
    if token_id is None or token_id >= vocabulary:
        raise CheckpointError(
            f"{directory} fills texts up with {token!r}, which is not among the {vocabulary} tokens of the model: use "
            "the tokenizer that belongs to these weights."
        )
    return Padding(settings.integer("max_position_embeddings"), token_id, side)


def _special_tokens(directory: Path) -> Mapping[str, Any]:
    path = directory / SPECIAL_TOKENS_MAP_FILE
    return read_json(path) if path.exists() else {}


def _text(token: object) -> str | None:
    """A token, which files have as a text or with its options."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _ids(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """The ids of tokens in tokenizer.json: of its vocabulary, a list for unigrams, and of those added to it."""
    vocabulary = tokenizer.get("model", {}).get("vocab", {})
    if isinstance(vocabulary, list):
        ids = {str(entry[0]): number for number, entry in enumerate(vocabulary)}
    else:
        ids = dict(vocabulary)
    return ids | {str(each["content"]): int(each["id"]) for each in tokenizer.get("added_tokens", [])}
