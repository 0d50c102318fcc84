"""What every program here measures its client by: plain JSON calls, made with the standard library alone."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import numpy.typing as npt

LARGEST_DIFFERENCE = 1e-6
"""Between a vector that a client hands out and the same vector in JSON, and again of what a number itself is: batches
may differ, floats print in full."""

TEXTS = [f"the mill pond stores water {number}" for number in range(25)]
"""More than one batch for each client whose batches are told to hold ten."""

DOCUMENTS = ["The mill pond stores water.", "rain", "a queue", "the river arrives"]
QUERY = "where is the water"

Main = Callable[[str, str], None]


def run(main: Main) -> None:
    """Calls `main` with the URL and the model's name that stand in the command line."""
    url, model = sys.argv[1:]
    sys.addaudithook(_stay_here)
    main(url, model)
    print("all checks passed")


def _stay_here(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuses any host but this one, so that no client's check rests on the internet."""
    if event == "socket.getaddrinfo" and arguments[0] not in (None, "127.0.0.1", "localhost", b"127.0.0.1"):
        raise OSError(f"a client asks for the address of {arguments[0]}, and these checks stay on this machine")


def post(url: str, path: str, body: object) -> Any:
    """The reply of a JSON call; raises urllib's HTTPError where it is no 200."""
    request = Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=60) as reply:
        return json.load(reply)


def embeddings(url: str, model: str, inputs: object, **fields: object) -> npt.NDArray[np.float32]:
    """The vectors of a plain call, float32 [inputs, dimensions]."""
    reply = post(url, "/v1/embeddings", {"model": model, "input": inputs, **fields})
    return np.asarray([each["embedding"] for each in reply["data"]], dtype=np.float32)


def relevance(url: str, model: str, query: str, documents: Sequence[str]) -> list[float]:
    """The relevance of each document in the order in which they stand, by a plain call."""
    results = post(url, "/v1/rerank", {"model": model, "query": query, "documents": documents})["results"]
    return [each["relevance_score"] for each in sorted(results, key=lambda each: each["index"])]


def assert_same(found: object, wanted: object) -> None:
    """Fails where two arrays differ in form or by more than a client may add."""
    assert np.shape(found) == np.shape(wanted), (np.shape(found), np.shape(wanted))
    np.testing.assert_allclose(np.asarray(found, dtype=np.float64), wanted, LARGEST_DIFFERENCE, LARGEST_DIFFERENCE)


def assert_ranked(found: Sequence[tuple[int, float]], wanted: Sequence[float], top: int | None = None) -> None:
    """Fails unless `found`, pairs of index and relevance, are the best of `wanted`, the best first."""
    order = np.argsort(-np.asarray(wanted), kind="stable").tolist()[:top]
    assert [index for index, _ in found] == order, (found, wanted)
    assert_same([score for _, score in found], [wanted[index] for index in order])
