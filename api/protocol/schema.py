"""How a route that reads its body itself tells OpenAPI what it takes."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel


def request_body(model: type[BaseModel]) -> dict[str, Any]:
    """The `openapi_extra` of a route that takes JSON of this form."""
    schema = model.model_json_schema()
    example = schema.pop("example", None)
    content: dict[str, Any] = {"schema": schema} if example is None else {"schema": schema, "example": example}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def either_body(models: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """The `openapi_extra` of a route that takes JSON of one of these forms, by their names."""
    schemas = {name: model.model_json_schema() for name, model in models.items()}
    examples = {name: {"value": schema.pop("example")} for name, schema in schemas.items() if "example" in schema}
    content = {"schema": {"anyOf": list(schemas.values())}, "examples": examples}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}
