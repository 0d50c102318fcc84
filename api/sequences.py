"""The token sequences of a request, brought within the model's limit: refused or cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from api.errors import ApiError, bad_request
from api.serving import ServedModel
from pooling.tokenizing import EncodedPair, TokenIds

CUT_HEADER = "Millpond-Truncated-Inputs"


@dataclass(frozen=True)
class Sequences:
    """What goes to the queue for one request.

    Attributes:
        field: the field of the request that they come from.
        ids: of each, int32 [n].
        second_from: for each, where the second text of a pair begins as another segment, or None; empty without pairs.
        cut: how many were longer than the limit and were cut.
    """

    field: str
    ids: Sequence[TokenIds]
    second_from: Sequence[int | None] = ()
    cut: int = 0

    @property
    def tokens(self) -> int:
        """Of all together."""
        return sum(map(len, self.ids))

    @property
    def headers(self) -> dict[str, str]:
        """What the reply says about cutting."""
        return {CUT_HEADER: str(self.cut)} if self.cut else {}

    def place(self, index: int) -> str:
        """How a message to the caller names one of them."""
        return _place(self.field, index)


@dataclass(frozen=True)
class Limit:
    """The most tokens that a sequence may have, and whether longer ones are cut."""

    tokens: int
    may_cut: bool

    @classmethod
    def of(cls, truncate_prompt_tokens: int | None, model: ServedModel) -> "Limit":
        """What the request's field of this name means for the model.

        Raises:
            ApiError: 400, it is out of range.
        """
        longest, field = model.spec.max_model_len, "truncate_prompt_tokens"
        if truncate_prompt_tokens is None or truncate_prompt_tokens == -1:
            return cls(longest, truncate_prompt_tokens == -1)
        fewest = model.special_tokens + 1
        if not fewest <= truncate_prompt_tokens <= longest:
            raise bad_request(
                f"{field} is {truncate_prompt_tokens}; it must be -1, or from {fewest} (the model's special tokens and "
                f"one more) to {longest} (--max-model-len).",
                field,
            )
        return cls(truncate_prompt_tokens, True)

    def too_long(self, place: str, tokens: int) -> ApiError:
        """The 400 for a sequence over the limit that may not be cut."""
        return bad_request(
            f"{place} has {tokens} tokens, over this model's {self.tokens} (--max-model-len): shorten it, "
            'or send "truncate_prompt_tokens": -1 to have it cut.',
            _field(place),
            "context_length_exceeded",
        )


def sequences_within(
    limit: Limit, field: str, ids: Sequence[TokenIds], model: ServedModel, side: Literal["left", "right"] = "right"
) -> Sequences:
    """Single texts or conversations.

    Args:
        field: where they come from in the request.
        side: where too long ones are cut.

    Raises:
        ApiError: 400, one has no tokens, or is too long and may not be cut.
    """
    fitting, cut = list(ids), 0
    for index, each in enumerate(ids):
        if not len(each):
            raise bad_request(f"{_place(field, index)} has no tokens: leave it out.", field, "empty")
        if len(each) > limit.tokens:
            if not limit.may_cut:
                raise limit.too_long(_place(field, index), len(each))
            fitting[index] = model.tokenizer.truncate(each, limit.tokens, side)
            cut += 1
    return Sequences(field, fitting, cut=cut)


def pairs_within(limit: Limit, pairs: Sequence[EncodedPair]) -> Sequences:
    """A query with each of its documents; too long ones are cut at the end of the document.

    Raises:
        ApiError: 400, a pair is too long and may not be cut, or the query alone leaves no room for the document.
    """
    fitting, cut = list(pairs), 0
    for index, pair in enumerate(pairs):
        if not len(pair.ids):
            raise bad_request(f"documents[{index}] and the query have no tokens: leave it out.", "documents", "empty")
        if len(pair.ids) <= limit.tokens:
            continue
        if not limit.may_cut:
            raise limit.too_long(f"documents[{index}] with the query", len(pair.ids))
        try:
            fitting[index] = pair.cut(limit.tokens)
        except ValueError as error:
            raise bad_request(
                f"query leaves no room for documents[{index}] within {limit.tokens} tokens: shorten the query.",
                "query",
                "context_length_exceeded",
            ) from error
        cut += 1
    return Sequences("documents", [pair.ids for pair in fitting], [pair.second_from for pair in fitting], cut)


def _place(field: str, index: int) -> str:
    # There is one conversation in a request, and its field is a list of other things.
    return field if field == "messages" else f"{field}[{index}]"


def _field(place: str) -> str:
    return place.partition("[")[0]
