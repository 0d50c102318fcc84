"""`millpond keys`: adds, lists and revokes keys in the key file. Servers that run heed it from the next call on."""

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from api.arguments import parse_more
from api.errors import LaunchError
from api.keyfile import NAME_PATTERN, KeyEntry, add_entry, digest_of, new_key, read_key_file, remove_entry
from api.keyring import key_file_of
from api.options import KEYS, flag_of

_USAGE = """\
usage: millpond keys add NAME [OPTIONS]   makes a key and prints it, this once
       millpond keys list                 shows the keys' names, rights and limits
       millpond keys revoke NAME          takes a key out: it is refused from the next call on

`millpond keys add --help` shows the options."""

_COLUMNS = ("name", "models", "lanes", "tokens_per_minute", "concurrency", "weight", "created", "expires")


def keys(arguments: Sequence[str]) -> int:
    """Does what the first argument says; the exit status.

    Raises:
        LaunchError: it cannot be done.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE)
        return 0 if arguments else 2
    if arguments[0] not in _ACTIONS:
        raise LaunchError(f"millpond keys has no action {arguments[0]!r}: its actions are {', '.join(_ACTIONS)}.")
    add_own, run = _ACTIONS[arguments[0]]
    options, own = parse_more(KEYS, arguments[0], arguments[1:], add_own)
    run(key_file_of(options), **own)
    return 0


def _add(path: Path, name: str, **limits: str | list[str]) -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise LaunchError(f"A key cannot be called {name!r}: its name is 1 to 64 letters, digits, _ and -.")
    key = new_key()
    entry = _entry(key, limits)
    if entry.expires is not None and entry.expires <= datetime.now(UTC):
        raise LaunchError(f"--expires is {entry.expires.isoformat()}, which is past.")
    add_entry(path, name, entry)
    # Alone on standard output, for scripts; the rest is for people.
    print(key)
    print(f"The key {name!r} is in {path}; it is shown only now.", file=sys.stderr)


def _entry(key: str, limits: dict[str, str | list[str]]) -> KeyEntry:
    """The limits as the flags say them; lists may come in several flags, with commas, or both."""
    values: dict[str, object] = dict(limits)
    for field in ("models", "lanes"):
        if field in values:
            values[field] = [each.strip() for given in limits[field] for each in given.split(",") if each.strip()]
    for field in ("tokens_per_minute", "concurrency", "weight"):
        given = str(limits.get(field, ""))
        if given.isascii() and given.isdigit():
            values[field] = int(given)
    if "expires" in values:
        values["expires"] = _moment(str(limits["expires"]))
    created = datetime.now(UTC).replace(microsecond=0)
    try:
        return KeyEntry.model_validate({**values, "sha256": digest_of(key.encode()).hex(), "created": created})
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        raise LaunchError(f"{flag_of(field)} cannot be {limits[field]!r}: {first['msg'].lower()}.") from error


def _moment(given: str) -> datetime:
    try:
        moment = datetime.fromisoformat(given)
    except ValueError as error:
        raise LaunchError(
            f"--expires cannot be {given!r}: write a day as 2027-01-31, or a moment as 2027-01-31T18:00:00+01:00."
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _list(path: Path) -> None:
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for name, entry in read_key_file(path).items():
        over = entry.expires is not None and entry.expires <= datetime.now(UTC)
        shown = {
            "name": name,
            "models": _words(entry.models),
            "lanes": _words(entry.lanes),
            "tokens_per_minute": str(entry.tokens_per_minute or "-"),
            "concurrency": str(entry.concurrency or "-"),
            "weight": str(entry.weight or 1),
            "created": _day(entry.created),
            "expires": _day(entry.expires) + (" (over)" if over else ""),
        }
        rows.append(tuple(shown[column] for column in _COLUMNS))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _words(names: Iterable[str] | None) -> str:
    return "all" if names is None else ",".join(names)


def _day(moment: datetime | None) -> str:
    return "-" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def _revoke(path: Path, name: str) -> None:
    remove_entry(path, name)
    print(f"The key {name!r} is out of {path}.", file=sys.stderr)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    _name_argument(parser)
    parser.argument_default = argparse.SUPPRESS
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--models", metavar="NAMES", action="append", help="served models it may use, commas between (default: all)"
    )
    limits.add_argument(
        "--lanes", metavar="LANES", action="append", help="those of interactive,job,bulk it may use (default: all)"
    )
    limits.add_argument("--tokens-per-minute", metavar="TOKENS", help="input tokens a minute (default: no limit)")
    limits.add_argument("--concurrency", metavar="CALLS", help="calls that may run at once (default: no limit)")
    limits.add_argument("--weight", metavar="SHARE", help="of a lane beside other keys' shares, 1 to 100 (default: 1)")
    limits.add_argument("--expires", metavar="DATE", help="day (UTC) or moment of its end (default: never)")


def _name_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the key: letters, digits, _ and -")


def _no_argument(_: argparse.ArgumentParser) -> None:
    """`list` has none of its own."""


_ACTIONS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], Callable[..., None]]] = {
    "add": (_add_arguments, _add),
    "list": (_no_argument, _list),
    "revoke": (_name_argument, _revoke),
}
