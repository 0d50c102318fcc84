"""The token sequences of a request, brought within the model's limit: refused or cut."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from api.errors import ApiError, bad_request
from api.media.references import FetchedImage
from api.serving import ServedModel
from api.timings import Timings
from pooling.tokenizing import EncodedPair, Side, TokenIds
from pooling.vision.processors import ImageOptions

MODEL_MAXIMUM = -1
"""As a number of tokens to cut to: as many as the model takes."""


@dataclass(frozen=True)
class Truncation:
    """What a request says about sequences that are too long.

    Attributes:
        tokens: to how many they are cut, or MODEL_MAXIMUM; None: they are refused.
        side: where tokens are taken away.
        field: the field of the request that says so.
        remedy: what a caller may send who wants them cut, for the message that refuses them.
        document_tokens: to how many of its own tokens a document is cut before it is paired with a query; None: it is
            not.
    """

    tokens: int | None = None
    side: Side = "right"
    field: str = "truncate_prompt_tokens"
    remedy: str = '"truncate_prompt_tokens": -1'
    document_tokens: int | None = None


@dataclass(frozen=True)
class Sequences:
    """What goes to the queue for one request.

    Attributes:
        field: the field of the request that they come from.
        ids: of each, int32 [n].
        second_from: for each, where the second text of a pair begins as another segment, or None; empty without pairs.
        cut: how many were longer than the limit and were cut.
        cut_places: which, as far as they are not pairs.
        images: of each sequence; empty where none has any.
        image_options: how they are processed.
    """

    field: str
    ids: Sequence[TokenIds]
    second_from: Sequence[int | None] = ()
    cut: int = 0
    cut_places: Sequence[int] = ()
    images: Sequence[Sequence[FetchedImage]] = ()
    image_options: ImageOptions = dataclasses.field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Of all together."""
        return sum(map(len, self.ids))

    def place(self, index: int) -> str:
        """How a message to the caller names one of them."""
        return _place(self.field, index)


@dataclass(frozen=True)
class Limit:
    """The most tokens that a sequence may have, and what becomes of longer ones."""

    tokens: int
    may_cut: bool
    side: Side
    remedy: str
    document_tokens: int | None = None

    @classmethod
    def of(cls, truncation: Truncation, model: ServedModel) -> "Limit":
        """What a request's truncation means for the model.

        Raises:
            ApiError: 400, it is out of range.
        """
        longest, wanted = model.spec.max_model_len, truncation.tokens
        if wanted is None or wanted == MODEL_MAXIMUM:
            may_cut = wanted is not None
            return cls(longest, may_cut, truncation.side, truncation.remedy, truncation.document_tokens)
        fewest = model.special_tokens + 1
        if not fewest <= wanted <= longest:
            raise bad_request(
                f"{truncation.field} is {wanted}; it must be -1, or from {fewest} (the model's special tokens and "
                f"one more) to {longest} (--max-model-len).",
                truncation.field,
            )
        return cls(wanted, True, truncation.side, truncation.remedy, truncation.document_tokens)

    def too_long(self, place: str, tokens: int, counted: bool = True) -> ApiError:
        """The 400 for a sequence over the limit that may not be cut.

        Args:
            counted: whether so many are all, or some of a long text's.
        """
        count = f"{tokens} tokens" if counted else f"{tokens} tokens or more"
        return bad_request(
            f"{place} has {count}, over this model's {self.tokens} (--max-model-len): shorten it, "
            f"or send {self.remedy} to have it cut.",
            _field(place),
            "context_length_exceeded",
        )


async def texts_within(
    timings: Timings,
    model: ServedModel,
    field: str,
    texts: Sequence[str],
    truncation: Truncation,
    *,
    add_special_tokens: bool = True,
    prompt: str = "",
) -> Sequences:
    """Texts as tokens.

    Args:
        field: where they come from in the request.
        prompt: stands before each.

    Raises:
        ApiError: 400, one has no tokens, or is too long and may not be cut.
    """
    limit = Limit.of(truncation, model)
    with timings.stage("tokenize"):
        given = [prompt + text for text in texts] if prompt else texts
        timings.characters += sum(map(len, given))
        ids = await model.tokenize_within(given, limit.tokens, add_special_tokens=add_special_tokens, side=limit.side)
        return _within(limit, field, ids, model, given)


def ids_within(
    model: ServedModel,
    field: str,
    ids: Sequence[Sequence[int] | TokenIds],
    truncation: Truncation,
    texts: Sequence[str] | None = None,
) -> Sequences:
    """Sequences that are tokens already; raises as `texts_within` does.

    Args:
        texts: what they were made of, where that may have been shortened.
    """
    limit = Limit.of(truncation, model)
    return _within(limit, field, [np.asarray(each, dtype=np.int32) for each in ids], model, texts)


def _within(
    limit: Limit, field: str, ids: Sequence[TokenIds], model: ServedModel, texts: Sequence[str] | None = None
) -> Sequences:
    fitting, cut = list(ids), list[int]()
    for index, each in enumerate(ids):
        if not len(each):
            raise bad_request(f"{_place(field, index)} has no tokens: leave it out.", field, "empty")
        if len(each) > limit.tokens:
            if not limit.may_cut:
                counted = texts is None or not model.tokenizer.may_shorten(texts[index], limit.tokens)
                raise limit.too_long(_place(field, index), len(each), counted)
            fitting[index] = model.tokenizer.truncate(each, limit.tokens, limit.side)
            cut.append(index)
    return Sequences(field, fitting, cut=len(cut), cut_places=cut)


@dataclass(frozen=True)
class PairFields:
    """What a request calls the two sides of its pairs, for messages about them."""

    query: str = "query"
    documents: str = "documents"


def pairs_within(limit: Limit, pairs: Sequence[EncodedPair], fields: PairFields, counted: Sequence[bool]) -> Sequences:
    """Queries with their documents; too long ones are cut in the document.

    Args:
        counted: for each, whether it has all tokens of its document, or some of a long one's.

    Raises:
        ApiError: 400, a pair is too long and may not be cut, or the query alone leaves no room for the document.
    """
    fitting, cut = list(pairs), 0
    for index, pair in enumerate(pairs):
        place = f"{fields.documents}[{index}]"
        if not len(pair.ids):
            raise bad_request(
                f"{place} and the {fields.query} have no tokens: leave it out.", fields.documents, "empty"
            )
        wanted = len(pair.ids)
        if limit.document_tokens is not None:
            wanted -= max(0, len(pair.second) - limit.document_tokens)
        if wanted > limit.tokens and not limit.may_cut:
            raise limit.too_long(f"{place} with the {fields.query}", wanted, counted[index])
        wanted = min(wanted, limit.tokens)
        if wanted == len(pair.ids):
            continue
        try:
            fitting[index] = pair.cut(wanted)
        except ValueError as error:
            raise bad_request(
                f"{fields.query} leaves no room for {place} within {limit.tokens} tokens: shorten the {fields.query}.",
                fields.query,
                "context_length_exceeded",
            ) from error
        cut += 1
    return Sequences(fields.documents, [pair.ids for pair in fitting], [pair.second_from for pair in fitting], cut)


def _place(field: str, index: int) -> str:
    # There is one conversation in a request, and its field is a list of other things.
    return field if field == "messages" else f"{field}[{index}]"


def _field(place: str) -> str:
    return place.partition("[")[0]
