"""Starts the roles of a command on this machine and keeps them running until Ctrl-C or SIGTERM."""

import asyncio
import json
import logging
import os
import shlex
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector
from redis.exceptions import RedisError

from api import embedded_redis
from api.admission import bounds_of
from api.arguments import Parsed
from api.chosen_models import chosen_models
from api.embedded_redis import Network
from api.errors import LaunchError
from api.exposure import Door
from api.locking import HeldError, hold
from api.options import API, ENVIRONMENT_PREFIX, SCHEDULER, SECRETS, SERVE, WORKER, Options
from api.reaching import check_redis
from api.serving import Served, checkpoint_directory, example_call
from api.supervisor import Role, Supervisor
from scheduler.connection import connect, connect_async
from scheduler.logs import set_up_logging
from scheduler.metrics import QueueCollector

log = logging.getLogger(__name__)

API_STOP_SECONDS = 25.0
"""For the api to answer what it has accepted; with the other roles' stops this stays within 30 seconds."""

JOBS_STOP_SECONDS = 10.0
"""For jobs that run to end; those that do not are left to another process, or to the next start."""

ROLE_STOP_SECONDS = 1.5
"""For a role that has nothing left to do by then."""

LOCAL_REDIS = "redis://127.0.0.1:6379/0"


def launch(command: str, parsed: Parsed) -> int:
    """Runs a command's roles until it is told to stop; the exit status.

    Raises:
        LaunchError: it cannot start.
    """
    set_up_logging("launcher", parsed.options.log_format)
    # The roles inherit this process's environment, and only the api and its jobs are to know the secrets.
    for name in SECRETS:
        os.environ.pop(ENVIRONMENT_PREFIX + name.upper(), None)
    return asyncio.run(_Launch(command, parsed).run())


@dataclass(frozen=True)
class _Plan:
    """What is settled before the first role starts.

    Attributes:
        shared_environment: what every role is told beside its options: where Redis and the metrics are.
        api_environment: what only the api and the processes of its jobs are told.
        served: the models of api and workers; none where there is neither.
        network: how others reach the embedded Redis, where they may.
    """

    shared_environment: dict[str, str]
    api_environment: dict[str, str]
    served: tuple[Served, ...]
    listener: socket.socket | None
    redis_url: str
    network: Network | None


