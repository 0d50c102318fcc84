"""A benchmark in RewardBench's shape gets the scores and the accuracy of a plain loop over Hugging Face's model."""

from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from api.bulk.statistics import Statistics
from tests.api.bulk.outcomes import pair
from tests.golden.variants import golden_of, made
from tests.server import client_of, serving

BENCHMARK = golden_of("rewardbench")
LARGEST_DIFFERENCE = 1e-4


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The reward model of the benchmark, served."""
    directory = made(BENCHMARK, tmp_path_factory.mktemp("benchmark") / "reward")
    with serving(model=directory) as server, client_of(server) as plain:
        yield plain


def score(client: httpx.Client, prompt: str, answer: str) -> float:
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    reply = client.post("/v1/chat/reward", json={"messages": messages})
    assert reply.status_code == 200, reply.text
    (found,) = reply.json()["data"][0]["score"]
    return float(found)


def assert_told_right(told: Statistics) -> None:
    """The very accuracy of the plain loop, in all and by subset."""
    assert told.pairs.count == len(BENCHMARK["rows"])
    assert told.pairs.accuracy == BENCHMARK["accuracy"]
    assert told.subsets is not None
    assert {name: each.accuracy for name, each in told.subsets.items()} == BENCHMARK["accuracy_by_subset"]


def test_the_accuracy_over_http_is_that_of_a_plain_loop(client: httpx.Client) -> None:
    told = Statistics()
    found = []
    for row in BENCHMARK["rows"]:
        both = score(client, row["prompt"], row["chosen"]), score(client, row["prompt"], row["rejected"])
        found.append(both)
        told.add(pair(*both, row["subset"]))
    np.testing.assert_allclose(found, BENCHMARK["scores"], rtol=0, atol=LARGEST_DIFFERENCE)
    assert_told_right(told)
    assert told.pairs.tied == 2
