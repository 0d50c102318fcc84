"""What one api process holds while it serves."""

import uuid
from dataclasses import dataclass
from typing import cast

from fastapi import Request
from redis.asyncio import Redis

from api.canary import Canary
from api.options import Options
from api.serving import ServedModel
from scheduler.results import Callers


@dataclass(frozen=True)
class State:
    """The process's connections and its model; made at start, the same for every request."""

    options: Options
    redis: Redis
    model: ServedModel
    callers: Callers
    canary: Canary

    @staticmethod
    def new_request_id() -> str:
        """A name for a request inside the queue; the caller's own id may come twice."""
        return uuid.uuid4().hex


def state_of(request: Request) -> State:
    """The process's state, from a route."""
    return cast("State", request.app.state.millpond)
