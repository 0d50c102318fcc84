"""The served model as the api sees it: its names, its limits, its tokenizer. No weights, no Paddle."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from api.errors import ApiError, LaunchError
from api.options import Options
from pooling.checkpoint import verify_weights
from pooling.config import ModelOptions, ModelSpec, resolve_spec
from pooling.errors import PoolingError
from pooling.fetch import local_checkpoint
from pooling.tokenizing import Tokenizer
from scheduler.keys import ModelKeys

TokenIds = npt.NDArray[np.int32]

INLINE_CHARACTERS = 2_000
"""Shorter work is tokenised on the event loop: a hop to a thread costs more than its fraction of a millisecond."""

OWN_NAMES = (None, "", "default")
"""What callers write who mean the served model, whatever it is called."""


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
    )


def served_name(options: Options) -> str:
    """The name of the model towards callers: the option, else the hub id, else the directory's name."""
    if options.served_model_name:
        return options.served_model_name
    path = Path(options.model)
    return path.resolve().name if path.is_dir() else options.model


@dataclass(frozen=True)
class ServedModel:
    """One model that requests may name."""

    name: str
    spec: ModelSpec
    tokenizer: Tokenizer
    keys: ModelKeys
    created: int
    special_tokens: int
    threads: ThreadPoolExecutor

    @classmethod
    def load(cls, name: str, directory: Path, options: Options, created: int) -> "ServedModel":
        """Reads the checkpoint's small files."""
        spec = resolve_spec(directory, model_options(options))
        tokenizer = Tokenizer.from_spec(spec)
        framed, bare = tokenizer.encode(["a"])[0], tokenizer.encode(["a"], add_special_tokens=False)[0]
        threads = ThreadPoolExecutor(2, "tokenize")
        return cls(name, spec, tokenizer, ModelKeys(name), created, len(framed) - len(bare), threads)

    def check_name(self, wanted: str | None) -> None:
        """Raises a 404 that lists the served names, when a request names another model."""
        if wanted not in OWN_NAMES and wanted != self.name:
            raise ApiError(
                404,
                f"There is no model {wanted!r} here; served is {self.name!r} (--served-model-name).",
                param="model",
                code="model_not_found",
            )

    def check_task(self, task: str) -> None:
        """Raises a 400 that lists what the model is served for, when that is not among it."""
        if task not in self.spec.tasks:
            raise ApiError(
                400,
                f"{self.name} is served for {', '.join(self.spec.tasks)}, not for {task}: its head gives scores.",
                param="model",
                code="task_not_supported",
            )

    async def tokenize(self, texts: Sequence[str], add_special_tokens: bool) -> list[TokenIds]:
        """The texts' token ids, int32 [n] each, without holding up the event loop."""
        if sum(map(len, texts)) <= INLINE_CHARACTERS:
            return self.tokenizer.encode(texts, add_special_tokens)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, self.tokenizer.encode, texts, add_special_tokens)
