"""A dialect: routes that the clients of one server or vendor know, and the form in which they read errors."""

from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import APIRouter
from starlette.routing import Route

from api.errors import ErrorForm, openai_error


@dataclass(frozen=True)
class Dialect:
    """Routes and their form of errors."""

    router: APIRouter
    error_form: ErrorForm = openai_error

    @property
    def paths(self) -> Iterator[str]:
        """The paths of its routes."""
        return (route.path for route in self.router.routes if isinstance(route, Route))
