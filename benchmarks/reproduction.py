"""How well the simulator foretells a real run: both of the same calls, side by side.

    .venv/bin/python -m benchmarks.reproduction [--workers 2] [--engine default] [--json FILE]

Interactive calls of one text come at random moments beside a bulk backlog that is there from the beginning. They go
through a real Redis, scheduler and Celery workers. Engines that sleep for their cost keep most of the machine's noise
out; `--engine default` is the default model in a whole server. Then the simulator gets the calls at the moments at
which they were sent; the cost of forwards and their noise, fitted to those of the run; and what lies around a forward,
from idle calls at its beginning.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from api.options import Options
from api.serving import checkpoint_directory
from benchmarks.machine import describe_machine
from benchmarks.simulation.arrivals import Call, Lengths, Stream, made
from benchmarks.simulation.comparing import Compared, after_idle_calls, simulated_of
from benchmarks.simulation.machines import Deployment, Engine
from benchmarks.simulation.real import MODEL, queue_of, run_real
from tests.server import serving

SLEEPING = Engine(0.006, 1.7e-4, 1e-7)
"""What all-MiniLM-L6-v2 takes on two cores, near enough."""

LENGTHS = Lengths(median=40, spread=0.7, least=4, most=250)
ITEMS = 32
"""Of a call of the backlog."""


def calls_of(seconds: float, load: float, backlog: float, workers: int, seed: int) -> list[Call]:
    """Interactive calls that use so much of what sleeping workers can do, and a backlog that takes so long alone."""
    typical = 50
    each = SLEEPING.per_token * typical + SLEEPING.per_square * typical**2
    alone = SLEEPING.fixed + each
    interactive = Stream(0, rate=load * workers / alone, lengths=LENGTHS)
    bulk = Stream(2, "bulk", backlog=round(backlog * workers / (each * ITEMS)), items=ITEMS, lengths=LENGTHS)
    return made([interactive, bulk], seconds, seed)


def compared_sleeping(calls: list[Call], workers: int, seed: int) -> list[Compared]:
    """With engines that sleep."""
    with queue_of(Deployment([SLEEPING] * workers)) as queue:
        real = run_real(queue.redis_url, after_idle_calls(calls))
    return simulated_of(real, workers, SLEEPING.tokens, SLEEPING.sequences, seed)


def compared_default(calls: list[Call], seed: int) -> list[Compared]:
    """With the default model."""
    with serving("--served-model-name", MODEL, model=checkpoint_directory(Options())) as server:
        assert server.data_directory
        real = run_real(f"unix://{server.data_directory}/redis.sock?db=0", after_idle_calls(calls))
    return simulated_of(real, 1, SLEEPING.tokens, SLEEPING.sequences, seed)


def main() -> None:
    """Prints the table; writes JSON when asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("sleeping", "default"), default="sleeping")
    parser.add_argument("--workers", type=int, default=1, help="that sleep")
    parser.add_argument("--seconds", type=float, default=20.0, help="for how long interactive calls come")
    parser.add_argument("--load", type=float, default=0.2, help="of interactive calls, of what could be done")
    parser.add_argument("--backlog", type=float, default=12.0, help="seconds that the backlog takes alone")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    calls = calls_of(options.seconds, options.load, options.backlog, options.workers, options.seed)
    if options.engine == "default":
        rows = compared_default(calls, options.seed)
    else:
        rows = compared_sleeping(calls, options.workers, options.seed)
    print(f"{'lane':<12}{'':<14}{'real':>10}{'simulated':>12}{'ratio':>8}")
    for row in rows:
        print(row)
    if options.json:
        found = [{**asdict(row), "ratio": row.ratio} for row in rows]
        options.json.write_text(json.dumps({**describe_machine(), "rows": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
