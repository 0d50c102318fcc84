"""One api process: uvicorn on the socket that the launcher opened."""

import asyncio
import json
import os
import socket
import sys

import uvicorn
import uvloop
from fastapi import FastAPI

from api.app import create_app
from api.options import Options
from api.serving import Served
from api.state import State
from scheduler.logs import set_up_logging
from scheduler.readiness import announce_ready

DRAIN_SECONDS = 22
"""For accepted calls to be answered at a stop; the rest is told to come back, before the launcher's patience ends."""


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it is ready, and at its end answers even those it has no result for."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, detail: str) -> None:
        super().__init__(config)
        self._app = app
        self._detail = detail

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            announce_ready(self._detail)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        state: State = self._app.state.millpond
        state.job_news.stop_waiting()
        alarm = asyncio.get_running_loop().call_later(DRAIN_SECONDS, state.callers.give_up, "Millpond is stopping.")
        await super().shutdown(sockets)
        alarm.cancel()


def main() -> int:
    """Serves until SIGTERM; the exit status."""
    options = Options.from_environment()
    set_up_logging("api", options.log_format)
    app = create_app(options, [Served.decode(each) for each in json.loads(os.environ["MILLPOND_SERVED"])])
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=DRAIN_SECONDS + 2,
        backlog=2048,
    )
    listener = socket.socket(fileno=int(os.environ["MILLPOND_LISTEN_FD"]))
    server = _Server(config, app, f"http://{options.host}:{options.port}")
    uvloop.run(server.serve([listener]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
