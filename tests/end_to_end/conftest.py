"""One running server for all tests that leave it as it was: starting it is the slow part."""

from collections.abc import Iterator

import httpx
import pytest

from tests.server import Millpond, client_of, serving


@pytest.fixture(scope="session")
def server() -> Iterator[Millpond]:
    """`millpond serve` with a tiny model, two api processes and an embedded Redis."""
    with serving("--api-workers", "2", "--max-request-bytes", "1000000") as running:
        yield running


@pytest.fixture
def client(server: Millpond) -> Iterator[httpx.Client]:
    """An HTTP client of the running server."""
    with client_of(server) as plain:
        yield plain
