"""The work directory of a backfill, beside its output: what makes the same command go on where it was left."""

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from api.bulk.errors import BulkError
from api.bulk.ledger import LEDGER_FILE, Ledger, open_ledger
from api.bulk.storage import filesystem, is_url, reading, writing
from api.bulk.task import PARTS
from api.locking import HeldError, hold

SUFFIX = ".millpond"
ERRORS_SUFFIX = ".errors.jsonl"
_MARKER = "backfill.json"
_LOCK = "lock"

ON_ONE_MACHINE, SHARED = "file", "redis"


def default_folder(output: str) -> Path:
    """Beside the output; where that is on other storage, in the current directory."""
    name = output.rstrip("/").rsplit("/", 1)[-1] if is_url(output) else output
    return Path(name + SUFFIX)


@dataclass(frozen=True)
class Workspace:
    """The work directory, once it is known to be this output's.

    Attributes:
        backfill_id: made with the directory, so that every machine that shares it finds the same ledger.
        shared_ledger: the Redis URL of the ledger that machines share; None where it is a file in here.
    """

    folder: Path
    backfill_id: str
    shared_ledger: str | None

    @classmethod
    def opened(
        cls, folder: Path, output: str, shared_ledger: str | None, *, restart: bool, held: ExitStack
    ) -> "Workspace":
        """The directory that is there, or a new one.

        Args:
            restart: forget what is done.
            held: keeps what must stay open.

        Raises:
            BulkError: it cannot be used, another command uses it, or the output is there and not from here.
        """
        marker = folder / _MARKER
        if not marker.exists() and _exists(output):
            raise BulkError(
                f"{output} is there already and not from this command: give another --output, or remove it."
            )
        with writing(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
            if shared_ledger is None:
                held.enter_context(_locked(folder / _LOCK))
            if marker.exists() and (restart or cls._begun(marker, shared_ledger).has_nothing_done):
                _empty(folder, shared_ledger)
            kind = SHARED if shared_ledger else ON_ONE_MACHINE
            _write_once(marker, {"id": uuid.uuid4().hex[:12], "ledger": kind})
            found = cls._begun(marker, shared_ledger)
            found.parts.mkdir(exist_ok=True)
        return found

    @classmethod
    def _begun(cls, marker: Path, shared_ledger: str | None) -> "Workspace":
        with reading(str(marker)):
            told = _read(marker)
        if told is None:
            raise BulkError(f"{marker} is broken: give --restart to begin anew.")
        if (told["ledger"] == SHARED) != (shared_ledger is not None):
            began = "with --ledger" if told["ledger"] == SHARED else "without --ledger"
            raise BulkError(f"This output was begun {began}: give the same command again, or --restart to begin anew.")
        return cls(marker.parent, told["id"], shared_ledger)

    @property
    def has_nothing_done(self) -> bool:
        """Whether it may as well be begun anew, by another command. Of a shared one that is not known."""
        if self.shared_ledger is not None:
            return False
        ledger = self.ledger()
        try:
            return ledger.totals().done == 0
        finally:
            ledger.close()

    def ledger(self) -> Ledger:
        """Its ledger."""
        return open_ledger(self.backfill_id, self.folder, self.shared_ledger)

    def remove(self) -> None:
        """Removes all of it: nothing is done, and nothing will be."""
        _empty(self.folder, self.shared_ledger)
        with suppress(OSError):
            (self.folder / _LOCK).unlink(missing_ok=True)
            self.folder.rmdir()

    @property
    def spool(self) -> Path:
        """Where compressed inputs are unpacked."""
        return self.folder / "spool"

    @property
    def parts(self) -> Path:
        """What came of the chunks."""
        return self.folder / PARTS

    @property
    def server_log(self) -> Path:
        """What the command's own server says."""
        return self.folder / "server.log"

    @property
    def executor_log(self) -> Path:
        """What the executors say."""
        return self.folder / "executors.log"

    def finish(self) -> None:
        """Removes all that a later run of the same command does not need: to say that it is finished, the ledger is."""
        for path in (self.spool, self.parts):
            shutil.rmtree(path, ignore_errors=True)
        for path in (self.server_log, self.executor_log):
            path.unlink(missing_ok=True)


def _exists(output: str) -> bool:
    system, name = filesystem(output)
    with reading(output):
        return bool(system.exists(name))


def _empty(folder: Path, shared_ledger: str | None) -> None:
    """Removes what a backfill has left, and nothing else that may lie there; the marker last."""
    told = _read(folder / _MARKER)
    if told and shared_ledger:
        ledger = open_ledger(told["id"], folder, shared_ledger)
        ledger.clear()
        ledger.close()
    for path in (folder / PARTS, folder / "spool"):
        shutil.rmtree(path, ignore_errors=True)
    for name in ("server.log", "executors.log", *(LEDGER_FILE + end for end in ("", "-wal", "-shm")), _MARKER):
        (folder / name).unlink(missing_ok=True)


def _read(marker: Path) -> dict[str, str] | None:
    """What a marker says; None where there is none, or a broken one."""
    try:
        found = json.loads(marker.read_text("utf-8"))
        return {name: str(found[name]) for name in ("id", "ledger")}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """No other command works here meanwhile."""
    with path.open("a+") as file:
        try:
            hold(file)
        except HeldError as error:
            raise BulkError(
                f"Another command (process {error.process}) works on this output: wait for it, or let several "
                "share the work by --ledger."
            ) from error
        yield


def _write_once(path: Path, content: dict[str, str]) -> None:
    """Writes a file whole, unless another machine was first."""
    made = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    made.write_text(json.dumps(content) + "\n", "utf-8")
    try:
        os.link(made, path)
    except FileExistsError:
        return
    finally:
        made.unlink()
