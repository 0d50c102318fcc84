"""What a bulk command tells at its end: rows, scores, and how often the chosen answer of a pair won.

Each chunk has statistics of its own, kept in the ledger; all of them are merged for the summary.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from api.bulk.distribution import Distribution, exact, mean_of
from api.bulk.shortening import shortened

MOST_SUBSETS = 200
"""So many subsets are told apart; of more, the table is left out altogether, so that no order of merging matters."""

LONGEST_SUBSET = 100
"""Characters of a subset's name; longer ones are cut, and counted under what is left of them."""

_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


class Outcome(Protocol):
    """What a row came to.

    Attributes:
        scores: all numbers of it: one, one a step, one a document; of a pair the chosen one's come first.
        pair_won: whether the chosen answer has the higher score; None where the row is no pair.
        ties: whether both have the same score.
        subset: of a benchmark, to which the row belongs.
    """

    @property
    def scores(self) -> tuple[float, ...]: ...
    @property
    def pair_won(self) -> bool | None: ...
    @property
    def ties(self) -> int: ...
    @property
    def subset(self) -> str | None: ...


class Pairs:
    """Pairs of a chosen and a rejected answer: how many were told right.

    A tie counts as lost, as RewardBench has it: `results.append(1) if chosen > rejected else results.append(0)`, in
    rewardbench/rewardbench.py and scripts/run_rm.py of allenai/reward-bench. So does a score that is no number.

    Attributes:
        won, lost, tied: pairs; each is in one of them.
        margins, margin_total: how many pairs have a finite margin, and the sum of these, as `exact` has it.
    """

    __slots__ = ("lost", "margin_total", "margins", "tied", "won")

    def __init__(self, won: int = 0, lost: int = 0, tied: int = 0, margins: int = 0, margin_total: int = 0) -> None:
        self.won, self.lost, self.tied = won, lost, tied
        self.margins, self.margin_total = margins, margin_total

    def add(self, outcome: Outcome) -> None:
        """Counts a pair."""
        if outcome.pair_won:
            self.won += 1
        elif outcome.ties:
            self.tied += 1
        else:
            self.lost += 1
        if len(outcome.scores) == 2:
            margin = outcome.scores[0] - outcome.scores[1]
            if math.isfinite(margin):
                self.margins += 1
                self.margin_total += exact(margin)

    def merge(self, other: "Pairs") -> None:
        """Takes in what another one counted."""
        self.won += other.won
        self.lost += other.lost
        self.tied += other.tied
        self.margins += other.margins
        self.margin_total += other.margin_total

    @property
    def count(self) -> int:
        """All pairs."""
        return self.won + self.lost + self.tied

    @property
    def accuracy(self) -> float:
        """The share of pairs that were won; NaN of none."""
        return self.won / self.count if self.count else math.nan

    @property
    def mean_margin(self) -> float:
        """The mean of chosen minus rejected; NaN where no pair has one."""
        return mean_of(self.margin_total, self.margins)

    def state(self) -> list[Any]:
        """All of it as JSON values."""
        return [self.won, self.lost, self.tied, self.margins, hex(self.margin_total)]

    @classmethod
    def of(cls, state: list[Any]) -> "Pairs":
        """From what `state` gave."""
        won, lost, tied, margins, total = state
        return cls(won, lost, tied, margins, int(total, 16))


