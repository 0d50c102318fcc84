r"""What a deployment would do with an arrival of calls: waits, fairness and utilisation, from a run in virtual time.

    .venv/bin/python -m benchmarks.simulate --workers count=8,fixed=0.004,per_token=6e-5,noise=0.05 \
        --stream lane=interactive,rate=40,median=30 --stream lane=bulk,tenant=b,backlog=200,items=256 --seconds 60
    .venv/bin/python -m benchmarks.simulate --trace calls.jsonl --workers fixed=0.004,per_token=6e-5 \
        [--json FILE] [--plot FILE.svg]

The scheduler's own code decides what runs (benchmarks/simulation/running.py); engines, Redis and everything around a
forward take the time that is given for them. A trace has a line of JSON for each call:
`{"seconds": 0.25, "lane": "bulk", "tenant": "a", "lengths": [12, 40]}`.
Each `--workers` adds as many as `count` says, each `--stream` one tenant's calls in a lane. The same arguments give the
same figures.
"""

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.plotting import add_options, keep
from benchmarks.simulation.arrivals import Arrivals, Lengths, Stream, made, read_trace, write_trace
from benchmarks.simulation.machines import Deployment, Engine, Overheads
from benchmarks.simulation.report import lines_of, report
from benchmarks.simulation.running import Simulation
from scheduler.keys import LANES
from scheduler.settings import INTERACTIVE_TARGET_MS

T = TypeVar("T")


@dataclass(frozen=True)
class Workers:
    """Some that are alike."""

    engine: Engine
    count: int = 1


@dataclass(frozen=True)
class Weighted:
    """A stream, and the weight of its tenant beside others."""

    stream: Stream
    weight: int = 1


def pairs_of(text: str) -> dict[str, str]:
    """`a=1,b=2` as a mapping; raises ValueError where it is something else."""
    pairs = dict(pair.partition("=")[::2] for pair in text.split(",") if pair)
    if missing := [name for name, value in pairs.items() if not value]:
        raise argparse.ArgumentTypeError(f"{missing[0]!r} has no value: write name=value,name=value")
    return pairs


def take(kind: type[T], pairs: dict[str, str], **given: object) -> T:
    """An instance of a dataclass, with those of its fields that are numbers or words taken out of the pairs."""
    kinds = {"int": int, "float": float, "str": str}
    found: dict[str, Any] = dict(given)
    for field in fields(kind):  # type: ignore[arg-type]
        name = field.type if isinstance(field.type, str) else field.type.__name__
        if field.name in pairs and field.name not in given and name in kinds:
            try:
                found[field.name] = kinds[name](pairs.pop(field.name))
            except ValueError as error:
                raise argparse.ArgumentTypeError(f"{field.name}: {error}") from error
    try:
        return kind(**found)
    except TypeError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def none_left(pairs: Mapping[str, str]) -> None:
    """Raises where a name is left that nothing has."""
    if pairs:
        raise argparse.ArgumentTypeError(f"nothing is called {', '.join(map(repr, pairs))}")


def workers_of(text: str) -> Workers:
    """`count`, and the fields of an Engine."""
    pairs = {"per_square": "0", **pairs_of(text)}
    found = take(Workers, pairs, engine=take(Engine, pairs))
    none_left(pairs)
    return found


def stream_of(text: str) -> Weighted:
    """`lane`, `weight`, and the fields of a Stream and of Lengths."""
    pairs = pairs_of(text)
    lane = pairs.pop("lane", LANES[0])
    if lane not in LANES:
        raise argparse.ArgumentTypeError(f"no lane is called {lane!r}: there are {', '.join(LANES)}")
    stream = take(Stream, pairs, lane=LANES.index(lane), lengths=take(Lengths, pairs))
    found = take(Weighted, pairs, stream=stream)
    none_left(pairs)
    return found


def overheads_of(text: str) -> Overheads:
    """The fields of Overheads."""
    pairs = pairs_of(text)
    found = take(Overheads, pairs)
    none_left(pairs)
    return found


def main() -> None:
    """Prints the report; writes JSON and a plot when asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--stream", type=stream_of, action="append", default=[], metavar="NAME=VALUE,...")
    parser.add_argument("--seconds", type=float, default=60.0, help="for how long the streams' calls come")
    parser.add_argument("--workers", type=workers_of, action="append", required=True, metavar="NAME=VALUE,...")
    parser.add_argument("--overheads", type=overheads_of, default=Overheads(), metavar="NAME=VALUE,...")
    parser.add_argument("--interactive-target-ms", type=int, default=INTERACTIVE_TARGET_MS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write-trace", type=Path)
    add_options(parser)
    options = parser.parse_args()
    calls = read_trace(options.trace) if options.trace else []
    calls += made((each.stream for each in options.stream), options.seconds, options.seed)
    if not calls:
        parser.error("there are no calls: give --trace or --stream")
    if options.write_trace:
        write_trace(options.write_trace, calls)
    engines = [each.engine for each in options.workers for _ in range(each.count)]
    deployment = Deployment(engines, options.overheads, options.interactive_target_ms / 1000)
    arrivals = Arrivals.of(calls, {each.stream.tenant: each.weight for each in options.stream})
    found = report(arrivals, Simulation(deployment, arrivals, options.seed).run(), len(engines))
    print("\n".join(lines_of(found)))
    keep({"benchmark": "simulate", **asdict(found)}, options)


if __name__ == "__main__":
    main()
