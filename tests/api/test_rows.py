"""What becomes of a row that the queue answers, and of one that it gives up."""

import numpy as np

from api.rows import Row, pooled_entry
from api.sequences import Sequences
from scheduler.messages import Failure, Vector

TWO = Sequences("documents", [np.array([1, 2], np.int32), np.array([3], np.int32)], cut=1)
ROW = Row(TWO, lambda pooled: {"scores": [float(np.frombuffer(each, "<f4")[0]) for each in pooled]})
HALF = Vector(np.array([0.5], "<f4").tobytes())


def test_a_row_has_its_numbers_and_says_that_it_was_cut() -> None:
    assert pooled_entry(ROW, [HALF, HALF]) == {"tokens": 3, "truncated": True, "scores": [0.5, 0.5]}


def test_a_row_of_which_one_item_was_given_up_is_an_error() -> None:
    entry = pooled_entry(ROW, [HALF, Failure(500, "item_given_up", "The input was given up after 3 attempts.")])
    assert set(entry) == {"tokens", "error"}
    assert entry["error"]["code"] == "item_given_up"
    assert entry["error"]["type"] == "server_error"
    assert entry["error"]["param"] == "documents[1]"
    assert "documents[1]: The input was given up after 3 attempts." in entry["error"]["message"]
