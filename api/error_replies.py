"""The one place where errors become HTTP replies."""

import logging
from collections.abc import Mapping

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import Scope

from api.errors import ApiError, ErrorForm, Rehearsed, not_durable, openai_error, overloaded
from scheduler.errors import NotDurableError, QueueUnavailableError

log = logging.getLogger(__name__)


def error_response(scope: Scope, error: ApiError) -> Response:
    """An error in the form of the dialect that the request speaks.

    That is what whoever calls the route in a client's place has put into `asked_error_form` of its state; else what the
    route has put into `request.state.error_form`, where one path serves two dialects; else the form of the path
    (`app.state.error_forms`); else OpenAI's.
    """
    state = scope.get("state", {})
    form: ErrorForm = (
        state.get("asked_error_form")
        or state.get("error_form")
        or scope["app"].state.error_forms.get(scope["path"], openai_error)
    )
    status, body = form(error)
    return Response(orjson.dumps(body), status, error.headers, media_type="application/json")


def answer_errors(app: FastAPI, forms: Mapping[str, ErrorForm]) -> None:
    """Makes every error that is foreseen an answer; `api.observing` answers the rest.

    Args:
        forms: by path, for the routes that do not tell errors in OpenAI's form.
    """
    app.state.error_forms = forms

    async def api_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return error_response(request.scope, error)

    async def http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            message = f"There is no {request.url.path} here. GET /docs lists the routes."
        elif error.status_code == 405:
            message = f"{request.url.path} does not take {request.method}. GET /docs lists the routes."
        else:
            message = str(error.detail)
        return error_response(request.scope, ApiError(error.status_code, message, headers=error.headers))

    async def queue_unavailable(request: Request, error: Exception) -> Response:
        log.warning("%s", error)
        return error_response(request.scope, overloaded(f"{error} Try again.", 5))

    async def keeps_nothing(request: Request, error: Exception) -> Response:
        return error_response(request.scope, not_durable(error))

    async def rehearsed(request: Request, error: Exception) -> Response:
        return Response(status_code=204)

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(Rehearsed, rehearsed)
    app.add_exception_handler(NotDurableError, keeps_nothing)
    app.add_exception_handler(HTTPException, http_exception)
    app.add_exception_handler(QueueUnavailableError, queue_unavailable)
