"""The plot of a benchmark's figures, from the JSON that it wrote: now, or later from what was kept.

    .venv/bin/python -m benchmarks.plotting REPORT.json PLOT.svg

Which plot it is, the report says itself, in its field `benchmark`. The same report gives the same file. Benchmarks run
without matplotlib; only `--plot` and this command ask for it.
"""

import argparse
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def add_options(parser: argparse.ArgumentParser) -> None:
    """`--json` and `--plot`: where the figures go, beside the terminal."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures")
    parser.add_argument("--plot", type=plot_file, metavar="FILE.svg", help="draw them (needs matplotlib)")


def plot_file(text: str) -> Path:
    """Where a plot is written; raises ArgumentTypeError, before anything is measured, when it could not be."""
    path = Path(text)
    if path.suffix != ".svg":
        raise argparse.ArgumentTypeError(f"{text} does not end in .svg, which is the only form of plots")
    if importlib.util.find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError(
            "matplotlib is not installed here: `make bench` installs it, and so does pip install -e '.[bench]'"
        )
    return path


def keep(report: Mapping[str, Any], options: argparse.Namespace) -> None:
    """Writes a report as JSON and as a plot, where `--json` and `--plot` ask for it."""
    text = json.dumps(report, indent=2) + "\n"
    if options.json:
        options.json.write_text(text)
    if options.plot:
        write_plot(json.loads(text), options.plot)


def write_plot(report: Mapping[str, Any], path: Path) -> None:
    """Draws a report as JSON has it; raises ValueError for one that has no plot."""
    from benchmarks.figures import svg_of

    path.write_text(svg_of(report))


def main() -> None:
    """Draws one report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, metavar="REPORT.json")
    parser.add_argument("plot", type=plot_file, metavar="PLOT.svg")
    options = parser.parse_args()
    try:
        write_plot(json.loads(options.report.read_text()), options.plot)
    except (OSError, ValueError) as error:
        parser.error(f"{options.report}: {error}")


if __name__ == "__main__":
    main()
