"""The HTTP application."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from api.admission import bounds_of
from api.authenticating import Authenticating
from api.canary import Canary
from api.deadlines import Punctual
from api.depths import QueueDepths
from api.dialect import Dialect
from api.error_replies import answer_errors
from api.jobs.watching import JobNews
from api.keyring import Keyring
from api.media.fetching import Media
from api.media.references import MediaLimits
from api.observing import Observing
from api.options import Options
from api.preferring import Preferring
from api.protocol.cohere import CohereError, cohere_error
from api.protocol.reranking import RerankError, rerank_error
from api.protocol.tokens import TeiError, tei_error
from api.protocol.vllm import VllmError, vllm_error
from api.rendering import Sandbox
from api.routes import (
    batches,
    cohere,
    embeddings,
    files,
    health,
    infinity,
    jobs,
    models,
    openrlhf,
    rerank,
    reward,
    rows,
    tei,
    tokens,
    vllm,
)
from api.serving import Models, Served, ServedModel
from api.state import State
from scheduler.connection import connect_async
from scheduler.results import Callers

log = logging.getLogger(__name__)


DIALECTS: tuple[Dialect, ...] = (
    Dialect(embeddings.router),
    Dialect(reward.router),
    Dialect(rerank.router, rerank_error, RerankError),
    Dialect(cohere.router, cohere_error, CohereError),
    Dialect(vllm.router, vllm_error, VllmError),
    Dialect(tokens.router, vllm_error, VllmError | TeiError, pools=False),
    Dialect(tokens.tei_router, tei_error, TeiError, pools=False),
    Dialect(tei.router, tei_error, TeiError),
    Dialect(infinity.router),
    Dialect(openrlhf.router),
    Dialect(rows.router),
    Dialect(models.router, pools=False),
    Dialect(jobs.router, pools=False),
    Dialect(files.router, pools=False),
    Dialect(batches.router, pools=False),
    Dialect(health.router, pools=False),
)
"""Every route, with the form in which its clients read errors."""


def create_app(options: Options, served: Sequence[Served]) -> FastAPI:
    """The application of one api process, which serves these models, one at least."""
    keyring = Keyring.of(options)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        assert options.redis_url
        redis = connect_async(options.redis_url)
        created = int(time.time())
        sandbox = Sandbox()
        models = Models([ServedModel.load(each, created, sandbox) for each in served])
        if any(model.renderer.has_template or model.renderer.takes_templates for model in models):
            await sandbox.start()
        callers = Callers(redis, bounds_of(options))
        canaries = tuple(Canary(redis, callers, model) for model in models)
        job_news = JobNews(redis)
        media = Media(MediaLimits.of(options))
        app.state.millpond = State(
            options, redis, models, callers, canaries, keyring, job_news, QueueDepths(redis), media
        )
        duties = [
            asyncio.create_task(callers.run([model.name for model in models])),
            asyncio.create_task(keyring.watch()),
        ]
        for duty in duties:
            duty.add_done_callback(_end_process_on_failure)
        yield
        for duty in duties:
            duty.cancel()
        await asyncio.gather(*duties, return_exceptions=True)
        await job_news.close()
        await sandbox.close()
        await media.close()
        for model in models:
            model.threads.shutdown(wait=False, cancel_futures=True)
        await redis.aclose()

    app = FastAPIOffline(
        redoc_url=None,
        title="Millpond",
        version=version("millpond"),
        description="Embeddings, rewards and reranking from a durable queue.",
        lifespan=lifespan,
    )
    for dialect in DIALECTS:
        app.include_router(dialect.router, responses=dialect.error_responses)
    answer_errors(app, {path: dialect.error_form for dialect in DIALECTS for path in dialect.paths})
    app.state.pooling_routes = {route.path: route for dialect in DIALECTS for route in dialect.pooling_routes}
    app.add_middleware(Preferring)
    app.add_middleware(Punctual, timeout=options.request_timeout)
    app.add_middleware(Authenticating, keyring=keyring)
    app.add_middleware(Observing)
    return app


def _end_process_on_failure(duty: "asyncio.Task[None]") -> None:
    """A process that hears no wake-ups would keep its callers waiting, and one that sees no key change would let in who
    may not come: the launcher starts another."""
    if not duty.cancelled() and duty.exception() is not None:
        log.critical("this process does its duty no more: ending it", exc_info=duty.exception())
        os.kill(os.getpid(), signal.SIGTERM)
