"""The model that rows are scored by, as it is served: of the command's own server, or of one that runs."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from api.bulk.client import Endpoint, refusal
from api.bulk.errors import BulkError
from api.options import Options
from api.serving import checkpoint_directory, model_options
from pooling.config import resolve_spec

_TASKS = {"score": ("reward", "classify", "score"), "embed": ("embed",), "rerank": ("score",)}
"""Of which a model must have one, for each command."""

_INSTEAD = {"embed": "`millpond embed`", "score": "`millpond rerank` or `millpond score`", "reward": "`millpond score`"}


@dataclass(frozen=True)
class ScoringModel:
    """A model.

    Attributes:
        name: what it is called in calls; None where the server has only one.
        fingerprint: what its results depend on, as 16 hex digits.
        max_model_len: the longest sequence, in tokens.
    """

    name: str | None
    fingerprint: str
    max_model_len: int


def own_model(options: Options, kind: str) -> ScoringModel:
    """The model that the command's own server will serve; raises as `checkpoint_directory` does, and BulkError."""
    spec = resolve_spec(checkpoint_directory(options), model_options(options))
    _check_task(options.model, list(spec.tasks), kind)
    return ScoringModel(None, spec.fingerprint, spec.max_model_len)


async def served_model(endpoint: Endpoint, name: str | None, kind: str) -> ScoringModel:
    """The model of a server that runs.

    Raises:
        BulkError: the server cannot be reached, lets nobody in, or does not serve it.
    """
    path = f"/v1/models/{quote(name)}" if name else "/v1/models"
    try:
        async with endpoint.client() as client:
            reply = await client.get(path, timeout=30.0)
    except httpx.HTTPError as error:
        raise BulkError(
            f"The server at {endpoint.url} cannot be reached ({str(error) or type(error).__name__}): start it, or "
            "correct --server."
        ) from error
    if reply.status_code != 200:
        raise BulkError(refusal(reply))
    try:
        models: list[dict[str, Any]] = [reply.json()] if name else reply.json()["data"]
        found = [ScoringModel(each["id"], each["fingerprint"], each["max_model_len"]) for each in models]
        tasks = [list(each["tasks"]) for each in models]
    except (ValueError, KeyError, TypeError) as error:
        raise BulkError(f"{endpoint.url} does not answer as a Millpond of this version: correct --server.") from error
    if len(found) != 1:
        names = ", ".join(str(each.name) for each in found) or "(none for this key)"
        raise BulkError(f"{endpoint.url} serves {len(found)} models: give --model one of {names}.")
    _check_task(str(found[0].name), tasks[0], kind)
    return found[0]


def _check_task(name: str, tasks: list[str], kind: str) -> None:
    if not set(tasks) & set(_TASKS[kind]):
        instead = " or ".join(dict.fromkeys(_INSTEAD[task] for task in tasks if task in _INSTEAD)) or "another model"
        raise BulkError(f"{name} cannot {kind}: it is a model for {', '.join(tasks) or 'nothing'}; use {instead}.")
