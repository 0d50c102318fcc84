"""The documents that the server gives of itself: /docs without the internet, and an OpenAPI document with examples."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.server import client_of, serving


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving() as server, client_of(server) as client:
        yield client


def test_the_docs_load_nothing_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/docs").text
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert loaded
    for address in loaded:
        assert address.startswith("/"), address
        assert client.get(address).status_code == 200, address


def test_every_route_is_described_and_every_body_has_an_example(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], path
            if method == "post" and "requestBody" in operation:
                (content,) = operation["requestBody"]["content"].values()
                assert "example" in content or "examples" in content, path
            assert "4XX" in operation["responses"], path


def test_the_examples_are_answered(client: httpx.Client) -> None:
    """What the model served here cannot do is refused for that reason, and a batch of a file that is not there."""
    reasons = "is served for embed|has no chat template|gives no sparse|There is no file 'file-abc'"
    document = client.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for body in _examples(operations.get("post", {})):
            reply = client.post(path, json=body)
            if not reply.is_success:
                assert re.search(reasons, reply.text), (path, reply.text)


def _examples(operation: dict[str, Any]) -> list[Any]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    if "example" in content:
        return [content["example"]]
    return [each["value"] for each in content.get("examples", {}).values()]
