"""What fails without being foreseen is answered, named in the log, and counted."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY

from api.error_replies import answer_errors
from api.observing import Observing


def test_a_failure_is_a_500_with_the_id_that_its_log_line_names(caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI()

    @app.post("/fails")
    async def fails() -> None:
        raise RuntimeError("the wheel is stuck")

    answer_errors(app, {})
    app.add_middleware(Observing)

    async def post() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:
            return await client.post("/fails", headers={"X-Request-Id": "mine"})

    reply = asyncio.run(post())
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "internal")
    assert reply.headers["x-request-id"] == "mine"
    assert "POST /fails failed, request mine" in caplog.text
    assert "the wheel is stuck" in caplog.text
    assert REGISTRY.get_sample_value("millpond_requests_total", {"route": "/fails", "status": "500"}) == 1
