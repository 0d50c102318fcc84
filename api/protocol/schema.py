"""How a route that reads its body itself tells OpenAPI what it takes."""

from typing import Any

from pydantic import BaseModel


def request_body(model: type[BaseModel]) -> dict[str, Any]:
    """The `openapi_extra` of a route that takes JSON of this form."""
    schema = model.model_json_schema()
    example = schema.pop("example", None)
    content: dict[str, Any] = {"schema": schema} if example is None else {"schema": schema, "example": example}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}
