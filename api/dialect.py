"""A dialect: routes that the clients of one server or vendor know, and the form in which they read errors."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.routing import Route

from api.errors import ErrorForm, openai_error


class ErrorBody(BaseModel):
    """What is wrong: for people, for programs, and in which field."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(BaseModel):
    """An error in OpenAI's form."""

    error: ErrorBody


@dataclass(frozen=True)
class Dialect:
    """Routes and their form of errors.

    Attributes:
        error_form: what becomes of an error.
        error_model: what its body is, for the OpenAPI document.
        pools: whether its calls bring something to a model, so that they may be jobs.
    """

    router: APIRouter
    error_form: ErrorForm = openai_error
    error_model: Any = field(default=OpenAIError)
    pools: bool = True

    @property
    def paths(self) -> Iterator[str]:
        """The paths of its routes."""
        return (route.path for route in self.router.routes if isinstance(route, Route))

    @property
    def pooling_routes(self) -> Iterator[Route]:
        """The routes whose calls may be jobs."""
        routes = (route for route in self.router.routes if isinstance(route, Route))
        return (route for route in routes if self.pools and "POST" in (route.methods or ()))

    @property
    def error_responses(self) -> dict[int | str, dict[str, Any]]:
        """What every route of it may answer beside its result."""
        return {
            "4XX": {"model": self.error_model, "description": "The request is wrong, or not allowed, and this is why."},
            "5XX": {"model": self.error_model, "description": "Try again later, or look into the server's log."},
        }