class _Launch:
    def __init__(self, command: str, parsed: Parsed) -> None:
        self._command = command
        self._options = parsed.options
        self._models = chosen_models(parsed) if self._has(API) or self._has(WORKER) else ()
        self._open = ExitStack()

    async def run(self) -> int:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        with self._open:
            plan = self._prepare()
            supervisor = Supervisor(self._say)
            stopping = asyncio.create_task(stop.wait())
            starting = asyncio.create_task(self._start(supervisor, plan))
            try:
                await asyncio.wait((stopping, starting), return_when=asyncio.FIRST_COMPLETED)
                if starting.done():
                    starting.result()
                    if plan.listener:
                        self._show_curl(plan)
                    await stopping
                self._say("stopping")
            finally:
                starting.cancel()
                if plan.listener:
                    plan.listener.close()
                await supervisor.stop()
        return 0

    def _has(self, role: str) -> bool:
        return self._command in (SERVE, role)

    def _say(self, line: str) -> None:
        """One line for the user: on standard output, or as JSON with the rest of the log."""
        if self._options.log_format == "json":
            log.info("%s", line)
        else:
            print(line, flush=True)

    def _prepare(self) -> _Plan:
        """Checks all that can be checked before a process is started."""
        options = self._options
        directory = self._data_directory() if self._embeds_redis else None
        network = self._network(directory)
        redis_url = options.redis_url or (embedded_redis.server_url(directory, network) if directory else LOCAL_REDIS)
        listener = self._open.enter_context(_listen(options.host, options.port, "--port")) if self._has(API) else None
        door = Door.of(options) if listener else None
        if listener and door:
            door.check(listener.getsockname()[0])
            self._say(door.told(options.host))
        metrics_port = options.metrics_port or (options.port + 1 if self._has(API) else None)
        if metrics_port:
            _listen(options.host, metrics_port, "--metrics-port").close()
        served = self._served()
        if not directory:
            check_redis(redis_url, "--redis-url")
        if options.broker_url:
            check_redis(options.broker_url, "--broker-url")
        shared = {
            "MILLPOND_REDIS_URL": redis_url,
            "MILLPOND_BROKER_URL": options.broker_url or redis_url,
        }
        if metrics_port:
            shared["PROMETHEUS_MULTIPROC_DIR"] = self._serve_metrics(metrics_port, redis_url)
        api_environment = {**door.environment, **_webhook_secrets(options)} if door else {}
        return _Plan(shared, api_environment, served, listener, redis_url, network)

    def _served(self) -> tuple[Served, ...]:
        """The models with their local, verified checkpoints."""
        served = []
        for model in self._models:
            try:
                directory = checkpoint_directory(model.options)
            except LaunchError as error:
                raise (LaunchError(f"{model.name}: {error}") if len(self._models) > 1 else error) from error
            served.append(Served(model.name, directory, model.options, model.aliases))
        return tuple(served)

    def _network(self, directory: Path | None) -> Network | None:
        """How the embedded Redis is reached from elsewhere on this machine, if it is to be."""
        port = self._options.engine_worker_queue_port
        if port is None:
            return None
        if directory is None:
            raise LaunchError(
                "--engine-worker-queue-port is for the embedded Redis: leave it out where --redis-url is given, which "
                "other workers can be given too."
            )
        _listen("127.0.0.1", port, "--engine-worker-queue-port").close()
        return Network.on(port, directory)

    @property
    def _embeds_redis(self) -> bool:
        return self._command == SERVE and self._options.redis_url is None

    def _data_directory(self) -> Path:
        """The data directory, made and locked."""
        directory = self._options.data_dir.absolute()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o700)
            lock = self._open.enter_context((directory / "lock").open("a+"))
        except OSError as error:
            raise LaunchError(f"{directory} cannot be used: {error.strerror}. Choose another --data-dir.") from error
        _lock(lock, directory)
        return directory

    def _serve_metrics(self, port: int, redis_url: str) -> str:
        """Serves the roles' metrics from a thread; the directory through which they come here."""
        folder = tempfile.mkdtemp(prefix="millpond-metrics-")
        self._open.callback(shutil.rmtree, folder, ignore_errors=True)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
        bounds = bounds_of(self._options) if self._has(API) else None
        registry.register(QueueCollector(connect(redis_url), bounds))
        server, _ = start_http_server(port, self._options.host, registry)
        assert isinstance(server, WSGIServer)
        self._open.callback(server.server_close)
        self._open.callback(server.shutdown)
        return folder

    async def _start(self, supervisor: Supervisor, plan: _Plan) -> None:
        if self._embeds_redis:
            await supervisor.start([self._redis_role(plan)])
        # They stop in the reverse order: the api first, then what it waits for. It starts last, so that nothing is
        # answered for a checkpoint that the worker then refuses.
        await supervisor.start(self._workers(plan), self._schedulers(plan))
        await supervisor.start(self._apis(plan))
        if plan.network:
            path = plan.network.write_url(self._options.data_dir.absolute())
            self._say(
                f'more workers join with: millpond worker --redis-url "$(cat {shlex.quote(str(path))})" --model ...'
            )

    def _workers(self, plan: _Plan) -> list[Role]:
        """The workers of each model, which bears its name where there are several."""
        if not self._has(WORKER):
            return []
        roles = []
        for served in plan.served:
            suffix = "" if len(plan.served) == 1 else f" of {served.name}"
            environment = {
                **served.options.environment(),
                **plan.shared_environment,
                "MILLPOND_CHECKPOINT": str(served.checkpoint),
                "MILLPOND_SERVED_MODEL_NAME": served.name,
                "MILLPOND_MAX_NUM_BATCHED_TOKENS": str(_batched_tokens(served.options)),
            }
            roles += self._roles("workers", "workers", served.options.workers, environment, suffix=suffix)
        return roles

    def _schedulers(self, plan: _Plan) -> list[Role]:
        if not self._has(SCHEDULER):
            return []
        return self._roles("scheduler", "scheduler", 1, {**self._options.environment(), **plan.shared_environment})

    def _apis(self, plan: _Plan) -> list[Role]:
        if not plan.listener:
            return []
        environment = {
            **self._options.environment(),
            **plan.shared_environment,
            **plan.api_environment,
            "MILLPOND_SERVED": json.dumps([served.encode() for served in plan.served]),
        }
        listening = {**environment, "MILLPOND_LISTEN_FD": str(plan.listener.fileno())}
        return [
            *self._roles("api", "api", self._options.api_workers, listening, listener=plan.listener),
            *self._roles("jobs", "api.jobs", self._options.job_workers, environment, stop_seconds=JOBS_STOP_SECONDS),
        ]

    def _roles(
        self,
        name: str,
        module: str,
        count: int,
        environment: dict[str, str],
        *,
        suffix: str = "",
        listener: socket.socket | None = None,
        stop_seconds: float | None = None,
    ) -> list[Role]:
        alone = listener or self._command != SERVE
        return [
            Role(
                name=(name if count == 1 else f"{name} {number + 1}") + suffix,
                command=[sys.executable, "-m", module],
                environment=environment,
                descriptors=[listener.fileno()] if listener else [],
                stop_seconds=stop_seconds or (API_STOP_SECONDS if alone else ROLE_STOP_SECONDS),
            )
            for number in range(count)
        ]

    def _redis_role(self, plan: _Plan) -> Role:
        server, version = embedded_redis.find_server()
        directory = self._options.data_dir.absolute()

        async def probe() -> str:
            redis = connect_async(plan.redis_url)
            while True:
                try:
                    await redis.ping()
                    break
                except (RedisError, OSError):
                    await asyncio.sleep(0.02)
            await redis.aclose()
            return f"{Path(server).name} {version} in {directory}"

        command = embedded_redis.server_command(server, directory, plan.network, self._options.appendfsync)
        return Role("redis", command, probe=probe, stop_seconds=2.0)

    def _show_curl(self, plan: _Plan) -> None:
        options, served = self._options, plan.served[0]
        route, fields = example_call(served.checkpoint, served.options)
        body = json.dumps({"model": served.name, **fields})
        url = f"http://{_in_url(options.host)}:{options.port}{route}"
        key = ' -H "Authorization: Bearer $MILLPOND_API_KEY"' if plan.api_environment else ""
        self._say(f"serving; try:\n  curl -s {url}{key} -H 'Content-Type: application/json' -d {shlex.quote(body)}")


