"""Outcomes of rows, for tests of what is made of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """What a row came to, as `api.bulk.statistics.Outcome` asks for it."""

    scores: tuple[float, ...] = ()
    pair_won: bool | None = None
    ties: bool = False
    subset: str | None = None


def pair(chosen: float, rejected: float, subset: str | None = None) -> Known:
    """The outcome of a chosen and a rejected answer."""
    return Known((chosen, rejected), chosen > rejected, chosen == rejected, subset)
