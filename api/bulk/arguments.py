"""The command line of the bulk commands."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from api.arguments import OneSentenceParser, parse_with, parser_of
from api.bulk.writing import OutputFormat
from api.errors import LaunchError
from api.options import Options

CHUNK_ROWS = 2_048
EXECUTORS = 2
FORMATS = ("jsonl", "parquet")


@dataclass(frozen=True)
class BulkCommand:
    """What a bulk command is told.

    Attributes:
        kind: score, embed or rerank.
        options: of the server that it starts, where `server` is None.
        server: URL of the one that is there already.
        model: as it was given; None where it was not.
        key: of that server.
        call: the fields of `POST /v1/rows` that the user asked for.
        overrides: how rows are read, where the user said so; fields of `Overrides`.
        max_errors: more bad rows than these end the run; None: none do.
        ledger: Redis URL of a shared ledger; None where it is a file.
        work_dir: None: beside the output.
    """

    kind: str
    inputs: Sequence[str]
    output: str
    output_format: OutputFormat
    options: Options
    server: str | None
    model: str | None
    key: str | None = field(repr=False)
    call: Mapping[str, Any]
    overrides: Mapping[str, Any]
    chunk_rows: int
    max_errors: int | None
    restart: bool
    dry_run: bool
    ledger: str | None
    executors: int
    work_dir: Path | None


def parse_bulk(kind: str, arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> BulkCommand:
    """What one bulk command is told by its flags and the environment.

    Raises:
        LaunchError: a flag or a value is wrong.
    """
    values, own = parse_with(bulk_parser(kind), arguments, environment)
    options = Options.checked({**values, "redis_url": None, "broker_url": None})
    model = str(values["model"]) if "model" in values else None
    if own["server"] is None and model is None:
        raise LaunchError(
            f"millpond {kind} needs a model: give --model for a server of its own, or --server URL for one that runs."
        )
    if own["server"] is not None and not own["server"].startswith(("http://", "https://")):
        raise LaunchError(f"--server cannot be {own['server']!r}: write it as http://HOST:PORT.")
    keys = [key.get_secret_value() for key in options.api_key]
    return BulkCommand(
        kind=kind,
        inputs=own["inputs"],
        output=own["output"],
        output_format=own["output_format"] or _format_of(own["output"]),
        options=options,
        server=own["server"] and own["server"].rstrip("/"),
        model=model,
        key=own["key"] or (keys[0] if keys else None),
        call={field: own[name] for name, field in _CALL.items() if own.get(name) is not None},
        overrides={
            "shape": own["shape"],
            "columns": dict(own["column"]),
            "prefix": own["column_prefix"],
            "step_tag": own["step_tag"],
        },
        chunk_rows=own["chunk_rows"],
        max_errors=own["max_errors"],
        restart=own["restart"],
        dry_run=own["dry_run"],
        ledger=own["ledger"],
        executors=own["executors"],
        work_dir=own["work_dir"],
    )


_CALL = {
    "truncate": "truncation_side",
    "truncate_tokens": "truncate_prompt_tokens",
    "dimensions": "dimensions",
    "normalize": "normalize",
}
"""Arguments that are fields of each call."""


def bulk_parser(kind: str) -> OneSentenceParser:
    """The parser of a bulk command: its own arguments, and the options of the server that it may start."""
    parser = parser_of(kind)
    parser.usage = f"millpond {kind} INPUT... --output OUT (--model MODEL | --server URL) [OPTIONS]"
    parser.epilog = (
        "Exit status: 0 all rows are done; 1 all are done but bad ones, which are in OUT.errors.jsonl; 2 it could not "
        "begin or go on, and says why; 130 it was stopped. The same command goes on where an earlier one was left."
    )
    _add_files(parser)
    _add_server(parser)
    _add_shape(parser)
    _add_pooling(parser, kind)
    _add_run(parser)
    return parser


def _add_files(parser: argparse.ArgumentParser) -> None:
    files = parser.add_argument_group("files")
    files.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="a file, a folder, a glob or an fsspec URL: JSONL and CSV (also .gz and .zst), Parquet",
    )
    files.add_argument(
        "--output", metavar="OUT", required=True, help="file or fsspec URL that is written: the input's rows, in order"
    )
    files.add_argument(
        "--output-format", choices=FORMATS, metavar="FORMAT", help="jsonl or parquet (default: by the output's name)"
    )
    files.add_argument(
        "--work-dir", metavar="DIR", type=Path, help="where it is kept what is done (default: OUT.millpond)"
    )


def _add_server(parser: argparse.ArgumentParser) -> None:
    server = parser.add_argument_group("server")
    server.add_argument(
        "--server",
        metavar="URL",
        help="a Millpond that runs, whose model is then --model (default: one is started with the options below)",
    )
    server.add_argument(
        "--api-key", dest="key", metavar="KEY", help="key for that server, better by the variable [MILLPOND_API_KEY]"
    )


def _add_shape(parser: argparse.ArgumentParser) -> None:
    shape = parser.add_argument_group("how rows are read (found without these where it can be)")
    shape.add_argument("--shape", metavar="SHAPE", help="what the records are; a wrong one is answered by their list")
    shape.add_argument(
        "--column",
        metavar="ROLE=COLUMN",
        action="append",
        type=_assignment,
        default=[],
        help="the column of a role, like prompt=question; a.b leads into an object; repeated: of several",
    )
    shape.add_argument(
        "--column-prefix", metavar="TEXT", default="", help="put before the names of new columns (default: nothing)"
    )
    shape.add_argument(
        "--step-tag",
        metavar="TEXT",
        help="what stands behind each step of a solution, like <extra_0>, for step rewards",
    )


def _add_pooling(parser: argparse.ArgumentParser, kind: str) -> None:
    pooling = parser.add_argument_group("pooling")
    pooling.add_argument(
        "--truncate",
        choices=("left", "right"),
        metavar="SIDE",
        help="cut what is too long at its left or right (default: such rows are bad)",
    )
    pooling.add_argument(
        "--truncate-tokens", metavar="TOKENS", type=_positive, help="with --truncate, cut to so many tokens"
    )
    if kind == "embed":
        pooling.add_argument("--dimensions", metavar="NUMBER", type=_positive, help="of each embedding")
        pooling.add_argument(
            "--normalize",
            action=argparse.BooleanOptionalAction,
            help="embeddings of length 1, or not (default: what the model says)",
        )


def _add_run(parser: argparse.ArgumentParser) -> None:
    run = parser.add_argument_group("run")
    run.add_argument("--dry-run", action="store_true", help="show first prompts, token counts and an estimate only")
    run.add_argument("--restart", action="store_true", help="forget what an earlier run has done, and begin anew")
    run.add_argument(
        "--max-errors", metavar="ROWS", type=_count, help="stop when more rows are bad than these (default: never)"
    )
    run.add_argument(
        "--chunk-rows",
        metavar="ROWS",
        type=_positive,
        default=CHUNK_ROWS,
        help=f"rows that are done and recorded together (default: {CHUNK_ROWS})",
    )
    run.add_argument(
        "--executors",
        metavar="COUNT",
        type=_positive,
        default=EXECUTORS,
        help=f"processes that read, ask and write (default: {EXECUTORS})",
    )
    run.add_argument(
        "--ledger",
        metavar="URL",
        help="Redis that says what is done: any number of machines with the same files may give this command at once",
    )


def _positive(given: str) -> int:
    number = _count(given)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{given} is less than 1")
    return number


def _count(given: str) -> int:
    if not (given.isascii() and given.isdigit()):
        raise argparse.ArgumentTypeError(f"{given!r} is not a whole number")
    return int(given)


def _assignment(given: str) -> tuple[str, str]:
    role, equals, column = given.partition("=")
    if not (role and equals and column):
        raise argparse.ArgumentTypeError(f"{given!r} is not of the form ROLE=COLUMN")
    return role, column


def _format_of(output: str) -> OutputFormat:
    name = output.lower()
    if name.endswith((".jsonl", ".ndjson", ".json")):
        return "jsonl"
    if name.endswith((".parquet", ".pq")):
        return "parquet"
    raise LaunchError(f"The name {output} tells no format: end it in .jsonl or .parquet, or give --output-format.")
