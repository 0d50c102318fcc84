"""The models file: TOML with one section for each model that a server carries.

    [models.small]
    model = "sentence-transformers/all-MiniLM-L6-v2"

    [models."BAAI/bge-reranker-base"]
    model = "BAAI/bge-reranker-base"
    aliases = ["reranker"]
    device = "gpu:1"
    pooler_config = { activation = "none" }

The name of a section is the model's name in requests and replies. Its keys are options, written as their variables are
without the prefix.
"""

import difflib
import json
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from api.errors import LaunchError

TABLE = "models"
ALIASES = "aliases"


def read_models_file(path: Path, options: Collection[str]) -> dict[str, dict[str, Any]]:
    """The options in each section by the section's name, in the order of the file; names and aliases are among them.

    The values are checked as options are, by whoever makes options of them.

    Args:
        options: what may stand in a section.

    Raises:
        LaunchError: the file cannot be read, or has a key that is not known.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LaunchError(f"The models file {path} cannot be read: {error.strerror}. Correct --models-file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LaunchError(f"The models file {path} is not TOML: {error}.") from error
    for key in found:
        if key != TABLE:
            raise LaunchError(f"The models file {path} has {key!r} outside of a section: sections are [models.NAME].")
    sections = found.get(TABLE)
    if not isinstance(sections, dict) or not sections:
        raise LaunchError(
            f"The models file {path} has no section: write [models.NAME] with model = ... for each model."
        )
    return {name: _options_of(name, section, path, options) for name, section in sections.items()}


def place_of(key: str, name: str, path: Path) -> str:
    """How a key of a section is called towards the user."""
    return f"{key} of [models.{_quoted(name)}] in {path}"


def _options_of(name: str, section: object, path: Path, options: Collection[str]) -> dict[str, Any]:
    if not isinstance(section, dict):
        raise LaunchError(f"{name!r} in the models file {path} is not a section: write [models.{_quoted(name)}].")
    if not name.strip() or "," in name:
        raise LaunchError(f"The name of [models.{_quoted(name)}] in {path} is empty or has a comma: choose another.")
    values = dict(section)
    aliases = values.pop(ALIASES, [])
    if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
        raise LaunchError(f"{place_of(ALIASES, name, path)} is not a list of names: write {ALIASES} = ['NAME'].")
    for key, value in values.items():
        if key not in options:
            raise LaunchError(f"{place_of(key, name, path)} is not known: {_hint(key, value, options)}")
        # JSON and TOML know true from 1; the checks of options, which come from the command line, do not.
        if isinstance(value, bool):
            raise LaunchError(
                f"{place_of(key, name, path)} cannot be {str(value).lower()}: no option here is a switch."
            )
    if "model" not in values:
        raise LaunchError(f"{place_of('model', name, path)} is missing: write model = 'DIR or hub id'.")
    if isinstance(values.get("pooler_config"), dict):
        values["pooler_config"] = json.dumps(values["pooler_config"])
    return {**values, "served_model_name": [name, *aliases]}


def _hint(key: str, value: object, options: Collection[str]) -> str:
    if isinstance(value, dict):
        return "a name with dots stands in quotes, [models.'a.b']."
    close = difflib.get_close_matches(key.replace("-", "_"), [*options, ALIASES], 1)
    return f"did you mean {close[0]}?" if close else f"a section may have {', '.join(sorted(options))} and {ALIASES}."


def _quoted(name: str) -> str:
    """The name as TOML writes it in a section's head."""
    bare = name and name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if bare else json.dumps(name, ensure_ascii=False)
