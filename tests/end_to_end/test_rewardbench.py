"""A benchmark in RewardBench's shape gets the scores and the accuracy of a plain loop over Hugging Face's model."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest

from api.bulk.statistics import Statistics
from tests.api.bulk.outcomes import pair
from tests.golden.variants import golden_of, made
from tests.server import Millpond, client_of, serving

BENCHMARK = golden_of("rewardbench")
LARGEST_DIFFERENCE = 1e-4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Millpond]:
    """The reward model of the benchmark, served."""
    directory = made(BENCHMARK, tmp_path_factory.mktemp("benchmark") / "reward")
    with serving(model=directory) as running:
        yield running


def score(client: httpx.Client, prompt: str, answer: str) -> float:
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    reply = client.post("/v1/chat/reward", json={"messages": messages})
    assert reply.status_code == 200, reply.text
    (found,) = reply.json()["data"][0]["score"]
    return float(found)


def told(scores: Sequence[tuple[float, float]]) -> Statistics:
    """What is counted of both scores of each row."""
    made = Statistics()
    for both, row in zip(scores, BENCHMARK["rows"], strict=True):
        made.add(pair(*both, row["subset"]))
    return made


def assert_as_the_plain_loop(scores: Sequence[tuple[float, float]]) -> None:
    """Its scores, and its very accuracy in all and by subset."""
    np.testing.assert_allclose(scores, BENCHMARK["scores"], rtol=0, atol=LARGEST_DIFFERENCE)
    counted = told(scores)
    assert counted.pairs.accuracy == BENCHMARK["accuracy"]
    assert counted.subsets is not None
    assert {name: each.accuracy for name, each in counted.subsets.items()} == BENCHMARK["accuracy_by_subset"]


def test_the_accuracy_over_http_is_that_of_a_plain_loop(server: Millpond) -> None:
    with client_of(server) as client:
        assert_as_the_plain_loop(
            [
                (score(client, row["prompt"], row["chosen"]), score(client, row["prompt"], row["rejected"]))
                for row in BENCHMARK["rows"]
            ]
        )


def test_the_accuracy_of_a_scored_file_is_that_of_a_plain_loop(server: Millpond, tmp_path: Path) -> None:
    benchmark, output = tmp_path / "benchmark.jsonl", tmp_path / "scored.jsonl"
    benchmark.write_text("".join(json.dumps(row) + "\n" for row in BENCHMARK["rows"]), "utf-8")
    command = ["score", str(benchmark), "--output", str(output), "--server", server.url]
    run = subprocess.run([sys.executable, "-m", "api.cli", *command], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr
    rows = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    scores = [(row.pop("score_chosen"), row.pop("score_rejected")) for row in rows]
    assert [row.pop("margin") for row in rows] == [chosen - rejected for chosen, rejected in scores]
    assert rows == BENCHMARK["rows"]
    assert_as_the_plain_loop(scores)
    # What is printed at the end is what is counted of the output.
    printed = run.stdout.splitlines()
    summary = told(scores).report(80)
    assert printed[-len(summary) + 1 :] == summary[1:]
