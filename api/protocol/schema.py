"""How a route that reads its body itself tells OpenAPI what it takes."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel


def request_body(model: type[BaseModel]) -> dict[str, Any]:
    """The `openapi_extra` of a route that takes JSON of this form."""
    schema = model.model_json_schema()
    schema = _inlined(schema, schema.pop("$defs", {}))
    example = schema.pop("example", None)
    content: dict[str, Any] = {"schema": schema} if example is None else {"schema": schema, "example": example}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def either_body(models: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """The `openapi_extra` of a route that takes JSON of one of these forms, by their names."""
    schemas = {name: model.model_json_schema() for name, model in models.items()}
    examples = {name: {"value": schema.pop("example")} for name, schema in schemas.items() if "example" in schema}
    content = {"schema": {"anyOf": list(schemas.values())}, "examples": examples}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def query_parameters(model: type[BaseModel]) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads these parameters of its query itself."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    return {
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": _inlined(each, definitions)}
            for name, each in schema["properties"].items()
        ]
    }


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """A schema with what it refers to in its place: references lead nowhere outside their own document."""
    if isinstance(schema, list):
        return [_inlined(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {name: _inlined(each, definitions) for name, each in schema.items()}
