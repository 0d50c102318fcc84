"""Every option of Millpond, once: its default, its unit, which commands take it, and what it is for.

An option is a flag of the command line and a variable of the environment (`--max-num-seqs`, `MILLPOND_MAX_NUM_SEQS`);
the flag wins. The launcher hands options on to the roles it starts through the same variables.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
)

from api.addresses import Allowance, Reachable
from api.errors import LaunchError
from api.webhooks.signing import secret_bytes

SERVE, API, SCHEDULER, WORKER = "serve", "api", "scheduler", "worker"
INSPECT, KEYS = "inspect", "keys"
BULK = ("score", "embed", "rerank")
"""Commands that read files of records; without --server they start a server of their own, whose options they take."""

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


SECRETS = ("api_key", "webhook_secret")
"""Options that are told to no role that can do without, and repeated in no message."""


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

    model: Annotated[str, Shown("model", "DIR|HUB-ID", (*BULK, SERVE, API, WORKER, INSPECT))] = Field(
        "sentence-transformers/all-MiniLM-L6-v2", min_length=1, description="checkpoint to serve; repeated: several"
    )
    models_file: Annotated[Path | None, Shown("model", "FILE", (SERVE, API, WORKER))] = Field(
        None, description="several models, each with its options (TOML, a section [models.NAME] each), for --model"
    )
    revision: Annotated[str | None, Shown("model", "REVISION", (*BULK, SERVE, API, WORKER, INSPECT))] = Field(
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
        Literal["auto", "none", "embed", "classify"], Shown("model", "CONVERSION", (*BULK, SERVE, API, WORKER, INSPECT))
    ] = Field("auto", description="how a model without a pooler becomes one: auto, none, embed or classify")
    pooler_config: Annotated[str | None, Shown("model", "JSON|FILE", (*BULK, SERVE, API, WORKER, INSPECT))] = Field(
        None,
        description="overrides of the pooler: pooling_type, normalize, activation, dimensions, matryoshka_dimensions, "
        "step_tag_id, returned_token_ids, max_embed_len, enable_chunked_processing",
    )
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"], Shown("model", "TYPE", (*BULK, SERVE, API, WORKER, INSPECT))
    ] = Field("auto", description="type of weights and activations: auto, float32, bfloat16 or float16")
    float32_matmul_precision: Annotated[
        Literal["highest", "medium"], Shown("model", "PRECISION", (*BULK, SERVE, API, WORKER, INSPECT))
    ] = Field(
        "highest",
        description="how float32 matrices are multiplied on a cpu: highest, or medium: in bfloat16 where the processor "
        "has AMX, up to twice as fast and exact to 3 digits",
    )
    quantization: Annotated[
        Literal["none", "int8"], Shown("model", "QUANTIZATION", (*BULK, SERVE, API, WORKER, INSPECT))
    ] = Field(
        "none",
        description="how the weights of linear layers are held on a cpu: none (as --dtype says), or int8: a byte each, "
        "for a quarter of their memory and a slower forward",
    )
    max_model_len: Annotated[PositiveInt | None, Shown("model", "TOKENS", (*BULK, SERVE, API, WORKER, INSPECT))] = (
        Field(None, description="longest sequence taken (default: what the checkpoint allows)")
    )

    trust_request_chat_template: Annotated[bool, Shown("model", "", (SERVE, API))] = Field(
        False, description="take chat templates from requests; they run in processes that can do nothing else"
    )

    device: Annotated[str, Shown("engine", "DEVICE", (*BULK, SERVE, WORKER, INSPECT))] = Field(
        "cpu", pattern=r"^(cpu|gpu(:\d+)?)$", description="where the engine runs: cpu, gpu or gpu:N"
    )
    max_num_seqs: Annotated[PositiveInt, Shown("engine", "SEQUENCES", (*BULK, SERVE, WORKER))] = Field(
        256, description="most sequences in a micro-batch"
    )
    max_num_batched_tokens: Annotated[PositiveInt | None, Shown("engine", "TOKENS", (*BULK, SERVE, WORKER))] = Field(
        None, description="most tokens in a micro-batch (default: 2048 on a cpu, 16384 on a gpu)"
    )

    max_queued_tokens: Annotated[PositiveInt, Shown("processes", "TOKENS", (*BULK, SERVE, API))] = Field(
        16_000_000,
        description="most tokens that may be queued in a lane of a model; as many take 0.1 to 1 GB of Redis",
    )
    max_queued_tokens_per_key: Annotated[PositiveInt, Shown("processes", "TOKENS", (*BULK, SERVE, API))] = Field(
        8_000_000, description="most of them of one key, or of all callers where there are no keys"
    )

    interactive_target_ms: Annotated[PositiveInt, Shown("processes", "MS", (SERVE, SCHEDULER))] = Field(
        50, description="how long batches of jobs and bulk may run, and keep an interactive caller waiting"
    )

    tensor_parallel_size: Annotated[PositiveInt, Shown("engine", "RANKS", (*BULK, SERVE, WORKER))] = Field(
        1, description="processes that each worker divides its model among, one a GPU from --device on"
    )
    gpu_memory_utilization: Annotated[float, Shown("engine", "SHARE", (*BULK, SERVE, WORKER))] = Field(
        0.9, gt=0, le=1, description="share of the GPU's memory that an engine may take; on a cpu, of the machine's"
    )
    enforce_eager: Annotated[bool, Shown("engine", "", (*BULK, SERVE, WORKER))] = Field(
        False, description="run a model operator by operator: no compiled programs on a cpu, no CUDA graphs on a GPU"
    )

    workers: Annotated[PositiveInt, Shown("processes", "COUNT", (*BULK, SERVE, WORKER))] = Field(
        1, description="worker processes of each model, each with an engine of its own; on a cpu they share the cores"
    )
    api_workers: Annotated[PositiveInt, Shown("processes", "COUNT", (*BULK, SERVE, API))] = Field(
        1, description="api processes that share the port"
    )

    job_workers: Annotated[NonNegativeInt, Shown("jobs", "COUNT", (SERVE, API))] = Field(
        1, description="processes that run jobs and batches and deliver webhooks; 0: others do"
    )
    job_concurrency: Annotated[PositiveInt, Shown("jobs", "CALLS", (SERVE, API))] = Field(
        64, description="calls of jobs, and as many of batches, that each of them runs at once"
    )
    job_timeout: Annotated[PositiveInt, Shown("jobs", "SECONDS", (SERVE, API))] = Field(
        86_400, description="a job that is not done so long after its submission has expired, unless it says otherwise"
    )
    result_ttl: Annotated[PositiveInt, Shown("jobs", "SECONDS", (SERVE, API))] = Field(
        86_400, description="how long the result of a job that is done is kept"
    )
    max_file_bytes: Annotated[PositiveInt, Shown("jobs", "BYTES", (SERVE, API))] = Field(
        1024**3, description="longest file that is taken for a batch"
    )
    file_storage: Annotated[str | None, Shown("jobs", "DIR|URL", (SERVE, API))] = Field(
        None,
        min_length=1,
        description="where files of batches lie: a directory, or s3://BUCKET/PREFIX, that all api and job processes "
        "share (default: files in --data-dir)",
    )
    webhook_secret: Annotated[tuple[SecretStr, ...], Shown("jobs", "SECRET", (SERVE, API), repeated=True)] = Field(
        (), description="whsec_... with which webhooks are signed; repeated: with each, so that secrets can be changed"
    )
    webhook_allow: Annotated[tuple[str, ...], Shown("jobs", "HOST|NETWORK", (SERVE, API), repeated=True)] = Field(
        (),
        description="receivers of webhooks that may be on this machine or in a private network: 10.1.2.0/24, NAME:PORT",
    )

    allowed_media_domains: Annotated[
        tuple[str, ...], Shown("media", "HOST[:PORT]", (*BULK, SERVE, API), repeated=True)
    ] = Field(
        (),
        description="hosts that images may be fetched from, in private networks too; then from no others (default: "
        "every public address)",
    )
    allowed_local_media_path: Annotated[Path | None, Shown("media", "DIR", (*BULK, SERVE, API))] = Field(
        None, description="directory below which file:// URLs of images may be read (default: none are)"
    )
    max_images: Annotated[PositiveInt, Shown("media", "IMAGES", (*BULK, SERVE, API))] = Field(
        16, description="most images in one request"
    )
    max_image_bytes: Annotated[PositiveInt, Shown("media", "BYTES", (*BULK, SERVE, API))] = Field(
        20 * 1024 * 1024, description="longest image taken, as it is sent"
    )
    max_image_pixels: Annotated[PositiveInt, Shown("media", "PIXELS", (*BULK, SERVE, API, WORKER))] = Field(
        33_000_000, description="most pixels of an image, decoded; each takes up to 16 bytes for a moment"
    )
    media_cache_mb: Annotated[PositiveInt, Shown("media", "MIB", (*BULK, SERVE, API))] = Field(
        1024, description="most memory of Redis for the images of a model's requests"
    )
    media_cache_ttl: Annotated[PositiveInt, Shown("media", "SECONDS", (*BULK, SERVE, API))] = Field(
        3600, description="how long an image is kept in Redis after its last use, while there is room"
    )
    media_timeout: Annotated[float, Shown("media", "SECONDS", (*BULK, SERVE, API))] = Field(
        10.0, gt=0, description="longest time in which all images of a request are fetched"
    )

    data_dir: Annotated[Path, Shown("storage", "DIR", (SERVE, API, KEYS))] = Field(
        default_factory=lambda: _home("XDG_DATA_HOME", ".local/share"),
        description="the embedded Redis, its files and the key file live here (default: ~/.local/share/millpond)",
    )
    cache_dir: Annotated[Path, Shown("storage", "DIR", (*BULK, SERVE, API, WORKER, INSPECT))] = Field(
        default_factory=lambda: _home("XDG_CACHE_HOME", ".cache"),
        description="downloaded models are kept here (default: ~/.cache/millpond)",
    )
    redis_url: Annotated[str | None, Shown("storage", "URL")] = Field(
        None, description="Redis 6.2 or newer (default for serve: an embedded one; else redis://127.0.0.1:6379/0)"
    )
    appendfsync: Annotated[Literal["everysec", "always", "no"], Shown("storage", "WHEN", (SERVE,))] = Field(
        "everysec",
        description="when the embedded Redis makes the disk's own cache write: nothing is lost with a process in any "
        "case, with the machine's power a second, nothing (always) or half a minute (no)",
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

    @field_validator("webhook_secret", "webhook_allow", "allowed_media_domains", mode="before")
    @classmethod
    def _apart(cls, given: str | Sequence[str]) -> list[str]:
        values = [given] if isinstance(given, str) else given
        return [each.strip() for value in values for each in str(value).split(",") if each.strip()]

    @field_validator("webhook_secret")
    @classmethod
    def _secrets_to_sign_with(cls, secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for secret in secrets:
            secret_bytes(secret.get_secret_value())
        return secrets

    @field_validator("webhook_allow")
    @classmethod
    def _places(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        Reachable.parse(entries)
        return entries

    @field_validator("allowed_media_domains")
    @classmethod
    def _hosts(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            network = Allowance.parse(entry).network
            if network is not None and network.num_addresses > 1:
                raise ValueError(f"{entry!r} is a network; name hosts, with or without :PORT")
        return entries

    @field_validator("allowed_local_media_path")
    @classmethod
    def _directory(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_dir():
            raise ValueError("there is no such directory")
        return path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """The options that a role's environment holds."""
        return cls.checked(given_by(environment))

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> Self:
        """The options, or a `LaunchError` that names the wrong one in a sentence."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            # A wrong key is often a right one with a slip, and this line may end in a log.
            given = "what was given" if name in SECRETS else repr(first["input"])
            reason = first["msg"].removeprefix("Value error, ")
            raise LaunchError(f"{flag_of(name)} cannot be {given}: {reason.lower()}.") from error

    def environment(self) -> dict[str, str]:
        """These options as variables, for a role; without the secrets, which only some may know."""
        return {
            ENVIRONMENT_PREFIX + name.upper(): ",".join(value) if isinstance(value, list) else str(value)
            for name, value in self.model_dump(mode="json", exclude=set(SECRETS)).items()
            if value is not None
        }


def flag_of(name: str) -> str:
    """The flag of an option."""
    return "--" + name.replace("_", "-")


def shown(name: str) -> Shown:
    """How an option appears."""
    return next(each for each in Options.model_fields[name].metadata if isinstance(each, Shown))


def given_by(environment: Mapping[str, str]) -> dict[str, str]:
    """The options that an environment holds, unchecked."""
    variables = {name: ENVIRONMENT_PREFIX + name.upper() for name in Options.model_fields}
    return {name: environment[key] for name, key in variables.items() if environment.get(key)}
