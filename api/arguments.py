"""The command lines: which flags each command takes, and what a user's flags and environment say together."""

import argparse
import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic.fields import FieldInfo

from api.errors import LaunchError
from api.options import (
    API,
    BULK,
    ENVIRONMENT_PREFIX,
    INSPECT,
    KEYS,
    SCHEDULER,
    SERVE,
    WORKER,
    Options,
    flag_of,
    given_by,
    shown,
)


class OneSentenceParser(argparse.ArgumentParser):
    """An argument parser whose complaint is one sentence that says what to do."""

    @property
    def flags(self) -> list[str]:
        """Every flag it knows, `--help` left out."""
        return [flag for action in self._actions for flag in action.option_strings if action.dest != "help"]

    def error(self, message: str) -> NoReturn:
        raise LaunchError(f"{self.prog}: {message}. `{self.prog} --help` lists what there is.")


@dataclass(frozen=True)
class Parsed:
    """A command line.

    Attributes:
        options: all options, with the first model where there are several.
        models, names: each --model and each --served-model-name, as often as they were given.
        values: what was given, unchecked.
    """

    options: Options
    models: tuple[str, ...]
    names: tuple[str, ...]
    values: Mapping[str, Any]


REPEATED = {"model": "models", "served_model_name": "names"}
"""Options of one model that a command takes several times, for several."""


def parse(command: str, arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Parsed:
    """What one command is told by its flags and the environment.

    Raises:
        LaunchError: a flag or a value is wrong.
    """
    found = _found(parser_of(command), arguments)
    around = given_by(environment)
    # A flag wins over the environment, also where it says the same thing in another way; there, a file says more.
    if REPEATED.keys() & found.keys():
        around.pop("models_file", None)
    elif "models_file" in {**around, **found}:
        around = {name: value for name, value in around.items() if name not in REPEATED}
    values = {**around, **found}
    repeated = {}
    for name, field in REPEATED.items():
        given = values.get(name, [])
        repeated[field] = tuple(given if isinstance(given, list) else [given])
        if repeated[field]:
            values[name] = repeated[field][0]
    return Parsed(Options.checked(values), **repeated, values=values)


def parse_inspect(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> tuple[Options, bool]:
    """The options of `millpond inspect`, and whether it answers in JSON; raises as `parse` does.

    The model stands alone, as it is the only thing to inspect, or behind --model as in the other commands.
    """
    parser = parser_of(INSPECT)
    parser.add_argument("checkpoint", nargs="?", metavar="MODEL", help="the same as --model MODEL")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines for people")
    found = _found(parser, arguments)
    as_json, checkpoint = found.pop("json"), found.pop("checkpoint")
    if checkpoint is not None:
        if "model" in found:
            raise LaunchError(
                f"{parser.prog} inspects one model: give either {checkpoint} or --model {found['model']}."
            )
        found["model"] = checkpoint
    return Options.checked({**given_by(environment), **found}), as_json


def parse_more(
    command: str,
    action: str,
    arguments: Sequence[str],
    add_own: Callable[[argparse.ArgumentParser], None],
    environment: Mapping[str, str] = os.environ,
) -> tuple[Options, dict[str, Any]]:
    """The options of one action of a command, and the values of the arguments that are its own; raises as `parse` does.

    Args:
        add_own: adds the action's own arguments to the parser.
    """
    parser = parser_of(command)
    parser.prog += f" {action}"
    add_own(parser)
    values, own = parse_with(parser, arguments, environment)
    return Options.checked(values), own


def parse_with(
    parser: OneSentenceParser, arguments: Sequence[str], environment: Mapping[str, str] = os.environ
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that flags and environment give, unchecked, and the values of all other arguments of a parser.

    Raises:
        LaunchError: a flag is wrong.
    """
    found = _found(parser, arguments)
    own = {name: found.pop(name) for name in list(found) if name not in Options.model_fields}
    return {**given_by(environment), **found}, own


def parser_of(command: str) -> OneSentenceParser:
    """A parser of all options that a command takes."""
    parser = OneSentenceParser(prog=f"millpond {command}", description=_DESCRIPTIONS[command], allow_abbrev=False)
    groups: dict[str, Any] = {}
    for name, field in Options.model_fields.items():
        how = shown(name)
        if command not in how.commands:
            continue
        if how.group not in groups:
            groups[how.group] = parser.add_argument_group(how.group)
        repeated = how.repeated or (name in REPEATED and command not in (INSPECT, *BULK))
        kind: dict[str, Any] = {"metavar": how.value, "action": "append" if repeated else "store"}
        if field.annotation is bool:
            kind = {"action": "store_true"}
        groups[how.group].add_argument(
            flag_of(name), dest=name, default=argparse.SUPPRESS, help=_help(name, field), **kind
        )
    return parser


def _found(parser: OneSentenceParser, arguments: Sequence[str]) -> dict[str, Any]:
    """What the arguments say; raises LaunchError with the closest flag where one is not known."""
    found, unknown = parser.parse_known_args(arguments)
    if unknown:
        close = difflib.get_close_matches(unknown[0].split("=")[0], parser.flags, 1)
        hint = f"did you mean {close[0]}?" if close else f"`{parser.prog} --help` lists what there is."
        raise LaunchError(f"{parser.prog} knows no {unknown[0]}: {hint}")
    return vars(found)


def _help(name: str, field: FieldInfo) -> str:
    text = str(field.description)
    if field.default not in (None, False, ()) and field.default_factory is None:
        text += f" (default: {field.default})"
    return f"{text} [{ENVIRONMENT_PREFIX}{name.upper()}]".replace("%", "%%")


_DESCRIPTIONS = {
    SERVE: "Serves models: starts Redis (when no --redis-url is given), scheduler, worker and api on this machine.",
    API: "Runs the HTTP api alone, against a Redis shared with schedulers and workers.",
    SCHEDULER: "Runs a scheduler alone: it forms micro-batches for every model that is served on its Redis.",
    WORKER: "Runs workers alone, each with an engine of its own.",
    KEYS: "Adds, lists and revokes the keys with which callers are let in: `millpond keys add|list|revoke`.",
    "score": "Scores every record of files by a reward model or a cross encoder, exactly once, and can be resumed.",
    "embed": "Embeds every record of files, exactly once, and can be resumed.",
    "rerank": "Scores the documents of every record of files against its query, exactly once, and can be resumed.",
    INSPECT: "Shows how a model would be served, and what decided it: reads its small files only, and starts nothing.",
}

COMMANDS = tuple(_DESCRIPTIONS.items())
