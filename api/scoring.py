"""How relevant documents are to queries, for every dialect that asks: by a cross encoder, or by likeness."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from api.answering import PoolingCall, pooled
from api.documents import documents_within
from api.embedding import check_embeds, cosines, stacked
from api.errors import ApiError, bad_request
from api.media.references import ImageReference
from api.protocol.documents import Document
from api.protocol.texts import Compared
from api.sequences import MODEL_MAXIMUM, Limit, PairFields, Sequences, Truncation, pairs_within
from api.serving import ServedModel
from api.state import state_of, timings_of
from pooling.activations import Scores, activated
from pooling.pooler_config import Activation
from pooling.tokenizing import EncodedPair, Tokenizer

COSINE = "cosine"
"""In place of an activation, what an embedding model's scores are."""

TASKS = ("score", "embed")
"""What a model must be served for, one of them, to compare texts."""


@dataclass(frozen=True)
class Group:
    """A query and the documents that are compared with it.

    Attributes:
        instruction: what the model is told of its task, in place of what the checkpoint tells it.
    """

    query: Compared
    documents: Sequence[Compared]
    instruction: str | None = None

    @property
    def characters(self) -> int:
        """Of all its sequences together."""
        repeated = _length(self.query) + len(self.instruction or "")
        return repeated * len(self.documents) + sum(map(_length, self.documents))

    @property
    def image(self) -> ImageReference | None:
        """The first image in it."""
        return next((each for each in (self.query, *self.documents) if isinstance(each, ImageReference)), None)

    @property
    def texts(self) -> tuple[str, Sequence[str]]:
        """The query and the documents, where none is an image."""
        return cast("tuple[str, Sequence[str]]", (self.query, self.documents))


def _length(compared: Compared) -> int:
    return len(compared) if isinstance(compared, str) else 0


@dataclass(frozen=True)
class Relevance:
    """What came of a comparison.

    Attributes:
        scores: for each document of each group, in order, float32 [n].
        activation: what was applied to them, by name.
        tokens: how many were computed.
    """

    scores: NDArray[np.float32]
    activation: str
    tokens: int


@dataclass(frozen=True)
class Comparison:
    """Queries and documents as sequences, before they are queued.

    Attributes:
        pooling_activation: of the pooled rows, other than the model's own.
        activation: what the scores have been through, by name.
        scores: makes them of what is pooled: for each document of each group, in order, float32 [n].
    """

    sequences: Sequences
    pooling_activation: Activation | None
    activation: str
    scores: Callable[[Sequence[bytes]], NDArray[np.float32]]


async def relevance(
    request: Request,
    model: ServedModel,
    groups: Sequence[Group],
    truncation: Truncation,
    *,
    fields: PairFields | None = None,
    activate: bool | None = None,
    priority: int = 0,
) -> Relevance:
    """Scores of each query with each of its documents, one micro-batch's items or more; raises as `comparison` does."""
    made = await comparison(request, model, groups, truncation, fields=fields, activate=activate)
    call = PoolingCall(model, made.sequences, activation=made.pooling_activation, priority=priority)
    scores = _alike(groups, made.scores(await pooled(request, call)))
    return Relevance(scores, made.activation, made.sequences.tokens)