class Statistics:
    """Of rows: counts, tokens, scores and pairs; in bounded memory, and the same in whatever order they are merged.

    Attributes:
        rows: all, the bad ones included.
        bad: rows without an answer, which are in the errors file.
        duplicates: rows answered from an identical one, not computed again.
        tokens: that were computed.
        scores: all scores of all rows.
        pairs: of all rows.
        subsets: pairs by subset; None where there were more than are told apart.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.bad = 0
        self.duplicates = 0
        self.tokens = 0
        self.scores = Distribution()
        self.pairs = Pairs()
        self.subsets: dict[str, Pairs] | None = {}

    def add(self, outcome: Outcome, tokens: int = 0, duplicate: bool = False) -> None:
        """Counts a row that has its answer.

        Args:
            tokens: computed for it: none of a duplicate.
        """
        self.rows += 1
        self.tokens += tokens
        self.duplicates += duplicate
        for score in outcome.scores:
            self.scores.add(score)
        if outcome.pair_won is None and not outcome.ties:
            return
        self.pairs.add(outcome)
        if outcome.subset is not None:
            self._subset(outcome.subset[:LONGEST_SUBSET]).add(outcome)

    def add_bad(self, rows: int = 1) -> None:
        """Counts rows that have no answer."""
        self.rows += rows
        self.bad += rows

    def merge(self, other: "Statistics") -> None:
        """Takes in what another one counted."""
        self.rows += other.rows
        self.bad += other.bad
        self.duplicates += other.duplicates
        self.tokens += other.tokens
        self.scores.merge(other.scores)
        self.pairs.merge(other.pairs)
        if other.subsets is None:
            self.subsets = None
            return
        for name, pairs in other.subsets.items():
            self._subset(name).merge(pairs)

    def _subset(self, name: str) -> Pairs:
        """The pairs of a subset; of too many subsets, pairs that nobody reads."""
        if self.subsets is None:
            return Pairs()
        found = self.subsets.setdefault(name, Pairs())
        if len(self.subsets) > MOST_SUBSETS:
            self.subsets = None
        return found

    def encode(self) -> str:
        """All of it as a line of JSON."""
        subsets = None if self.subsets is None else {name: each.state() for name, each in self.subsets.items()}
        state = {name: getattr(self, name) for name in _COUNTS}
        state |= {"scores": self.scores.state(), "pairs": self.pairs.state(), "subsets": subsets}
        return json.dumps(state, separators=(",", ":"), allow_nan=False)

    @classmethod
    def decode(cls, text: str) -> "Statistics":
        """From what `encode` gave."""
        state: Mapping[str, Any] = json.loads(text)
        made = cls()
        for name in _COUNTS:
            setattr(made, name, state[name])
        made.scores = Distribution.of(state["scores"])
        made.pairs = Pairs.of(state["pairs"])
        subsets = state["subsets"]
        made.subsets = None if subsets is None else {name: Pairs.of(each) for name, each in subsets.items()}
        return made

    def report(self, width: int = 80) -> list[str]:
        """The summary at the end, in lines of at most so many characters where it can be done (40 at least)."""
        answered = f"{self.rows - self.bad:,} answered ({self.duplicates:,} from an identical row)"
        lines = [f"{self.rows:,} rows: {answered}, {self.bad:,} bad; {self.tokens:,} tokens"]
        if self.scores.count or self.scores.not_numbers or self.scores.infinite:
            lines += ["", *_scores_shown(self.scores, width)]
        if self.pairs.count:
            lines += ["", *self._pairs_shown(width)]
        return lines

    def _pairs_shown(self, width: int) -> Iterator[str]:
        pairs = self.pairs
        yield f"{pairs.count:,} pairs: accuracy {pairs.accuracy:.4f} (chosen > rejected; a tie is not a win)"
        yield f"  {pairs.won:,} won, {pairs.lost:,} lost, {pairs.tied:,} tied; mean margin {pairs.mean_margin:.4g}"
        if self.subsets is None:
            yield f"  more than {MOST_SUBSETS} subsets: not told apart"
        elif self.subsets:
            yield from _table(self.subsets, width)


_COUNTS = ("rows", "bad", "duplicates", "tokens")


def _scores_shown(scores: Distribution, width: int) -> Iterator[str]:
    """Mean, range, percentiles and a histogram of bars."""
    apart = [
        f"{count:,} {what}"
        for count, what in ((scores.not_numbers, "that are no numbers"), (scores.infinite, "infinite"))
        if count
    ]
    yield f"{scores.count:,} scores" + "".join(f", and {each}" for each in apart)
    if not scores.count:
        return
    values = scores.quantiles([percentile / 100 for percentile in _PERCENTILES])
    shown = dict(zip(_PERCENTILES, values, strict=True))
    yield f"  mean {scores.mean:.5g}, median {shown[50]:.4g}, from {scores.smallest:.5g} to {scores.largest:.5g}"
    yield "  percentiles: " + ", ".join(f"{number}: {value:.4g}" for number, value in shown.items() if number != 50)
    yield from _bars(scores, width)


def _bars(scores: Distribution, width: int) -> Iterator[str]:
    bins = scores.bins()
    labels = [_range_shown(each.low, each.high) for each in bins]
    counts = [f"{each.count:,}" for each in bins]
    label_width, count_width = max(map(len, labels)), max(map(len, counts))
    room = max(10, width - label_width - count_width - 5)
    most = max(each.count for each in bins)
    for each, label, count in zip(bins, labels, counts, strict=True):
        bar = "#" * math.ceil(each.count / most * room)
        yield f"  {label:>{label_width}} {count:>{count_width}} {bar}".rstrip()


def _range_shown(low: float, high: float) -> str:
    if math.isinf(low):
        return f"below {high:.5g}"
    if math.isinf(high):
        return f"from {low:.5g}"
    return f"{low:.5g} to {high:.5g}"


def _table(subsets: Mapping[str, Pairs], width: int) -> Iterator[str]:
    """A line for each subset, in the order of their names."""
    heads = ("pairs", "accuracy", "tied", "mean margin")
    rows = [
        (name, (f"{each.count:,}", f"{each.accuracy:.4f}", f"{each.tied:,}", f"{each.mean_margin:.4g}"))
        for name, each in sorted(subsets.items())
    ]
    widths = [max(len(head), *(len(cells[place]) for _, cells in rows)) for place, head in enumerate(heads)]
    room = max(10, width - sum(widths) - 2 * len(widths) - 2)
    names = min(room, max(len("subset"), *(len(name) for name, _ in rows)))
    for name, cells in (("subset", heads), *rows):
        numbers = "".join(f"  {cell:>{size}}" for cell, size in zip(cells, widths, strict=True))
        yield f"  {shortened(name, names):<{names}}{numbers}"
