"""The scheduler's own policy, turns, costs and slots on a virtual clock: waits, fairness and use of 1 to 1,000 workers.

    .venv/bin/python -m benchmarks.simulate --workers 8 --interactive 200 --bulk 50000 --seconds 60 [--json FILE]
    .venv/bin/python -m benchmarks.simulate --trace arrivals.jsonl --workers 2
    .venv/bin/python -m benchmarks.simulate --compare

The first makes arrivals: interactive items at random moments, so many a second, beside a backlog of the bulk lane that
is there from the beginning; the second reads them from a trace (`benchmarks/simulation/arrivals.py`). An engine takes
`--engine FIXED A_TOKEN A_SQUARE` seconds, by default what all-MiniLM-L6-v2 takes on two cores. `--compare` sends the
same arrivals through a real Redis, scheduler and Celery worker whose engine sleeps for as long, and shows both.
"""

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.simulation.arrivals import Arrival, backlog, poisson, recorded
from benchmarks.simulation.events import Engine, Setting, Simulation
from benchmarks.simulation.real import queue_of, run_real
from benchmarks.simulation.report import shown, summary

LENGTHS = [12, 20, 30, 40, 50, 60, 70, 80, 100, 120, 160, 200, 250]
"""Tokens of texts, about 90 in the mean."""

CPU = (0.006, 0.00017, 1e-7)


def made(options: argparse.Namespace) -> list[Arrival]:
    """The arrivals that the options ask for."""
    if options.trace:
        return recorded(options.trace)
    tenants = [f"tenant {number}" for number in range(options.tenants)]
    interactive = poisson(options.seed, 0, options.interactive, options.seconds, LENGTHS, tenants)
    return sorted(
        itertools.chain(interactive, backlog(options.seed + 1, 2, options.bulk, LENGTHS, "bulk")),
        key=lambda each: each.seconds,
    )


def compare(setting: Setting, arrivals: Sequence[Arrival], seconds: float, seed: int) -> dict[str, Any]:
    """Both outcomes, and the real one's figures as ratios of the simulated ones'."""
    simulated = summary(Simulation(setting, seed).run(arrivals, until=seconds))
    with queue_of(setting) as redis_url:
        outcome = run_real(redis_url, arrivals, seconds)
    outcome.busy, outcome.batches = [0.0], [0]
    real = summary(outcome)
    print(f"simulated\n{shown(simulated)}\n\nreal\n{shown(real)}\n")
    ratios = {
        f"{lane} {name}": real["lanes"][lane][name] / row[name]
        for lane, row in simulated["lanes"].items()
        for name in ("per_second", "p50", "p90")
    }
    for name, ratio in ratios.items():
        print(f"{name:<24} real is {ratio:.3f} of the simulated")
    return {"simulated": simulated, "real": real, "ratios": ratios}


def main() -> None:
    """Prints the table; writes JSON when asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--engine", type=float, nargs=3, default=CPU, metavar=("FIXED", "A_TOKEN", "A_SQUARE"))
    parser.add_argument("--noise", type=float, default=0.0, help="sigma of the logarithm of a forward's time")
    parser.add_argument("--max-num-batched-tokens", type=int, default=2048)
    parser.add_argument("--target-ms", type=int, default=50)
    parser.add_argument("--interactive", type=float, default=20.0, help="items a second")
    parser.add_argument("--tenants", type=int, default=1, help="of the interactive lane")
    parser.add_argument("--bulk", type=int, default=4_000, help="items that wait from the beginning")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    engines = [Engine(*options.engine, options.noise)] * options.workers
    setting = Setting(engines, options.max_num_batched_tokens, target_seconds=options.target_ms / 1000)
    arrivals = made(options)
    if options.compare:
        found = compare(setting, arrivals, options.seconds, options.seed)
    else:
        found = summary(Simulation(setting, options.seed).run(arrivals, until=options.seconds))
        print(shown(found))
    if options.json:
        options.json.write_text(json.dumps({**describe_machine(), **found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
