"""What one api process holds while it serves."""

import uuid
from dataclasses import dataclass
from typing import cast

from fastapi import Request
from redis.asyncio import Redis

from api.callers import Caller
from api.canary import Canary
from api.depths import QueueDepths
from api.jobs.watching import JobNews
from api.keyring import Keyring
from api.media.fetching import Media
from api.options import Options
from api.serving import Models, ServedModel
from api.timings import Timings
from scheduler.results import Callers


@dataclass(frozen=True)
class State:
    """The process's connections and its models; made at start, the same for every request.

    Attributes:
        canaries: one for each model.
        job_news: how those who wait for a job hear of its end.
        depths: how much waits in the lanes.
        media: fetches the images that requests name.
    """

    options: Options
    redis: Redis
    models: Models
    callers: Callers
    canaries: tuple[Canary, ...]
    keyring: Keyring
    job_news: JobNews
    depths: QueueDepths
    media: Media

    @staticmethod
    def new_request_id() -> str:
        """A name for a request inside the queue; the caller's own id may come twice."""
        return uuid.uuid4().hex


def state_of(request: Request) -> State:
    """The process's state, from a route."""
    return cast("State", request.app.state.millpond)


def timings_of(request: Request) -> Timings:
    """The request's marks."""
    return cast("Timings", request.state.timings)


def caller_of(request: Request) -> Caller:
    """Who calls, by the key of the request."""
    return cast("Caller", request.state.caller)


def named_model(request: Request, name: str | None) -> ServedModel:
    """The model that a request names, whatever it is served for.

    Args:
        name: as the request writes it; None, "" and "default" mean the served model, of several the first that the
            caller may use.

    Raises:
        ApiError: 404 there is none of this name, 403 it is not for the caller's key.
    """
    model = state_of(request).models.find(name, caller_of(request))
    timings = timings_of(request)
    timings.model, timings.device = model.name, model.device
    return model


def chosen_model(request: Request, name: str | None, *tasks: str) -> ServedModel:
    """The model that a request names, for one of these tasks.

    Raises:
        ApiError: as `named_model`, and 400 it is served for other tasks.
    """
    model = named_model(request, name)
    model.check_task(*tasks)
    return model
