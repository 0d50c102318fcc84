"""Documents with images as sequences, where a request has no messages: Jina's and Cohere's embeddings."""

from collections.abc import Sequence

import numpy as np
from fastapi import Request

from api.conversing import check_template
from api.errors import bad_request
from api.images import image_options
from api.imaging import Pictured, Unexpanded, check_written, pictured, reader_of, sequences_with
from api.protocol.documents import Document
from api.sequences import Limit, Sequences, Truncation
from api.serving import ServedModel
from api.state import timings_of
from pooling.tokenizing import TokenIds
from pooling.vision.processors import ImageOptions

TOGETHER = 64
"""Documents that a template's process gets at once."""


async def documents_within(
    request: Request,
    model: ServedModel,
    field: str,
    documents: Sequence[Document],
    truncation: Truncation,
    *,
    add_special_tokens: bool = True,
    prompt: str = "",
    options: ImageOptions | None = None,
) -> Sequences:
    """Documents as tokens: those of text alone as texts, those with images as the chat template renders a user's turn.

    Where no token stands for images, a document is a text or an image, and no template is asked.

    Args:
        field: where they come from in the request.
        prompt: stands before each text that has no image.
        options: how images are processed (`mm_processor_kwargs`).

    Raises:
        ApiError: 400, a document has no tokens, has what the model does not take, or is too long and may not be cut:
            with images none may.
    """
    wanted, limit = image_options(model.images, options), Limit.of(truncation, model)
    found: dict[int, Pictured] = {}
    texts = [place for place, each in enumerate(documents) if not each.images]
    with timings_of(request).stage("tokenize"):
        given = [prompt + documents[place].text for place in texts]
        timings_of(request).characters += sum(map(len, given))
        read = await model.tokenize_within(given, limit.tokens, add_special_tokens=add_special_tokens, side=limit.side)
    cut = []
    for place, text, ids in zip(texts, given, read, strict=True):
        if not len(ids):
            raise bad_request(f"{field}[{place}] has no tokens: leave it out.", field, "empty")
        if len(ids) > limit.tokens:
            if not limit.may_cut:
                counted = not model.tokenizer.may_shorten(text, limit.tokens)
                raise limit.too_long(f"{field}[{place}]", len(ids), counted)
            cut.append(place)
        found[place] = Pictured(model.tokenizer.truncate(ids, limit.tokens, limit.side))
    with_images = [place for place, each in enumerate(documents) if each.images]
    unexpanded = await _unexpanded(request, model, field, {place: documents[place] for place in with_images}, limit)
    template = model.renderer.described() if model.renderer.has_template else ""
    pictures = await pictured(request, model, unexpanded, wanted, limit, template)
    found |= zip(with_images, pictures, strict=True)
    return sequences_with(field, [found[place] for place in range(len(documents))], wanted, cut)


async def _unexpanded(
    request: Request, model: ServedModel, field: str, documents: dict[int, Document], limit: Limit
) -> list[Unexpanded]:
    """Documents with images as tokens, with one place for each image."""
    reader = reader_of(model)
    if reader.placeholder_id is None:
        for place, each in documents.items():
            if len(each.parts) != 1:
                raise bad_request(
                    f"{field}[{place}] has {len(each.parts)} parts, and this model embeds an image by itself, and a "
                    "text by itself: send each as an input of its own.",
                    field,
                    "unsupported_content",
                )
        nothing = np.zeros(0, dtype=np.int32)
        return [Unexpanded(f"{field}[{place}]", nothing, each.images) for place, each in documents.items()]
    check_template(model)
    for place, each in documents.items():
        check_written(reader, [part for part in each.parts if isinstance(part, str)], f"{field}[{place}]")
    timings, rendered = timings_of(request), list[str]()
    with timings.stage("tokenize"):
        conversations = [[each.message] for each in documents.values()]
        for begin in range(0, len(conversations), TOGETHER):
            rendered += await model.renderer.render_many(conversations[begin : begin + TOGETHER])
        texts = [reader.with_placeholders(text) for text in rendered]
        timings.characters += sum(map(len, texts))

        def encoded() -> list[tuple[TokenIds, bool]]:
            shortened = [model.tokenizer.shortened(text, limit.tokens, limit.side) for text in texts]
            ids = model.tokenizer.encode_rendered(shortened, add_special_tokens=False)
            return [(each, len(short) == len(text)) for each, short, text in zip(ids, shortened, texts, strict=True)]

        found = await model.aside(sum(map(len, texts)), encoded)
    return [
        Unexpanded(f"{field}[{place}]", ids, document.images, whole)
        for (place, document), (ids, whole) in zip(documents.items(), found, strict=True)
    ]