def _lock(lock: IO[str], directory: Path) -> None:
    try:
        hold(lock)
    except HeldError as error:
        raise LaunchError(
            f"{directory} is held by another Millpond (process {error.process}): stop that one, or choose another "
            "--data-dir."
        ) from error


def _listen(host: str, port: int, flag: str) -> socket.socket:
    """A socket that listens, which the api processes inherit: what they have not accepted survives their death."""
    try:
        return socket.create_server((host, port), backlog=2048, reuse_port=False, family=_family(host))
    except OSError as error:
        raise LaunchError(f"{host}:{port} cannot be listened on: {error.strerror}. Choose another {flag}.") from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _in_url(host: str) -> str:
    """The host as a client on this machine writes it."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _webhook_secrets(options: Options) -> dict[str, str]:
    """With what webhooks are signed, as variables."""
    secrets = ",".join(secret.get_secret_value() for secret in options.webhook_secret)
    return {"MILLPOND_WEBHOOK_SECRET": secrets} if secrets else {}


def _batched_tokens(options: Options) -> int:
    """The token budget of a micro-batch: small on a cpu, where a longer batch is no faster and keeps others waiting."""
    if options.max_num_batched_tokens:
        return options.max_num_batched_tokens
    return 2048 if options.device == "cpu" else 16384
