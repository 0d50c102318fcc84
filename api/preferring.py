"""`Prefer: respond-async` and `Prefer: wait=N` (RFC 7240): a synchronous call that becomes a job."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.answering import lane_of
from api.body import read_bytes
from api.deadlines import deadline_of
from api.error_replies import error_response
from api.errors import ApiError, not_durable, overloaded
from api.jobs.submitting import accepted, idempotency_key_of
from api.protocol.jobs import LONGEST_WAIT
from api.replaying import LANE_HEADER, Reply
from api.routes.jobs import accepted_response, new_job_id, result_response, watched
from api.state import caller_of, state_of, timings_of
from scheduler.errors import NotDurableError, QueueUnavailableError
from scheduler.jobs import NewJob
from scheduler.keys import Lane

KEPT_HEADERS = ("accept", "content-type")
"""What a route looks at beside its body and its lane."""

DEADLINE_MARGIN = 0.5
"""Seconds: a caller that waits until its deadline still hears where its job is."""


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a caller prefers to waiting for the reply.

    Attributes:
        asynchronous: to hear at once where the reply will be.
        wait: to wait so many seconds at most; None where it says nothing of it.
    """

    asynchronous: bool = False
    wait: int | None = None

    @classmethod
    def of(cls, headers: Sequence[str]) -> Self:
        """Of the values of its Prefer headers. What is not known or not well formed is ignored, as the RFC asks."""
        found: dict[str, str] = {}
        for entry in ",".join(headers).split(","):
            name, _, value = entry.partition(";")[0].partition("=")
            # Of several with one name the first counts.
            found.setdefault(name.strip().lower(), value.strip().strip('"'))
        wait = found.get("wait", "")
        seconds = int(wait) if wait.isascii() and wait.isdigit() and len(wait) < 10 else None
        return cls("respond-async" in found, None if seconds is None else min(seconds, int(LONGEST_WAIT)))

    @property
    def wants_job(self) -> bool:
        """Whether it asks for anything that makes a call a job."""
        return self.asynchronous or self.wait is not None


class Preferring:
    """ASGI middleware: makes a job of a call whose caller prefers it; others pass after a look at their headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection."""
        if scope["type"] == "http":
            given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"prefer"]
            if given and _may_be_job(scope):
                preferences = Preferences.of(given)
                if preferences.wants_job:
                    scope["route"] = scope["app"].state.pooling_routes[scope["path"]]
                    response = await _answered(Request(scope, receive), preferences)
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)


def _may_be_job(scope: Scope) -> bool:
    return scope["method"] == "POST" and scope["path"] in scope["app"].state.pooling_routes


async def _answered(request: Request, preferences: Preferences) -> Response:
    """The reply, or why there is none, in the form of the call's dialect."""
    try:
        return await _job_response(request, preferences)
    except ApiError as error:
        return error_response(request.scope, error)
    except QueueUnavailableError as error:
        return error_response(request.scope, overloaded(f"{error} Try again.", 5))
    except NotDurableError as error:
        return error_response(request.scope, not_durable(error))


async def _job_response(request: Request, preferences: Preferences) -> Response:
    done = await accepted(request, await _new_job(request))
    if isinstance(done, Reply):
        return Response(done.body, done.status, done.headers)
    if preferences.wait is not None:
        left = deadline_of(request).left(timings_of(request)) - DEADLINE_MARGIN
        seconds = max(0.0, min(preferences.wait, left))
        found = await watched(request, done.job_id, seconds, lambda found: found.job.status.is_final)
        if found.job.status.is_final:
            applied = {"Preference-Applied": f"wait={preferences.wait}", "Location": f"/v1/jobs/{done.job_id}"}
            if done.replayed:
                applied["Idempotent-Replayed"] = "true"
            return result_response(found, applied)
    return await accepted_response(request, done, {"Preference-Applied": "respond-async"})


async def _new_job(request: Request) -> NewJob:
    key, caller = idempotency_key_of(request), caller_of(request)
    lane = lane_of(request.headers.get(LANE_HEADER, Lane.JOB))
    return NewJob(
        new_job_id(),
        caller.name,
        request.url.path,
        await read_bytes(request),
        {name: request.headers[name] for name in KEPT_HEADERS if name in request.headers},
        lane,
        state_of(request).options.job_timeout * 1000,
        caller.concurrency or 0,
        idempotency_key=key,
    )
