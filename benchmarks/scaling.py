r"""Twice the workers and twice the work: whether each worker still does as much.

    .venv/bin/python -m benchmarks.scaling [--workers 1 2 4 8] [--engine 0.006 1.7e-4 1e-7] \
        [--json FILE] [--plot FILE.svg]

A backlog of the bulk lane goes through a real Redis, scheduler and Celery workers, one of each but the workers. Their
engines sleep for as long as all-MiniLM-L6-v2 computes on two cores, or as `--engine` says, so that two cores suffice
for eight of them. Stated are tokens a second of a worker while the middle of the backlog is done, beside those of the
first line; how much of that time the engines slept; and beside both what the simulator foretells.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import describe_machine
from benchmarks.plotting import add_options, keep
from benchmarks.reproduction import ITEMS, LENGTHS, SLEEPING
from benchmarks.simulation.arrivals import Arrivals, Call, Stream, made
from benchmarks.simulation.machines import Deployment, Engine
from benchmarks.simulation.real import queue_of, run_real
from benchmarks.simulation.running import Simulation

MIDDLE = (0.15, 0.85)
"""Of the tokens: at the beginning engines wait for the first, at the end for the last."""


@dataclass(frozen=True)
class Line:
    """Tokens a second of each worker, measured and simulated, and processor time of roles for each item."""

    workers: int
    tokens_per_second: float
    simulated: float
    slept: float
    us_per_item: dict[str, float]


def backlog(engine: Engine, workers: int, seconds: float, seed: int) -> list[Call]:
    """Calls that take so many workers about so long."""
    median, batch = LENGTHS.median, engine.tokens
    squares = batch * median * 1.6  # as LENGTHS has it
    a_second = batch / (engine.fixed + engine.per_token * batch + engine.per_square * squares)
    calls = round(seconds * workers * a_second / (ITEMS * median * 1.25))
    return made([Stream(2, "bulk", backlog=calls, items=ITEMS, lengths=LENGTHS)], 0, seed)


def rate_of(calls: Sequence[Call], ended: NDArray[np.float64]) -> float:
    """Tokens a second while the middle of them was done, from the moments at which calls were answered."""
    order = np.argsort(ended)
    done = np.cumsum([sum(calls[number].lengths) for number in order])
    first, last = (int(np.searchsorted(done, part * done[-1])) for part in MIDDLE)
    return float((done[last] - done[first]) / (ended[order[last]] - ended[order[first]]))


def measured(engine: Engine, workers: int, seconds: float, seed: int) -> Line:
    """A line of the table."""
    deployment = Deployment([engine] * workers)
    calls = backlog(engine, workers, seconds, seed)
    with queue_of(deployment) as queue:
        run_real(queue.redis_url, backlog(engine, workers, 1, seed))  # warms up
        before = queue.spent()
        real = run_real(queue.redis_url, calls)
        spent = {role: until_now - before[role] for role, until_now in queue.spent().items()}
    items = sum(len(call.lengths) for call in calls)
    ended = np.array([call.seconds + wait for call, wait in zip(real.calls, real.waits, strict=True)])
    foretold = Simulation(deployment, Arrivals.of(calls), seed).run().answered
    return Line(
        workers,
        rate_of(real.calls, ended) / workers,
        rate_of(calls, foretold) / workers,
        sum(sample.seconds for sample in real.samples) / (workers * real.seconds),
        {role: seconds / items * 1e6 for role, seconds in spent.items()},
    )


def main() -> None:
    """Prints a line for each number of workers; writes JSON and a plot when asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    cost = (SLEEPING.fixed, SLEEPING.per_token, SLEEPING.per_square)
    parser.add_argument("--engine", type=float, nargs=3, default=cost, metavar=("FIXED", "A_TOKEN", "A_SQUARE"))
    parser.add_argument("--max-num-batched-tokens", type=int, default=SLEEPING.tokens)
    parser.add_argument("--seconds", type=float, default=20.0, help="that the work takes")
    parser.add_argument("--rounds", type=int, default=1)
    add_options(parser)
    options = parser.parse_args()
    engine = Engine(*options.engine, tokens=options.max_num_batched_tokens)
    lines: list[Line] = []
    for seed in range(options.rounds):
        for workers in options.workers:
            lines.append(line := measured(engine, workers, options.seconds, seed))
            first = next(each for each in reversed(lines) if each.workers == options.workers[0])
            spent = ", ".join(f"{role} {each:.0f}" for role, each in line.us_per_item.items())
            print(
                f"{workers:>3} workers: {line.tokens_per_second:7.0f} tokens/s each, "
                f"{line.tokens_per_second / first.tokens_per_second:.3f} of the first line; simulated "
                f"{line.simulated:7.0f}; engines slept {line.slept:.1%}; us an item: {spent}",
                flush=True,
            )
    found = [asdict(line) for line in lines]
    keep({"benchmark": "scaling", **describe_machine(), "lines": found}, options)


if __name__ == "__main__":
    main()
