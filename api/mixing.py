"""Inputs of several kinds in one call, as text-embeddings-inference takes them: texts with token ids, or with pairs."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from api.errors import bad_request
from api.pairing import Pairing, TokenizerPairing
from api.sequences import Limit, Sequences, Truncation, ids_within, texts_within
from api.serving import ServedModel
from api.timings import Timings
from pooling.tokenizing import EncodedPair, TokenIds

FIELD = "inputs"
"""Where they come from in a request."""

TextOrIds = str | Sequence[int]

TextOrPair = str | tuple[str, str]


async def texts_and_ids_within(
    timings: Timings, model: ServedModel, inputs: Sequence[TextOrIds], truncation: Truncation, *, prompt: str = ""
) -> Sequences:
    """Texts as tokens, and token ids as they are, in the order of the call.

    Args:
        prompt: stands before each text.

    Raises:
        ApiError: 400, one has no tokens, or is too long and may not be cut.
    """
    texts = [each for each in inputs if isinstance(each, str)]
    if len(texts) == len(inputs):
        return await texts_within(timings, model, FIELD, texts, truncation, prompt=prompt)
    limit = Limit.of(truncation, model)
    with timings.stage("tokenize"):
        given = [prompt + text for text in texts]
        timings.characters += sum(map(len, given))
        read = iter(await model.tokenize_within(given, limit.tokens, add_special_tokens=True, side=limit.side))
    ids = [next(read) if isinstance(each, str) else np.asarray(each, dtype=np.int32) for each in inputs]
    origins = [prompt + each if isinstance(each, str) else "" for each in inputs]
    return ids_within(model, FIELD, ids, truncation, origins)


async def texts_and_pairs_within(
    timings: Timings, model: ServedModel, inputs: Sequence[TextOrPair], truncation: Truncation
) -> Sequences:
    """Texts and pairs of texts as tokens, in the order of the call; a pair that is too long is cut in its second text.

    Raises:
        ApiError: 400, one has no tokens, or is too long and may not be cut, or a pair is to be cut at its beginning.
    """
    texts = [each for each in inputs if isinstance(each, str)]
    if len(texts) == len(inputs):
        return await texts_within(timings, model, FIELD, texts, truncation)
    limit = Limit.of(truncation, model)
    if limit.may_cut and limit.side == "left":
        raise bad_request(
            "truncation_direction is Left, and of a pair the end of the second text is cut: leave it out.",
            "truncation_direction",
        )
    timings.characters += sum(len(each) if isinstance(each, str) else sum(map(len, each)) for each in inputs)
    with timings.stage("tokenize"):
        encoded = await _encoded(model, inputs, limit)
    return _within(limit, model, inputs, encoded)


async def _encoded(model: ServedModel, inputs: Sequence[TextOrPair], limit: Limit) -> list[TokenIds | EncodedPair]:
    """Each input's tokens; neighbours are read together: texts, and pairs with the same first text."""
    pairing = _pairing(model)
    encoded: list[TokenIds | EncodedPair] = []
    for first, neighbours in groupby(inputs, lambda each: None if isinstance(each, str) else each[0]):
        texts = [each if isinstance(each, str) else each[1] for each in neighbours]
        if first is None:
            encoded += await model.tokenize_within(texts, limit.tokens, add_special_tokens=True, side=limit.side)
            continue
        query, *documents = (model.tokenizer.shortened(text, limit.tokens) for text in (first, *texts))
        characters = len(query) * len(documents) + sum(map(len, documents))
        encoded += await model.aside(characters, await pairing.prepared(query, documents))
    return encoded


def _pairing(model: ServedModel) -> Pairing:
    # A classifier that is not asked about documents takes pairs as its tokenizer joins them.
    pairing = model.pairing if "score" in model.spec.tasks else TokenizerPairing(model.tokenizer, "")
    if pairing is None:
        raise bad_request(
            f"{model.name} does not say how two texts become one: put a chat_template.jinja that places the roles "
            "query and document into the checkpoint.",
            FIELD,
            "task_not_supported",
        )
    return pairing


def _within(
    limit: Limit, model: ServedModel, inputs: Sequence[TextOrPair], encoded: Sequence[TokenIds | EncodedPair]
) -> Sequences:
    ids: list[TokenIds] = []
    second_from: list[int | None] = []
    cut = 0
    for index, (given, each) in enumerate(zip(inputs, encoded, strict=True)):
        place, pair = f"{FIELD}[{index}]", each if isinstance(each, EncodedPair) else None
        tokens = pair.ids if pair else each
        assert isinstance(tokens, np.ndarray)
        if not len(tokens):
            raise bad_request(f"{place} has no tokens: leave it out.", FIELD, "empty")
        if len(tokens) > limit.tokens:
            if not limit.may_cut:
                texts = [given] if isinstance(given, str) else given
                counted = not any(model.tokenizer.may_shorten(text, limit.tokens) for text in texts)
                raise limit.too_long(place, len(tokens), counted)
            cut += 1
            pair = _cut(pair, limit.tokens, place) if pair else None
            tokens = pair.ids if pair else model.tokenizer.truncate(tokens, limit.tokens, limit.side)
        ids.append(tokens)
        second_from.append(pair.second_from if pair else None)
    return Sequences(FIELD, ids, second_from, cut)


def _cut(pair: EncodedPair, tokens: int, place: str) -> EncodedPair:
    try:
        return pair.cut(tokens)
    except ValueError as error:
        raise bad_request(
            f"The first text of {place} leaves no room for the second within {tokens} tokens: shorten it.",
            FIELD,
            "context_length_exceeded",
        ) from error
