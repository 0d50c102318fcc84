"""The pages agree with the program: links lead somewhere, the routes are those of the app, and printed flags exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.routing import Route

from api.app import DIALECTS
from api.arguments import COMMANDS
from api.bulk.arguments import bulk_parser
from api.keys_command import keys
from api.options import BULK, KEYS, Options, flag_of, shown

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DIALECT_INDEX = ROOT / "docs" / "dialects" / "README.md"

OF_THE_FRAMEWORK = {"GET /docs", "GET /openapi.json"}

# Beside `--help`; of `keys` also those of its actions.
FLAGS = {
    command: {flag_of(name) for name in Options.model_fields if command in shown(name).commands}
    for command, _ in COMMANDS
} | {command: set(bulk_parser(command).flags) for command in BULK}


def by_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        path, _, heading = target.partition("#")
        if "://" in target:
            continue
        found = (page.parent / path) if path else page
        assert found.exists(), target
        if heading:
            assert heading in headings(found), target


def headings(page: Path) -> set[str]:
    """The headings of a page as links write them."""
    lines = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def test_the_index_of_dialects_has_the_routes_of_the_app_and_no_others() -> None:
    routes = {
        f"{method} {route.path.replace(':path', '')}"
        for dialect in DIALECTS
        for route in dialect.router.routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }
    printed = re.findall(r"`((?:GET|POST|DELETE) /[^`?]*)`", DIALECT_INDEX.read_text("utf-8"))
    assert set(printed) == routes | OF_THE_FRAMEWORK


def test_every_page_is_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        reached.add(page)
        for target in re.findall(r"\]\(([^)\s#]+)", page.read_text("utf-8")):
            found = (page.parent / target).resolve()
            pages = sorted(found.glob("*.md")) if found.is_dir() else [found]
            ahead += [each for each in pages if each.suffix == ".md" and each not in reached]
    assert set(PAGES) <= reached


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_every_printed_command_has_flags_that_exist(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in commands(page.read_text("utf-8")):
        command, *rest = line.split()
        known = FLAGS[command] | {"--help"}
        if command == KEYS:
            with pytest.raises(SystemExit):
                keys([rest[0], "--help"])
            known |= set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
        elif command == "inspect":
            known |= {"--json"}
        elif command in BULK:
            known |= set(bulk_parser(command).flags)
        assert set(re.findall(r"(?<=\s)--[a-z-]+", line)) <= known, line


def commands(text: str) -> Iterator[str]:
    """What stands behind `millpond` in the blocks of commands, each in one line."""
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.match(r"(?:\S*/)?millpond (.+)", line)
            if found:
                yield found.group(1)


@pytest.mark.parametrize("command", BULK)
def test_a_bulk_command_names_every_flag_once_and_says_what_it_is_for(command: str) -> None:
    parser = bulk_parser(command)
    assert len(parser.flags) == len(set(parser.flags))
    assert all(action.help for action in parser._actions)
    assert {"--output", "--server", "--restart", "--dry-run", "--max-errors", "--ledger"} <= set(parser.flags)
