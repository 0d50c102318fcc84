"""The command line: `millpond serve`, one command for each role, `keys`, `inspect`, and the bulk commands."""

import sys
from importlib.metadata import version

from api.arguments import COMMANDS, parse, parse_inspect
from api.errors import LaunchError
from api.options import BULK, INSPECT, KEYS


def main() -> int:
    """Runs the command named first; the exit status, 2 when it cannot start."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"millpond {version('millpond')}")
        return 0
    try:
        if arguments[0] not in dict(COMMANDS):
            names = ", ".join(name for name, _ in COMMANDS)
            raise LaunchError(f"millpond has no command {arguments[0]!r}: the commands are {names}.")
        if arguments[0] == INSPECT:
            shown, as_json = parse_inspect(arguments[1:])
            from api.inspecting import inspect

            return inspect(shown, as_json)
        if arguments[0] == KEYS:
            from api.keys_command import keys

            return keys(arguments[1:])
        if arguments[0] in BULK:
            from api.bulk.command import run

            return run(arguments[0], arguments[1:])
        parsed = parse(arguments[0], arguments[1:])
        # Imported only now: `--help` and a wrong flag are answered at once.
        from api.launcher import launch

        return launch(arguments[0], parsed)
    except LaunchError as error:
        print(f"millpond: {error}", file=sys.stderr)
        return 2


def _usage() -> str:
    lines = ["usage: millpond COMMAND [OPTIONS]", ""]
    lines += [f"  {name:<10} {description}" for name, description in COMMANDS]
    return "\n".join([*lines, "", "`millpond COMMAND --help` shows a command's options."])


if __name__ == "__main__":
    sys.exit(main())
