"""The worker process: prepares the device, loads the engine, and consumes micro-batches."""

import io
import logging
import sys
import time
from contextlib import redirect_stderr
from dataclasses import replace

from pooling.config import resolve_spec
from pooling.device import multiplies_narrowly, prepare_process, threads_for
from pooling.errors import PoolingError
from scheduler.connection import check_server, connect
from scheduler.cost import Sample
from scheduler.errors import SchedulerError
from scheduler.logs import set_up_logging
from scheduler.memory import keep_small
from scheduler.readiness import announce_ready, announce_refusal
from workers.errors import WorkerError
from workers.settings import WorkerSettings

log = logging.getLogger("workers")

EXIT_CONFIGURATION = 2


def main() -> int:
    """Serves until SIGTERM; the exit status, 2 when the settings or the checkpoint cannot be used."""
    try:
        settings = WorkerSettings.from_environment()
        set_up_logging("worker", settings.log_format)
        return serve(settings)
    except (PoolingError, SchedulerError, WorkerError) as error:
        announce_refusal(str(error))
        return EXIT_CONFIGURATION


def serve(settings: WorkerSettings) -> int:
    """Loads the engine and consumes until SIGTERM."""
    began = time.monotonic()
    keep_small()
    redis = connect(settings.redis_url)
    check_server(redis)
    threads = threads_for(settings.workers * settings.tensor_parallel_size)
    precision = settings.model_options.float32_matmul_precision
    variables = prepare_process(settings.device, threads, precision)
    if precision != "highest" and not multiplies_narrowly():
        log.warning("this processor has no AMX: --float32-matmul-precision %s makes no difference", precision)
    log.info("environment for paddle: %s", " ".join(f"{name}={value}" for name, value in variables.items()))
    # Imported only now: Paddle reads its environment when it is loaded. What it prints meanwhile is about compilers and
    # threads, and not for the user.
    with redirect_stderr(io.StringIO()):
        from pooling.engine import Engine
    from pooling.memory import fitting_tokens
    from pooling.vision.processors import read_image_processor
    from workers.app import serve_batches
    from workers.engine_thread import EngineThread
    from workers.profiling import profile
    from workers.resident import Resident

    spec = resolve_spec(settings.checkpoint, settings.model_options)

    def load() -> tuple[Engine, int, list[Sample]]:
        followers = None
        if settings.tensor_parallel_size > 1:
            from pooling.ranks import Ranks

            followers = Ranks.start(
                settings.tensor_parallel_size, settings.checkpoint, settings.model_options, settings.device, threads
            )
        engine = Engine.load(spec, settings.device, followers, enforce_eager=settings.enforce_eager)
        tokens = fitting_tokens(
            engine,
            settings.device,
            max_num_batched_tokens=settings.max_num_batched_tokens,
            max_num_seqs=settings.max_num_seqs,
            utilization=settings.gpu_memory_utilization,
        )
        engine.warm_up(tokens, settings.max_num_seqs)
        return engine, tokens, profile(engine, tokens, settings.max_num_seqs)

    engine_thread = EngineThread()
    engine, tokens, samples = engine_thread.submit(load).result()
    seconds = time.monotonic() - began
    log.info("%s loaded and warm in %.1f s", settings.model, seconds)
    settings = replace(settings, max_num_batched_tokens=tokens)
    resident = Resident(redis, engine, engine_thread, settings, samples, read_image_processor(spec))
    return serve_batches(settings, resident, lambda: announce_ready(f"{settings.model} on {settings.device}"))


if __name__ == "__main__":
    sys.exit(main())
