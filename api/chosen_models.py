"""Which models a command serves: those of its flags, or those of a models file (TOML), each with options of its own.

[models.embedder]
model = "sentence-transformers/all-MiniLM-L6-v2"
aliases = ["text-embedding-3-small"]

[models.judge]
model = "/models/reward"
max_model_len = 4096
workers = 2
pooler_config = {activation = "sigmoid"}
"""

import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.arguments import Parsed
from api.errors import LaunchError
from api.options import Options, flag_of, shown

OF_ALL = ("models_file", "trust_request_chat_template")

OF_A_MODEL = (
    *(name for name in Options.model_fields if shown(name).group in ("model", "engine") and name not in OF_ALL),
    "workers",
)
"""The options that each model has for itself."""

ALIASES = "aliases"


@dataclass(frozen=True)
class ChosenModel:
    """One model to serve.

    Attributes:
        name: what it is called in replies.
        options: all options, those of a model being its own.
        aliases: what else requests may call it.
    """

    name: str
    options: Options
    aliases: tuple[str, ...] = ()


def chosen_models(parsed: Parsed) -> tuple[ChosenModel, ...]:
    """The models of a command, in order, at least one.

    Raises:
        LaunchError: two have the same name, or the models file is wrong.
    """
    path = parsed.options.models_file
    chosen = _of_flags(parsed) if path is None else _of_file(path, parsed)
    names = [name for each in chosen for name in (each.name, *each.aliases)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise LaunchError(f"Two models are called {twice!r}: give each its own --served-model-name.")
    return chosen


def default_name(model: str) -> str:
    """What a model is called where nobody says: its hub id, or the name of its directory."""
    path = Path(model)
    return path.resolve().name if path.is_dir() else model


def _of_flags(parsed: Parsed) -> tuple[ChosenModel, ...]:
    """Names belong to the models in order; of a single model the further names are aliases."""
    models, names = parsed.models or (parsed.options.model,), parsed.names
    if len(models) == 1:
        name, *aliases = names or (default_name(models[0]),)
        options = parsed.options.model_copy(update={"model": models[0], "served_model_name": name})
        return (ChosenModel(name, options, tuple(aliases)),)
    if len(names) > len(models):
        raise LaunchError(f"{len(names)} --served-model-name for {len(models)} --model: give one for each, in order.")
    paired = zip(models, [*names, *map(default_name, models[len(names) :])], strict=True)
    return tuple(
        ChosenModel(name, parsed.options.model_copy(update={"model": model, "served_model_name": name}))
        for model, name in paired
    )


def _of_file(path: Path, parsed: Parsed) -> tuple[ChosenModel, ...]:
    if parsed.models or parsed.names:
        raise LaunchError("Both --models-file and --model (or --served-model-name) are given: put all into the file.")
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise LaunchError(f"--models-file {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LaunchError(f"--models-file {path} is not TOML: {error}.") from error
    sections = found.pop("models", None)
    if found or not isinstance(sections, dict) or not sections:
        raise LaunchError(f"--models-file {path} must hold sections [models.NAME], one a model, and nothing else.")
    return tuple(_of_section(f"{path}, [models.{name}]", name, section, parsed) for name, section in sections.items())


def _of_section(place: str, name: str, section: object, parsed: Parsed) -> ChosenModel:
    if not isinstance(section, dict):
        raise LaunchError(f"{place} is not a section: write its options below it.")
    _check_names(place, section)
    if "model" not in section:
        raise LaunchError(f"{place} has no model: say which checkpoint, a directory or a hub id.")
    values = {key: _text(value) if key == "pooler_config" else value for key, value in section.items()}
    aliases = values.pop(ALIASES, [])
    if not isinstance(aliases, list) or not all(isinstance(alias, str) and alias for alias in aliases):
        raise LaunchError(f"{place}: {ALIASES} must be a list of names.")
    if "served_model_name" in values:
        raise LaunchError(f"{place} is called {name!r} by its section: leave out served_model_name, or use {ALIASES}.")
    try:
        options = Options.checked({**parsed.values, **values, "served_model_name": name})
    except LaunchError as error:
        raise LaunchError(f"{place}: {error}") from error
    return ChosenModel(name, options, tuple(aliases))


def _check_names(place: str, section: Mapping[str, Any]) -> None:
    known: Sequence[str] = (*OF_A_MODEL, ALIASES)
    for key, value in section.items():
        if isinstance(value, bool):
            raise LaunchError(f"{place} has {key} = {str(value).lower()}, and no option of a model is a switch.")
        if key in known:
            continue
        if key in Options.model_fields:
            raise LaunchError(f"{place} has {key}, which is for all models: give it as {flag_of(key)}.")
        close = difflib.get_close_matches(key, known, 1)
        if isinstance(value, dict):
            raise LaunchError(f'{place} has a section {key}: put a name with a dot into quotes, [models."a.b"].')
        hint = f"did you mean {close[0]}?" if close else f"it takes {', '.join(known)}."
        raise LaunchError(f"{place} has {key}, which is not known: {hint}")


def _text(value: object) -> object:
    """A table as the JSON that the option takes."""
    return json.dumps(value) if isinstance(value, dict) else value
