"""The work directory of a backfill, beside its output: what makes the same command go on where it was left."""

import fcntl
import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from api.bulk.errors import BulkError
from api.bulk.ledger import LEDGER_FILE
from api.bulk.storage import filesystem, is_url, reading, writing
from api.bulk.task import PARTS

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
        shared: whether the ledger is in Redis.
    """

    folder: Path
    backfill_id: str
    shared: bool

    @classmethod
    def opened(cls, folder: Path, output: str, *, shared: bool, restart: bool) -> "Workspace":
        """The directory that is there, or a new one.

        Raises:
            BulkError: it cannot be used, or the output is there and not from here.
        """
        marker = folder / _MARKER
        with writing(str(folder)):
            if restart and marker.exists():
                _empty(folder)
            elif not marker.exists() and _exists(output):
                raise BulkError(
                    f"{output} is there already and not from this command: give another --output, or remove it."
                )
            folder.mkdir(parents=True, exist_ok=True)
            _write_once(marker, {"id": uuid.uuid4().hex[:12], "ledger": SHARED if shared else ON_ONE_MACHINE})
            (folder / PARTS).mkdir(exist_ok=True)
        with reading(str(marker)):
            try:
                found = json.loads(marker.read_text("utf-8"))
                workspace = cls(folder, str(found["id"]), found["ledger"] == SHARED)
            except (ValueError, KeyError) as error:
                raise BulkError(f"{marker} is broken: run the command with --restart to begin anew.") from error
        if workspace.shared != shared:
            began = "with --ledger" if workspace.shared else "without --ledger"
            raise BulkError(f"This output was begun {began}: give the same command again, or --restart to begin anew.")
        return workspace

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

    def lock(self) -> IO[str]:
        """Held as long as the file is open; raises BulkError where another command holds it."""
        with writing(str(self.folder)):
            file = (self.folder / _LOCK).open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise BulkError(
                f"Another command (process {file.read().strip() or 'unknown'}) works on this output: wait for it, or "
                "let several share the work by --ledger."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        return file

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


def _empty(folder: Path) -> None:
    """Removes what a backfill has left, and nothing else that may lie there; the marker last."""
    for path in (folder / PARTS, folder / "spool"):
        shutil.rmtree(path, ignore_errors=True)
    for name in ("server.log", "executors.log", *(LEDGER_FILE + end for end in ("", "-wal", "-shm")), _MARKER):
        (folder / name).unlink(missing_ok=True)


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
