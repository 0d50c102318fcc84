"""The service that works on batches: validates them, runs their chunks, and brings them to their end."""

import asyncio
import hashlib
import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import orjson
from fastapi import FastAPI
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.batches.chunks import Runner
from api.batches.finishing import Ended, Ending, read_chunk
from api.batches.places import folder, index_name, part_name
from api.batches.validating import validate
from api.files.storage import Storage, content_name, storage_of
from api.protocol.files import BATCH_OUTPUT
from api.state import State
from api.webhooks.events import webhook_about
from api.webhooks.target import Target
from scheduler import batches
from scheduler.batches import FINISH, VALIDATE, Part, Word
from scheduler.connection import is_passing, persist
from scheduler.errors import QueueUnavailableError
from scheduler.files import StoredFile, remove_file
from scheduler.keys import EXPIRING_FILES, batch_chunks, batch_key, file_key
from scheduler.lua import Argument, Step

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""How often a process that has nothing to do looks for work."""

RENEWAL_SECONDS = 1.0
"""How often leases are renewed; how long a cancelled batch goes on at most."""

SWEEP_SECONDS = 60.0
"""How often files are looked for whose time is over."""

WRITE_SECONDS = 60.0
"""For which a result is held while Redis is away; after that the part is done again."""

PARTS_AT_ONCE = 3
"""Parts that a process works on: while the last lines of a chunk run, those of the next do too."""


@dataclass
class _Held:
    part: Part
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None


async def run_batches(app: FastAPI, stopping: asyncio.Event) -> None:
    """Works on batches until `stopping` is set; what it holds then it gives back."""
    await _Batches(app).run(stopping)


class _Batches:
    def __init__(self, app: FastAPI) -> None:
        state: State = app.state.millpond
        self._app = app
        self._state = state
        self._redis: Redis = state.redis
        self._storage: Storage = storage_of(app.state)
        self._places = asyncio.Semaphore(state.options.job_concurrency)
        self._held: dict[str, _Held] = {}

    async def run(self, stopping: asyncio.Event) -> None:
        keeping = [asyncio.create_task(self._renew()), asyncio.create_task(self._sweep())]
        try:
            while not stopping.is_set():
                await self._first(stopping, 0.0 if await self._take() else LOOK_SECONDS)
        finally:
            for each in keeping:
                each.cancel()
            for held in list(self._held.values()):
                if held.task is not None:
                    held.task.cancel()
            tasks = [held.task for held in self._held.values() if held.task is not None]
            await asyncio.gather(*keeping, *tasks, return_exceptions=True)

    async def _first(self, stopping: asyncio.Event, seconds: float) -> None:
        try:
            await asyncio.wait_for(stopping.wait(), seconds)
        except TimeoutError:
            return

    async def _take(self) -> bool:
        """Begins with a part, if there is one and room for it."""
        if len(self._held) >= PARTS_AT_ONCE:
            return False
        token = uuid.uuid4().hex
        try:
            reply = await batches.claim_part(token, time.time_ns() // 1000).run(self._redis)
        except (RedisError, OSError) as error:
            if not is_passing(error):
                raise
            log.info("batches wait for redis: %s", error)
            return False
        part = batches.claimed_part(reply, token)
        if part is None:
            return False
        held = self._held[token] = _Held(part)
        held.task = asyncio.create_task(self._work(held))
        return True

    async def _work(self, held: _Held) -> None:
        part = held.part
        try:
            found = await self._redis.hgetall(batch_key(part.batch_id))
            batch = {name.decode(): value for name, value in found.items()}
            if part.name == VALIDATE:
                await self._validate(part, batch)
            elif part.name == FINISH:
                await self._finish(part, batch)
            else:
                await self._run_chunk(held, batch)
        except asyncio.CancelledError:
            await self._give_back(part)
            raise
        except Exception:
            # Whatever it is, the batch is not lost with it: the part is tried again, by this process or another.
            log.exception("part %s of %s failed and is tried again", part.name, part.batch_id)
            await asyncio.sleep(RENEWAL_SECONDS)
            await self._give_back(part)
        finally:
            self._held.pop(part.token, None)

    async def _give_back(self, part: Part) -> None:
        try:
            await batches.release_part(part).run(self._redis)
        except (RedisError, OSError) as error:
            log.info("part %s of %s is left to its lease: %s", part.name, part.batch_id, error)

    async def _write(self, step: Step) -> int:
        return int(await persist(lambda: step.run(self._redis), WRITE_SECONDS, "write down a part of a batch"))

    async def _validate(self, part: Part, batch: Mapping[str, bytes]) -> None:
        input_id, endpoint = batch["input"].decode(), batch["endpoint"].decode()
        try:
            found = await asyncio.to_thread(validate, self._storage, content_name(input_id), endpoint)
        except FileNotFoundError:
            await self._fail(part, batch, [_gone(input_id)])
            return
        if found.errors:
            await self._fail(part, batch, found.errors)
            return
        await asyncio.to_thread(self._storage.put, index_name(part.batch_id), found.index.encode())
        now = int(time.time())
        await self._write(batches.start_batch(part, now, found.index.chunks, found.lines, found.model or ""))

    async def _fail(self, part: Part, batch: Mapping[str, bytes], errors: list[dict[str, object]]) -> None:
        now = time.time_ns()
        fields: dict[str, Argument] = {"failed_at": now // 10**9, "errors": orjson.dumps(errors)}
        webhook = _webhook(batch, "failed", part.batch_id, now // 10**9)
        owner = batch["owner"].decode()
        await self._write(batches.end_batch(part, owner, "failed", fields, [], now // 1000, webhook))

    async def _run_chunk(self, held: _Held, batch: Mapping[str, bytes]) -> None:
        part, owner = held.part, batch["owner"].decode()
        input_name = content_name(batch["input"].decode())
        read = partial(read_chunk, self._storage, part.batch_id, input_name, int(part.name))
        data = await asyncio.to_thread(read)
        runner = Runner(
            self._app,
            part.batch_id,
            batch["endpoint"].decode(),
            partial(self._state.keyring.caller_named, owner),
            int(batch["expires"]),
            self._places,
        )
        output = await runner.run(data, held.stop)
        if output is None:
            await self._give_back(part)
            return
        for kind, content in (("output", output.output), ("errors", output.errors)):
            if content:
                name = part_name(part.batch_id, part.name, part.token, kind)
                await asyncio.to_thread(self._storage.put, name, content)
        await self._write(batches.commit_chunk(part, output.counted, int(time.time())))

    async def _finish(self, part: Part, batch: Mapping[str, bytes]) -> None:
        ending = batch.get("ending", b"completed").decode()
        winners = await self._redis.hgetall(batch_chunks(part.batch_id))
        file_ids = {kind: _file_id(part.batch_id, kind) for kind in ("output", "errors")}
        end = Ending(
            self._storage,
            part.batch_id,
            content_name(batch["input"].decode()),
            batch["endpoint"].decode(),
            file_ids,
            int(batch.get("chunks", 0)),
            {number.decode(): token.decode() for number, token in winners.items()},
            expired=ending == "expired",
        )
        ended = await asyncio.to_thread(end.write)
        await self._end(part, batch, ending, file_ids, ended)
        await asyncio.to_thread(self._storage.remove, folder(part.batch_id))

    async def _end(
        self, part: Part, batch: Mapping[str, bytes], ending: str, file_ids: Mapping[str, str], ended: Ended
    ) -> None:
        now, owner = time.time_ns(), batch["owner"].decode()
        seconds = now // 10**9
        fields: dict[str, Argument] = {f"{ending}_at": seconds}
        if ended.expired:
            fields["failed"] = int(batch.get("failed", 0)) + ended.expired
        files = []
        for kind, field_name, word in (("output", "output_file", "output"), ("errors", "error_file", "error")):
            if ended.sizes[kind]:
                fields[field_name] = file_ids[kind]
                name, expires = f"{part.batch_id}_{word}.jsonl", seconds + int(batch["output_life"])
                size = ended.sizes[kind]
                files.append(StoredFile(file_ids[kind], owner, name, size, BATCH_OUTPUT, seconds, expires))
        webhook = _webhook(batch, ending, part.batch_id, seconds)
        await self._write(batches.end_batch(part, owner, ending, fields, files, now // 1000, webhook))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEWAL_SECONDS)
            held = list(self._held.values())
            if not held:
                continue
            try:
                words = await batches.renew_parts([each.part for each in held]).run(self._redis)
            except (RedisError, OSError) as error:
                log.info("leases of batches are not renewed: %s", error)
                continue
            for each, word in zip(held, words, strict=True):
                if word.decode() == Word.STOP:
                    each.stop.set()
                elif word.decode() == Word.LOST and each.task is not None:
                    each.task.cancel()

    async def _sweep(self) -> None:
        """Removes files whose time is over, content first."""
        while True:
            try:
                now = int(time.time())
                for member in await self._redis.zrangebyscore(EXPIRING_FILES, "-inf", now, start=0, num=1000):
                    file_id = member.decode()
                    owner = await self._redis.hget(file_key(file_id), "owner") or b""
                    await asyncio.to_thread(self._storage.remove, content_name(file_id))
                    await remove_file(file_id, owner.decode()).run(self._redis)
            except (RedisError, OSError, QueueUnavailableError) as error:
                log.info("files whose time is over are left for now: %s", error)
            await asyncio.sleep(SWEEP_SECONDS)


def _gone(input_id: str) -> dict[str, object]:
    message = f"The file {input_id!r} is not there any more."
    return {"code": "file_not_found", "message": message, "param": "input_file_id", "line": None}


def _file_id(batch_id: str, kind: str) -> str:
    """The id of a file that comes of a batch: the same however often its end is tried."""
    return f"file-{hashlib.blake2b(f'{batch_id}/{kind}'.encode(), digest_size=16).hexdigest()}"


def _webhook(batch: Mapping[str, bytes], ending: str, batch_id: str, now: int) -> bytes:
    target = batch.get("webhook")
    return webhook_about(Target.decode(target), f"batch.{ending}", batch_id, now).encode() if target else b""
