"""The chat template of a checkpoint, and the special tokens that it may name; rendering it is for others."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pooling.checkpoint import read_json
from pooling.errors import CheckpointError
from pooling.lengths import TOKENIZER_CONFIG_FILE

CHAT_TEMPLATE_FILE = "chat_template.jinja"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"

# Those that transformers hands to a template.
SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class ChatTemplate:
    """How messages become one text.

    Attributes:
        source: a Jinja template.
        special_tokens: their texts by name (`bos_token`), of those that the checkpoint has.
        path: the file that holds it.
    """

    source: str
    special_tokens: Mapping[str, str]
    path: Path


def read_chat_template(directory: Path) -> ChatTemplate | None:
    """The template of a checkpoint, from where transformers looks for it; None where there is none.

    Raises:
        CheckpointError: a file is broken.
    """
    path = directory / TOKENIZER_CONFIG_FILE
    config = read_json(path) if path.exists() else {}
    own = directory / CHAT_TEMPLATE_FILE
    if own.exists():
        try:
            return ChatTemplate(own.read_text("utf-8"), _special_tokens(directory, config), own)
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{own} cannot be read ({error}): download it again.") from error
    source = _default(config.get("chat_template"))
    return None if source is None else ChatTemplate(source, _special_tokens(directory, config), path)


def read_special_tokens(directory: Path) -> Mapping[str, str]:
    """The special tokens' texts by name, of those that a checkpoint has; raises CheckpointError as above."""
    path = directory / TOKENIZER_CONFIG_FILE
    return _special_tokens(directory, read_json(path) if path.exists() else {})


def _default(stated: object) -> str | None:
    """The template itself, or the one named "default" of a list of named ones."""
    if isinstance(stated, list):
        named = {entry.get("name"): entry.get("template") for entry in stated if isinstance(entry, dict)}
        stated = named.get("default")
    return stated if isinstance(stated, str) else None


def _special_tokens(directory: Path, config: Mapping[str, object]) -> Mapping[str, str]:
    path = directory / SPECIAL_TOKENS_FILE
    if "added_tokens_decoder" not in config and path.exists():
        # So old a tokenizer_config.json that transformers lets this file have the last word.
        config = {**config, **read_json(path)}
    texts = {name: _text(config.get(name)) for name in SPECIAL_TOKENS}
    return MappingProxyType({name: text for name, text in texts.items() if text is not None})


def _text(token: object) -> str | None:
    """A token's text, which may be written with how it is to be stripped."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None
