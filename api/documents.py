"""From documents, texts and images, to sequences: what has an image is rendered as a message of the user.

A model whose texts and images are sequences of their own (CLIP, SigLIP) takes one of either in a document.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from fastapi import Request

from api.errors import bad_request
from api.media.references import FetchedImage, ImageReference
from api.picturing import check_options, check_written, fetched_images, placeholders_in, with_images
from api.protocol.documents import Document
from api.sequences import Limit, Sequences, Truncation, ids_within
from api.serving import ServedModel
from api.state import timings_of
from pooling.tokenizing import TokenIds
from pooling.vision.processors import ImageOptions

IMAGE_ALONE = np.zeros(1, dtype=np.int32)
"""The ids of a sequence that is an image."""


async def documents_within(
    request: Request,
    model: ServedModel,
    field: str,
    documents: Sequence[Document],
    truncation: Truncation,
    *,
    options: ImageOptions | None = None,
    prompt: str = "",
    add_special_tokens: bool = True,
) -> Sequences:
    """Documents as sequences that the model takes.

    Args:
        field: of the request that they come from.
        options: how images are processed (`mm_processor_kwargs`).
        prompt: stands before each document that is text alone.

    Raises:
        ApiError: 400, the model takes no images, an image is not to be had, or a document is too long.
        Rehearsed: it was only asked whether the call could run, and has images.
    """
    processed = check_options(model, options)
    _check(model, documents)
    images = await fetched_images(request, [image for each in documents for image in each.images])
    ends = np.cumsum([len(each.images) for each in documents])
    of_each = [images[end - len(each.images) : end] for each, end in zip(documents, ends, strict=True)]
    limit = Limit.of(truncation, model)
    timings = timings_of(request)
    with timings.stage("tokenize"):
        plain = [prompt + each.text for each in documents if not each.images]
        timings.characters += sum(map(len, plain))
        tokenized = iter(
            await model.tokenize_within(plain, limit.tokens, add_special_tokens=add_special_tokens, side=limit.side)
        )
        pictured = iter(await _pictured(model, documents, of_each, processed, limit))
        ids = [next(pictured) if each.images else next(tokenized) for each in documents]
        texts = [prompt + each.text for each in documents]
        found = ids_within(model, field, ids, truncation, texts)
    return replace(found, images=of_each, image_options=processed) if images else found


def _check(model: ServedModel, documents: Sequence[Document]) -> None:
    for each in documents:
        if not each.images:
            continue
        if model.image_processor is None:
            raise bad_request(
                f"{each.images[0].place} is an image, and {model.name} takes text only: leave it out.",
                each.place.partition("[")[0],
                "unsupported_content",
            )
        if model.spec.placeholder_id is None and len(each.parts) > 1:
            raise bad_request(
                f"{each.place} has {len(each.parts)} parts; {model.name} makes a vector of one text or one image: send "
                "them as inputs of their own.",
                each.place.partition("[")[0],
                "too_many_parts",
            )
        if model.spec.placeholder_id is not None and not model.renderer.has_template:
            raise bad_request(
                f"{each.place} has an image, and {model.name} has no chat template that says where it stands: put a "
                "chat_template.jinja into the checkpoint.",
                each.place.partition("[")[0],
                "no_chat_template",
            )
        check_written(model, each.text, each.place.partition("[")[0])


async def _pictured(
    model: ServedModel,
    documents: Sequence[Document],
    images: Sequence[Sequence[FetchedImage]],
    options: ImageOptions,
    limit: Limit,
) -> list[TokenIds]:
    """The ids of those documents that have images."""
    chosen = [(each, own) for each, own in zip(documents, images, strict=True) if each.images]
    if model.spec.placeholder_id is None or not chosen:
        return [IMAGE_ALONE] * len(chosen)
    texts = await model.renderer.render_many([[_message(each)] for each, _ in chosen])
    texts = [placeholders_in(text, model) for text in texts]
    encoded = await model.aside(sum(map(len, texts)), model.tokenizer.encode_rendered, texts, False)
    return [
        with_images(model, ids, own, options, limit, each.place)
        for ids, (each, own) in zip(encoded, chosen, strict=True)
    ]


def _message(document: Document) -> dict[str, Any]:
    parts = [
        {"type": "image"} if isinstance(part, ImageReference) else {"type": "text", "text": part}
        for part in document.parts
    ]
    return {"role": "user", "content": parts}
