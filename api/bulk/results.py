"""From the entries of `POST /v1/rows` for one row to its new columns, and to what the summary counts."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Entry = Mapping[str, Any]
Columns = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a row came to.

    Attributes:
        scores: all numbers of it: one, one a step, one a document; of a pair the chosen one's come first. None of an
            embedding.
        pair_won: whether the chosen answer has the higher score; None where the row is no pair, or has lists of scores.
        ties: 1 where both have the same score, which is not won.
        subset: of a benchmark, to which the row belongs.
    """

    scores: tuple[float, ...]
    pair_won: bool | None = None
    ties: int = 0
    subset: str | None = None


@dataclass(frozen=True)
class Result:
    """One way to make columns of entries.

    Attributes:
        names: of the columns, in their order.
        columns: the entries of a row, and whether scores stay lists though they have one number, give the columns.
        outcome: the columns give what is counted.
    """

    names: tuple[str, ...]
    columns: Callable[[Sequence[Entry], bool], Columns]
    outcome: Callable[[Mapping[str, Any]], Outcome]


def _number_or_list(entry: Entry, lists: bool) -> float | list[float]:
    """One number as such; of a model with steps, tokens or several labels the list."""
    scores: list[float] = entry["score"]
    return scores[0] if len(scores) == 1 and not lists else scores


def _flat(value: float | Sequence[float]) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)  # type: ignore[return-value]


def _score(entries: Sequence[Entry], lists: bool) -> Columns:
    return {"score": _number_or_list(entries[0], lists)}


def _step_scores(entries: Sequence[Entry], lists: bool) -> Columns:
    return {"score": entries[0]["score"]}


def _scores(entries: Sequence[Entry], lists: bool) -> Columns:
    return {"scores": [_number_or_list(entry, lists) for entry in entries]}


def _ranking(entries: Sequence[Entry], lists: bool) -> Columns:
    return {"scores": entries[0]["scores"]}


def _embedding(entries: Sequence[Entry], lists: bool) -> Columns:
    """The vector as little-endian float32 [d], whether it came as numbers or as base64."""
    value = entries[0]["embedding"]
    vector = np.frombuffer(base64.b64decode(value), "<f4") if isinstance(value, str) else np.asarray(value, "<f4")
    return {"embedding": vector}


def _pair(entries: Sequence[Entry], lists: bool) -> Columns:
    chosen, rejected = (_number_or_list(entry, lists) for entry in entries)
    margin = None if isinstance(chosen, list) or isinstance(rejected, list) else chosen - rejected
    return {"score_chosen": chosen, "score_rejected": rejected, "margin": margin}


def _score_outcome(columns: Mapping[str, Any]) -> Outcome:
    return Outcome(_flat(columns["score"]))


def _scores_outcome(columns: Mapping[str, Any]) -> Outcome:
    return Outcome(tuple(number for each in columns["scores"] for number in _flat(each)))


def _pair_outcome(columns: Mapping[str, Any]) -> Outcome:
    chosen, rejected = columns["score_chosen"], columns["score_rejected"]
    scores = (*_flat(chosen), *_flat(rejected))
    if columns["margin"] is None:
        return Outcome(scores)
    return Outcome(scores, pair_won=chosen > rejected, ties=int(chosen == rejected))


SCORE = Result(("score",), _score, _score_outcome)
STEPS = Result(("score",), _step_scores, _score_outcome)
SCORES = Result(("scores",), _scores, _scores_outcome)
PAIR = Result(("score_chosen", "score_rejected", "margin"), _pair, _pair_outcome)
EMBEDDING = Result(("embedding",), _embedding, lambda columns: Outcome(()))
RANKING = Result(("scores",), _ranking, _scores_outcome)
