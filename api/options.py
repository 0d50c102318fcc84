"""Every option of Millpond, once: its default, its unit, which commands take it, and what it is for.

An option is a flag of the command line and a variable of the environment (`--max-num-seqs`, `MILLPOND_MAX_NUM_SEQS`);
the flag wins. The launcher hands options on to the roles it starts through the same variables.
"""

import argparse
import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo

from api.errors import LaunchError

SERVE, API, SCHEDULER, WORKER = "serve", "api", "scheduler", "worker"
INSPECT, KEYS = "inspect", "keys"
_ALL = (SERVE, API, SCHEDULER, WORKER)

ENVIRONMENT_PREFIX = "MILLPOND_"

Port = Annotated[int, Field(ge=1, le=65535)]


@dataclass(frozen=True)
class Shown:
    """How an option appears in `--help`: its group, its value's name or unit, and the commands that take it.

    One that is repeated is a list: the flag may come several times, the variable holds the values with commas between.
    """

    group: str
    value: str
    commands: Sequence[str] = _ALL
    repeated: bool = False


def _home(variable: str, fallback: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / fallback) / "millpond"


class Options(BaseModel):
    """All options, checked and typed."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    host: Annotated[str, Shown("network", "ADDRESS")] = Field("127.0.0.1", description="address to listen on")
    port: Annotated[Port, Shown("network", "PORT", (SERVE, API))] = Field(8000, description="port of the HTTP API")
    metrics_port: Annotated[Port | None, Shown("network", "PORT")] = Field(
        None,
        description="port of the Prometheus metrics (default: --port plus one; none for a scheduler or worker alone)",
    )
    max_request_bytes: Annotated[PositiveInt, Shown("network", "BYTES", (SERVE, API))] = Field(
        32 * 1024 * 1024, description="longest request body taken"
    )
    max_response_bytes: Annotated[PositiveInt, Shown("network", "BYTES", (SERVE, API))] = Field(
        64 * 1024 * 1024, description="most numbers in one reply, at 4 bytes each; they lie in Redis until it is sent"
    )
    request_timeout: Annotated[float, Shown("network", "SECONDS", (SERVE, API))] = Field(
        600.0, gt=0, description="longest wait of a call for its result; then it is answered 504"
    )

    api_key: Annotated[tuple[SecretStr, ...], Shown("access", "KEY", (SERVE, API), repeated=True)] = Field(
        (), description="key with full rights; flags are seen by everyone on the machine, the variable is not"
    )
    key_file: Annotated[Path | None, Shown("access", "FILE", (SERVE, API, KEYS))] = Field(
        None,
        description="keys with names, rights and limits, for `millpond keys` and by hand (default: keys.toml in "
        "--data-dir, when it is there)",
    )
    insecure: Annotated[bool, Shown("access", "", (SERVE, API))] = Field(
        False, description="listen beyond loopback though no key is asked for"
    )

    model: Annotated[str, Shown("model", "DIR|HUB-ID", (SERVE, API, WORKER, INSPECT))] = Field(
        "sentence-transformers/all-MiniLM-L6-v2", min_length=1, description="checkpoint to serve; repeated: several"
    )
    models_file: Annotated[Path | None, Shown("model", "FILE", (SERVE, API, WORKER))] = Field(
        None, description="several models, each with its options (TOML, a section [models.NAME] each), for --model"
    )
    revision: Annotated[str | None, Shown("model", "REVISION", (SERVE, API, WORKER, INSPECT))] = Field(
        None, description="branch, tag or commit of a model from the hub"
    )
    served_model_name: Annotated[str | None, Shown("model", "NAME", (SERVE, API, WORKER))] = Field(
        None,
        min_length=1,
        description="name in requests and replies (default: the hub id, or the directory's name); repeated: of the "
        "models in order, or further names of the only one",
    )
    runner: Annotated[Literal["auto", "pooling"], Shown("model", "RUNNER", (SERVE, API, WORKER, INSPECT))] = Field(
        "auto", description="auto or pooling; Millpond runs nothing but pooling models"
    )
    convert: Annotated[
        Literal["auto", "none", "embed", "classify"], Shown("model", "CONVERSION", (SERVE, API, WORKER, INSPECT))
    ] = Field("auto", description="how a model without a pooler becomes one: auto, none, embed or classify")
    pooler_config: Annotated[str | None, Shown("model", "JSON|FILE", (SERVE, API, WORKER, INSPECT))] = Field(
        None,
        description="overrides of the pooler: pooling_type, normalize, activation, dimensions, matryoshka_dimensions, "
        "step_tag_id, returned_token_ids, max_embed_len, enable_chunked_processing",
    )
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"], Shown("model", "TYPE", (SERVE, API, WORKER, INSPECT))
    ] = Field("auto", description="type of weights and activations: auto, float32, bfloat16 or float16")
    max_model_len: Annotated[PositiveInt | None, Shown("model", "TOKENS", (SERVE, API, WORKER, INSPECT))] = Field(
        None, description="longest sequence taken (default: what the checkpoint allows)"
    )

    trust_request_chat_template: Annotated[bool, Shown("model", "", (SERVE, API))] = Field(
        False, description="take chat templates from requests; they run in processes that can do nothing else"
    )

    device: Annotated[str, Shown("engine", "DEVICE", (SERVE, WORKER, INSPECT))] = Field(
        "cpu", pattern=r"^(cpu|gpu(:\d+)?)$", description="where the engine runs: cpu, gpu or gpu:N"
    )
    max_num_seqs: Annotated[PositiveInt, Shown("engine", "SEQUENCES", (SERVE, WORKER))] = Field(
        256, description="most sequences in a micro-batch"
    )
    max_num_batched_tokens: Annotated[PositiveInt | None, Shown("engine", "TOKENS", (SERVE, WORKER))] = Field(
        None, description="most tokens in a micro-batch (default: 2048 on a cpu, 16384 on a gpu)"
    )

    tensor_parallel_size: Annotated[PositiveInt, Shown("engine", "RANKS", (SERVE, WORKER))] = Field(
        1, description="processes that each worker divides its model among, one a GPU from --device on"
    )
    gpu_memory_utilization: Annotated[float, Shown("engine", "SHARE", (SERVE, WORKER))] = Field(
        0.9, gt=0, le=1, description="share of the GPU's memory that an engine may take; on a cpu, of the machine's"
    )

    workers: Annotated[PositiveInt, Shown("processes", "COUNT", (SERVE, WORKER))] = Field(
        1, description="worker processes, each with an engine of its own"
    )
    api_workers: Annotated[PositiveInt, Shown("processes", "COUNT", (SERVE, API))] = Field(
        1, description="api processes that share the port"
    )

    data_dir: Annotated[Path, Shown("storage", "DIR", (SERVE, API, KEYS))] = Field(
        default_factory=lambda: _home("XDG_DATA_HOME", ".local/share"),
        description="the embedded Redis, its files and the key file live here (default: ~/.local/share/millpond)",
    )
    cache_dir: Annotated[Path, Shown("storage", "DIR", (SERVE, API, WORKER, INSPECT))] = Field(
        default_factory=lambda: _home("XDG_CACHE_HOME", ".cache"),
        description="downloaded models are kept here (default: ~/.cache/millpond)",
    )
    redis_url: Annotated[str | None, Shown("storage", "URL")] = Field(
        None, description="Redis 6.2 or newer (default for serve: an embedded one; else redis://127.0.0.1:6379/0)"
    )
    engine_worker_queue_port: Annotated[Port | None, Shown("storage", "PORT", (SERVE,))] = Field(
        None, description="port on which the embedded Redis listens too, on this machine, for workers started apart"
    )
    broker_url: Annotated[str | None, Shown("storage", "URL")] = Field(
        None, description="Redis that carries Celery, if it is another (default: --redis-url)"
    )

    log_format: Annotated[Literal["text", "json"], Shown("logging", "FORMAT")] = Field(
        "text", description="lines for people (text) or for collectors (json)"
    )

    @field_validator("api_key", mode="before")
    @classmethod
    def _keys_apart(cls, given: str | Sequence[str]) -> list[str]:
        values = [given] if isinstance(given, str) else given
        keys = [key.strip() for value in values for key in value.split(",")]
        if not all(key and key.isascii() and key.isprintable() and " " not in key for key in keys):
            raise ValueError("a key is printable ASCII without blanks, and a comma stands between two")
        return keys

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """The options that a role's environment holds."""
        return cls.checked(_from_environment(environment))

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> Self:
        """The options, or a `LaunchError` that names the wrong one in a sentence."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            # A wrong key is often a right one with a slip, and this line may end in a log.
            given = "what was given" if name == "api_key" else repr(first["input"])
            reason = first["msg"].removeprefix("Value error, ")
            raise LaunchError(f"{flag_of(name)} cannot be {given}: {reason.lower()}.") from error

    def environment(self) -> dict[str, str]:
        """These options as variables, for a role; without the keys, which only the api may know."""
        return {
            ENVIRONMENT_PREFIX + name.upper(): str(value)
            for name, value in self.model_dump(mode="json", exclude={"api_key"}).items()
            if value is not None
        }


def flag_of(name: str) -> str:
    """The flag of an option."""
    return "--" + name.replace("_", "-")


def shown(name: str) -> Shown:
    """How an option appears."""
    return next(each for each in Options.model_fields[name].metadata if isinstance(each, Shown))


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    variables = {name: ENVIRONMENT_PREFIX + name.upper() for name in Options.model_fields}
    return {name: environment[key] for name, key in variables.items() if environment.get(key)}


class _OneSentenceParser(argparse.ArgumentParser):
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
    found = _found(_parser(command), arguments)
    around = _from_environment(environment)
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
    parser = _parser(INSPECT)
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
    return Options.checked({**_from_environment(environment), **found}), as_json


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
    parser = _parser(command)
    parser.prog += f" {action}"
    add_own(parser)
    found = _found(parser, arguments)
    own = {name: found.pop(name) for name in list(found) if name not in Options.model_fields}
    return Options.checked({**_from_environment(environment), **found}), own


def _parser(command: str) -> _OneSentenceParser:
    parser = _OneSentenceParser(prog=f"millpond {command}", description=_DESCRIPTIONS[command], allow_abbrev=False)
    groups: dict[str, Any] = {}
    for name, field in Options.model_fields.items():
        how = shown(name)
        if command not in how.commands:
            continue
        if how.group not in groups:
            groups[how.group] = parser.add_argument_group(how.group)
        repeated = how.repeated or (name in REPEATED and command != INSPECT)
        kind: dict[str, Any] = {"metavar": how.value, "action": "append" if repeated else "store"}
        if field.annotation is bool:
            kind = {"action": "store_true"}
        groups[how.group].add_argument(
            flag_of(name), dest=name, default=argparse.SUPPRESS, help=_help(name, field), **kind
        )
    return parser


def _found(parser: _OneSentenceParser, arguments: Sequence[str]) -> dict[str, Any]:
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
    SERVE: "Serves a model: starts Redis (when no --redis-url is given), scheduler, worker and api on this machine.",
    API: "Runs the HTTP api alone, against a Redis shared with schedulers and workers.",
    SCHEDULER: "Runs a scheduler alone: it forms micro-batches for every model that is served on its Redis.",
    WORKER: "Runs workers alone, each with an engine of its own.",
    KEYS: "Adds, lists and revokes the keys with which callers are let in: `millpond keys add|list|revoke`.",
    INSPECT: "Shows how a model would be served, and what decided it: reads its small files only, and starts nothing.",
}

COMMANDS = tuple(_DESCRIPTIONS.items())
