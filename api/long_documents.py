"""Embeddings of documents longer than a model takes: in pieces, whose vectors are averaged by their tokens.

As vLLM's chunked processing and LangChain's OpenAI client do it, except that each piece is framed by the special tokens
that the model knows from training, and that the mean is taken before vectors are cut or brought to length 1: for a
model that pools by MEAN without a dense layer it is the mean over all tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from fastapi import Request

from api.embedding import embedded, stacked
from api.errors import bad_request
from api.sequences import Sequences
from api.serving import ServedModel
from api.state import timings_of
from pooling.finishing import finished_embedding
from pooling.tokenizing import TokenIds

PIECES_ALLOWED = 64
"""Of one document, where `max_embed_len` of --pooler-config does not say how long one may be."""


@dataclass(frozen=True)
class Pieces:
    """Documents, cut where the model's limit falls.

    Attributes:
        sequences: the pieces of all documents, in order.
        counts: of each document, how many they are.
    """

    sequences: Sequences
    counts: Sequence[int]

    @classmethod
    def whole(cls, sequences: Sequences) -> "Pieces":
        """Each sequence a document of its own."""
        return cls(sequences, [1] * len(sequences.ids))


def longest_document(model: ServedModel) -> int:
    """How many tokens a document may have that is embedded in pieces."""
    longest = model.spec.max_model_len
    return max(longest, model.spec.pooler.max_embed_len or PIECES_ALLOWED * longest)


async def documents_in_pieces(
    request: Request, model: ServedModel, field: str, texts: Sequence[str], wanted: int | None, prompt: str = ""
) -> Pieces:
    """The texts as sequences that fit, several for a text that is longer than the model's limit.

    Args:
        wanted: the longest document, in tokens, as the request says; None leaves it to the server.
        prompt: stands before each text, not before each piece.

    Raises:
        ApiError: 400, a text has no tokens, or more than it may.
    """
    longest, timings = longest_document(model), timings_of(request)
    if wanted is not None and not 1 <= wanted <= longest:
        raise bad_request(
            f"max_embed_len is {wanted}; it must be from 1 to {longest} (max_embed_len of --pooler-config).",
            "max_embed_len",
        )
    limit = wanted or longest
    room = model.spec.max_model_len - model.special_tokens
    with timings.stage("tokenize"):
        given = [prompt + text for text in texts]
        timings.characters += sum(map(len, given))
        whole = await model.tokenize_within(given, limit, add_special_tokens=False)
    pieces: list[TokenIds] = []
    counts = []
    for index, ids in enumerate(whole):
        if len(ids) > limit:
            raise bad_request(
                f"{field}[{index}] has more than {limit} tokens, the longest document here (max_embed_len of "
                "the request, or of --pooler-config): shorten it.",
                field,
                "context_length_exceeded",
            )
        cut = [model.tokenizer.framed(ids[begin : begin + room]) for begin in range(0, max(1, len(ids)), room)]
        if not len(cut[0]):
            raise bad_request(f"{field}[{index}] has no tokens: leave it out.", field, "empty")
        pieces += cut
        counts.append(len(cut))
    return Pieces(Sequences(field, pieces), counts)


async def embedded_in_pieces(
    request: Request,
    model: ServedModel,
    pieces: Pieces,
    *,
    dimensions: int | None = None,
    normalize: bool | None = None,
    priority: int = 0,
) -> list[bytes]:
    """One vector for each document, little-endian float32."""
    if len(pieces.counts) == len(pieces.sequences.ids):
        return await embedded(
            request, model, pieces.sequences, dimensions=dimensions, normalize=normalize, priority=priority
        )
    full = model.spec.supported_dimensions[-1]
    raw = await embedded(request, model, pieces.sequences, dimensions=full, normalize=False, priority=priority)
    tokens = np.array([len(ids) - model.special_tokens for ids in pieces.sequences.ids], dtype=np.float32)
    starts = np.cumsum([0, *pieces.counts[:-1]])
    weighted = np.add.reduceat(stacked(raw) * tokens[:, None], starts)
    means = np.asarray(weighted / np.add.reduceat(tokens, starts)[:, None], dtype=np.float32)
    normalizes = model.spec.pooler.normalize if normalize is None else normalize
    finished = finished_embedding(means, dimensions or model.spec.embedding_dimensions, normalizes)
    return [row.tobytes() for row in finished]