def _alike(groups: Sequence[Group], scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """The scores, of which equal texts of a group have one.

    Computed each by itself they differ in the last bit by their places in a batch, and would change places.
    """
    first: dict[tuple[int, object], int] = {}
    everything = ((number, document) for number, group in enumerate(groups) for document in group.documents)
    places = [
        first.setdefault((number, document if isinstance(document, str) else place), place)
        for place, (number, document) in enumerate(everything)
    ]
    return scores[places]


async def comparison(
    request: Request,
    model: ServedModel,
    groups: Sequence[Group],
    truncation: Truncation,
    *,
    fields: PairFields | None = None,
    activate: bool | None = None,
) -> Comparison:
    """Each query with each of its documents, as sequences.

    A cross encoder reads both together. An embedding model reads each alone, and the score is the cosine; so images
    are for embedding models that take them.

    Args:
        fields: what the request calls them.
        activate: False gives raw scores, True a relevance from 0 to 1; None what the checkpoint states, else that.

    Raises:
        ApiError: 400 what is wrong with a text, 413 the query makes too much of its documents.
    """
    fields = fields or PairFields()
    _check_size(request, groups, fields)
    if any(group.instruction is not None for group in groups) and not (model.pairing and model.pairing.instructs):
        raise bad_request(
            f"instruction has no place in what {model.name} reads: leave it out.", "instruction", "not_supported"
        )
    if "score" in model.spec.tasks:
        image = next((group.image for group in groups if group.image), None)
        if image is not None:
            raise bad_request(
                f"{image.place} is an image, and {model.name} takes text only: leave it out.",
                image.place.partition("[")[0],
                "unsupported_content",
            )
        return _by_cross_encoder(model, await _paired(request, model, groups, truncation, fields), activate)
    return await _by_likeness(request, model, groups, truncation, fields)


def _check_size(request: Request, groups: Sequence[Group], fields: PairFields) -> None:
    """Refuses what a query makes too large by standing before every document."""
    limit = state_of(request).options.max_request_bytes
    characters = sum(group.characters for group in groups)
    if characters > limit:
        count = sum(len(group.documents) for group in groups)
        raise ApiError(
            413,
            f"The {fields.query} with each of {count} {fields.documents} makes {characters} characters, over the limit "
            f"of {limit}: send fewer {fields.documents} at once, or raise --max-request-bytes.",
            param=fields.documents,
            code="request_too_large",
        )


def _by_cross_encoder(model: ServedModel, sequences: Sequences, activate: bool | None) -> Comparison:
    spec = model.spec
    wanted = None if activate is not False else Activation.NONE
    activation = wanted or spec.pooler.activation
    # Where nobody states one, a sigmoid makes a relevance of a raw score, as in Sentence Transformers' CrossEncoder.
    adds_sigmoid = activation is Activation.NONE and (activate or (activate is None and not spec.activation_stated))

    def scores(rows: Sequence[bytes]) -> Scores:
        raw: Scores = np.frombuffer(b"".join(rows), "<f4")
        return activated(raw, Activation.SIGMOID) if adds_sigmoid else raw

    return Comparison(sequences, wanted, str(Activation.SIGMOID if adds_sigmoid else activation), scores)


async def _paired(
    request: Request, model: ServedModel, groups: Sequence[Group], truncation: Truncation, fields: PairFields
) -> Sequences:
    """Each query with each of its documents as token ids, cut where the caller allows it."""
    pairing, timings = model.pairing, timings_of(request)
    if pairing is None:
        raise bad_request(
            f"{model.name} does not say how a query and a document become one text: put a chat_template.jinja that "
            "places the roles query and document into the checkpoint.",
            "model",
            "task_not_supported",
        )
    limit, pairs = Limit.of(truncation, model), list[EncodedPair]()
    with timings.stage("tokenize"):
        # A query stands in all its sequences: one that fits in none is found out before it is repeated.
        queries = [group.texts[0] for group in groups]
        for ids in await model.tokenize_within(queries, limit.tokens, add_special_tokens=False):
            if len(ids) >= limit.tokens:
                raise bad_request(
                    f"{fields.query} has {len(ids)} tokens or more, which leaves no room for a document within "
                    f"{limit.tokens} (--max-model-len, or {truncation.field}): shorten it.",
                    fields.query,
                    "context_length_exceeded",
                )
        # Of all together: a thousand short ones are as much to do as a long one.
        characters = sum(group.characters for group in groups)
        timings.characters += characters
        for group in groups:
            documents = await model.aside(characters, _shortened, model.tokenizer, group, limit)
            encode = await pairing.prepared(group.texts[0], documents, group.instruction)
            pairs += await model.aside(characters, encode)
        counted = [not model.tokenizer.may_shorten(text, limit.tokens) for group in groups for text in group.texts[1]]
        return pairs_within(limit, pairs, fields, counted)


def _shortened(tokenizer: Tokenizer, group: Group, limit: Limit) -> list[str]:
    return [tokenizer.shortened(text, limit.tokens) for text in group.texts[1]]


async def _by_likeness(
    request: Request,
    model: ServedModel,
    groups: Sequence[Group],
    truncation: Truncation,
    fields: PairFields,
) -> Comparison:
    check_embeds(model)
    queries = [Document([group.query], fields.query) for group in groups]
    asked = await documents_within(request, model, fields.query, queries, truncation)
    documents = [each for group in groups for each in group.documents]
    named = [Document([each], f"{fields.documents}[{index}]") for index, each in enumerate(documents)]
    read = await documents_within(request, model, fields.documents, named, _of_documents(truncation, model))
    images = [*(asked.images or [()] * len(queries)), *(read.images or [()] * len(named))]
    both = Sequences(fields.documents, [*asked.ids, *read.ids], cut=asked.cut + read.cut, images=images)
    owners = np.repeat(np.arange(len(groups)), [len(group.documents) for group in groups])

    def scores(rows: Sequence[bytes]) -> NDArray[np.float32]:
        vectors = stacked(rows)
        return cosines(vectors[: len(groups)][owners], vectors[len(groups) :])

    return Comparison(both, None, COSINE, scores)


def _of_documents(truncation: Truncation, model: ServedModel) -> Truncation:
    """The truncation of documents that are read alone, where the caller has said how long each may be."""
    if truncation.document_tokens is None:
        return truncation
    most = model.spec.max_model_len if truncation.tokens in (None, MODEL_MAXIMUM) else truncation.tokens
    return replace(truncation, tokens=min(truncation.document_tokens + model.special_tokens, most))
