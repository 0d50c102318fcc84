"""The HTTP application."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI

from api.canary import Canary
from api.errors import answer_errors
from api.observing import Observing
from api.options import Options
from api.rendering import Sandbox
from api.routes import embeddings, health, models, rerank, reward
from api.serving import ServedModel, served_name
from api.state import State
from scheduler.connection import connect_async
from scheduler.results import Callers

log = logging.getLogger(__name__)


def create_app(options: Options, checkpoint: Path) -> FastAPI:
    """The application of one api process, which serves the model in `checkpoint`."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        assert options.redis_url
        redis = connect_async(options.redis_url)
        sandbox = Sandbox()
        model = ServedModel.load(served_name(options), checkpoint, options, int(time.time()), sandbox)
        if model.renderer.has_template or model.renderer.takes_templates:
            await sandbox.start()
        callers = Callers(redis)
        app.state.millpond = State(options, redis, model, callers, Canary(redis, callers, model))
        listening = asyncio.create_task(callers.run(model.name))
        listening.add_done_callback(_end_process_on_failure)
        yield
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
        await sandbox.close()
        model.threads.shutdown(wait=False, cancel_futures=True)
        await redis.aclose()

    app = FastAPI(
        title="Millpond",
        version=version("millpond"),
        description="Embeddings, rewards and reranking from a durable queue.",
        lifespan=lifespan,
    )
    for module in (embeddings, reward, rerank, models, health):
        app.include_router(module.router)
    answer_errors(app)
    app.add_middleware(Observing)
    return app


def _end_process_on_failure(listening: "asyncio.Task[None]") -> None:
    """A process that hears no wake-ups would keep its callers waiting: the launcher starts another."""
    if not listening.cancelled() and listening.exception() is not None:
        log.critical("this process hears its results no more: ending it", exc_info=listening.exception())
        os.kill(os.getpid(), signal.SIGTERM)
