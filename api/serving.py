"""The served models as the api sees them: names, limits, tokenizers. No weights, no Paddle."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from api.callers import Caller
from api.errors import ApiError, LaunchError
from api.options import Options
from api.pairing import Pairing, pairing_of
from api.rendering import Renderer, Sandbox
from pooling.chat_template import read_chat_template, read_special_tokens
from pooling.checkpoint import verify_weights
from pooling.config import ModelSpec, resolve_spec
from pooling.errors import PoolingError
from pooling.fetch import local_checkpoint
from pooling.model_options import ModelOptions
from pooling.padding import text_places
from pooling.tokenizing import Side, TokenIds, Tokenizer
from pooling.vision.processors import ImageProcessor, read_image_processor
from scheduler.keys import ModelKeys

INLINE_CHARACTERS = 2_000
"""Shorter work is tokenised on the event loop: a hop to a thread costs more than its fraction of a millisecond."""

OWN_NAMES = (None, "", "default")
"""What callers write who mean the served model, whatever it is called."""

ROUTES = {"embed": "/v1/embeddings", "reward": "/v1/chat/reward", "score": "/v1/rerank", "classify": "/classify"}
"""Where each task is to be had first of all."""

T = TypeVar("T")


def checkpoint_directory(options: Options) -> Path:
    """The local, verified directory of the model to serve, downloaded if it must be.

    All is checked that can be known without Paddle; whether the tensors fit the model, the worker finds.

    Raises:
        LaunchError: there is no such model, it is not supported, an option does not fit it, or its files are broken.
    """
    try:
        directory = local_checkpoint(options.model, options.revision, options.cache_dir)
        spec = resolve_spec(directory, model_options(options))
        Tokenizer.from_spec(spec)
        read_chat_template(directory)
        read_image_processor(spec)
        for module in spec.dense:
            verify_weights(module.directory)
    except PoolingError as error:
        raise LaunchError(str(error)) from error
    return directory


def model_options(options: Options) -> ModelOptions:
    """What the user said about how the checkpoint is served."""
    return ModelOptions(
        runner=options.runner,
        convert=options.convert,
        pooler_config=options.pooler_config,
        max_model_len=options.max_model_len,
        dtype=options.dtype,
        float32_matmul_precision=options.float32_matmul_precision,
        quantization=options.quantization,
        device=options.device,
    )


def example_call(directory: Path, options: Options) -> tuple[str, dict[str, object]]:
    """A route that the model serves, and fields of a call of it for a user to try."""
    tasks = resolve_spec(directory, model_options(options)).tasks
    if "embed" in tasks:
        return ROUTES["embed"], {"input": "A millpond stores water."}
    asked = "What does a millpond store?"
    if "score" in tasks and read_chat_template(directory) is None:
        return ROUTES["score"], {"query": asked, "documents": ["A millpond stores water.", "Rain falls."]}
    answered = [{"role": "user", "content": asked}, {"role": "assistant", "content": "Water."}]
    return ROUTES["reward"], {"messages": answered}


@dataclass(frozen=True)
class Served:
    """One model as the launcher settled it.

    Attributes:
        name: what it is called in replies.
        checkpoint: its local, verified directory.
        options: those of this model.
        aliases: what else requests may call it.
    """

    name: str
    checkpoint: Path
    options: Options
    aliases: tuple[str, ...] = ()

    def encode(self) -> dict[str, object]:
        """As a JSON object, for a variable of the environment."""
        return {
            "name": self.name,
            "checkpoint": str(self.checkpoint),
            "options": self.options.environment(),
            "aliases": self.aliases,
        }

    @classmethod
    def decode(cls, found: Mapping[str, Any]) -> Self:
        """What `encode` wrote."""
        options = Options.from_environment(found["options"])
        return cls(found["name"], Path(found["checkpoint"]), options, tuple(found["aliases"]))


@dataclass(frozen=True)
class ServedModel:
    """One model that requests may name.

    Attributes:
        name: what it is called in replies.
        aliases: what else requests may call it.
        device: where its workers compute.
        special_tokens: how many the tokenizer puts around a text.
        renderer: makes text of messages.
        pairing: makes sequences of a query and its documents; None where it is not known how.
        threads: where longer texts are rendered and tokenised.
        image_processor: how many tokens images have; None for a model of text alone.
        text_places: tokens that are computed for every text, as of `pooling.padding`.
    """

    name: str
    aliases: Sequence[str]
    device: str
    spec: ModelSpec
    tokenizer: Tokenizer
    keys: ModelKeys
    created: int
    special_tokens: int
    renderer: Renderer
    pairing: Pairing | None
    threads: ThreadPoolExecutor
    image_processor: ImageProcessor | None = None
    text_places: int = 0

    @classmethod
    def load(cls, served: Served, created: int, sandbox: Sandbox) -> "ServedModel":
        """Reads the checkpoint's small files."""
        spec = resolve_spec(served.checkpoint, model_options(served.options))
        tokenizer = Tokenizer.from_spec(spec)
        framed, bare = tokenizer.encode(["a"])[0], tokenizer.encode(["a"], add_special_tokens=False)[0]
        template = read_chat_template(served.checkpoint)
        return cls(
            served.name,
            served.aliases,
            served.options.device,
            spec,
            tokenizer,
            ModelKeys(served.name),
            created,
            special_tokens=len(framed) - len(bare),
            renderer=Renderer(
                sandbox,
                template,
                read_special_tokens(served.checkpoint),
                takes_templates=served.options.trust_request_chat_template,
            ),
            pairing=pairing_of(spec, tokenizer, template, sandbox) if "score" in spec.tasks else None,
            threads=ThreadPoolExecutor(2, "tokenize"),
            image_processor=read_image_processor(spec),
            text_places=text_places(spec),
        )

    def computed(self, ids: TokenIds, *, pictured: bool) -> int:
        """How many tokens a worker computes for a sequence, which may be `pictured`, that is have images."""
        if pictured and self.image_processor is not None and self.image_processor.places:
            return self.image_processor.places
        return max(len(ids), self.text_places)

    @property
    def names(self) -> tuple[str, ...]:
        """What requests may call it, its own name first."""
        return (self.name, *self.aliases)

    def check_task(self, *tasks: str) -> None:
        """Raises a 400 that lists what the model is served for, when none of these is among it."""
        if not set(tasks) & set(self.spec.tasks):
            served = " and ".join(f"{each} ({ROUTES[each]})" if each in ROUTES else each for each in self.spec.tasks)
            raise ApiError(
                400,
                f"{self.name} is served for {served}, not for {' or '.join(tasks)}: serve a model that is.",
                param="model",
                code="task_not_supported",
            )

    def prompt(self, name: str | None) -> str:
        """The text before each text that is embedded: the prompt of this name, or the default where there is one.

        Raises:
            ApiError: 400 that lists the prompts, when there is none of this name.
        """
        prompts = self.spec.prompts
        name = prompts.default if name is None else name
        if name is None:
            return ""
        if name not in prompts.texts:
            known = f"its prompts are {', '.join(prompts.texts)}" if prompts.texts else "it has none"
            raise ApiError(
                400, f"{self.name} has no prompt {name!r}: {known}.", param="prompt_name", code="invalid_value"
            )
        return prompts.texts[name]

    async def tokenize(self, texts: Sequence[str], add_special_tokens: bool) -> list[TokenIds]:
        """The texts' token ids, int32 [n] each, without holding up the event loop."""
        return await self.aside(sum(map(len, texts)), self.tokenizer.encode, texts, add_special_tokens)

    async def tokenize_within(
        self, texts: Sequence[str], limit: int, *, add_special_tokens: bool, side: Side = "right"
    ) -> list[TokenIds]:
        """As `tokenize`, at a cost bounded by the limit: of a text with far more tokens, not all come.

        Those within `limit` from the other side than `side` do, and always more than `limit`.
        """

        def encode() -> list[TokenIds]:
            shortened = [self.tokenizer.shortened(text, limit, side) for text in texts]
            return self.tokenizer.encode(shortened, add_special_tokens)

        return await self.aside(sum(map(len, texts)), encode)

    async def aside(self, characters: int, function: Callable[..., T], *arguments: object) -> T:
        """What a function makes of texts with so many characters, without holding up the event loop."""
        if characters <= INLINE_CHARACTERS:
            return function(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *arguments)


class Models:
    """The models that one api process serves, by name."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self._models = models
        self._by_name = {name: model for model in models for name in model.names}

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models)

    def find(self, name: str | None, caller: Caller) -> ServedModel:
        """The model of this name.

        None, "" and "default" mean the served model; of several, the first that the caller may use.

        Raises:
            ApiError: 404 that lists the names that the caller may use, 403 the model is not for the caller's key.
        """
        model = self._by_name.get(name or "")
        if model is None and name in OWN_NAMES:
            model = next((each for each in self._models if caller.may_use(each.names)), self._models[0])
        if model is None:
            known = ", ".join(repr(each) for each, of in self._by_name.items() if caller.may_use(of.names))
            raise ApiError(
                404,
                f"There is no model {name!r} here; served is {known or 'none for this key'} (--served-model-name).",
                param="model",
                code="model_not_found",
            )
        caller.check_model(model.names)
        return model
