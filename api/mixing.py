"""Inputs of several kinds in one call, as text-embeddings-inference takes them: texts with token ids, or with pairs."""

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from itertools import chain, groupby

import numpy as np

from api.errors import bad_request
from api.pairing import Pairing, TokenizerPairing
from api.sequences import Limit, Sequences, Truncation, ids_within, texts_within
from api.serving import ServedModel
from api.timings import Timings
from pooling.tokenizing import EncodedPair, TokenIds, Tokenizer

FIELD = "inputs"
"""Where they come from in a request."""

TextOrIds = str | Sequence[int]

TextOrPair = str | tuple[str, str]

Encode = Callable[[], Sequence[TokenIds | EncodedPair]]
"""Makes the tokens of some inputs."""


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
    for index, (each, tokens) in enumerate(zip(inputs, ids, strict=True)):
        if isinstance(each, str) and not limit.may_cut and len(tokens) > limit.tokens:
            counted = not model.tokenizer.may_shorten(prompt + each, limit.tokens)
            raise limit.too_long(f"{FIELD}[{index}]", len(tokens), counted)
    return ids_within(model, FIELD, ids, truncation)


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
    characters = sum(len(each) if isinstance(each, str) else sum(map(len, each)) for each in inputs)
    timings.characters += characters
    with timings.stage("tokenize"):
        given = await model.aside(characters, _shortened, model.tokenizer, inputs, limit)
        encode = [each async for each in _prepared(model, given)]
        encoded = await model.aside(characters, lambda: list(chain.from_iterable(each() for each in encode)))
    whole = [each == other for each, other in zip(inputs, given, strict=True)]
    return _within(limit, model, encoded, whole)


def _shortened(tokenizer: Tokenizer, inputs: Sequence[TextOrPair], limit: Limit) -> list[TextOrPair]:
    """The inputs, without most of what lies far beyond the limit."""
    return [
        tokenizer.shortened(each, limit.tokens, limit.side)
        if isinstance(each, str)
        else (tokenizer.shortened(each[0], limit.tokens), tokenizer.shortened(each[1], limit.tokens))
        for each in inputs
    ]


async def _prepared(model: ServedModel, inputs: Sequence[TextOrPair]) -> AsyncIterator[Encode]:
    """What makes the tokens of the inputs, of neighbours together: texts, and pairs with the same first text."""
    pairing = _pairing(model)
    for first, neighbours in groupby(inputs, lambda each: None if isinstance(each, str) else each[0]):
        texts = [each if isinstance(each, str) else each[1] for each in neighbours]
        yield partial(model.tokenizer.encode, texts) if first is None else await pairing.prepared(first, texts)


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
    limit: Limit, model: ServedModel, encoded: Sequence[TokenIds | EncodedPair], whole: Sequence[bool]
) -> Sequences:
    ids: list[TokenIds] = []
    second_from: list[int | None] = []
    cut = 0
    for index, each in enumerate(encoded):
        place, pair = f"{FIELD}[{index}]", each if isinstance(each, EncodedPair) else None
        tokens = pair.ids if pair else each
        assert isinstance(tokens, np.ndarray)
        if not len(tokens):
            raise bad_request(f"{place} has no tokens: leave it out.", FIELD, "empty")
        if len(tokens) > limit.tokens:
            if not limit.may_cut:
                raise limit.too_long(place, len(tokens), whole[index])
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
