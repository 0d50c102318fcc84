"""The images of conversations: fetched, and given as many places among the tokens as they need."""

from collections.abc import Iterator, Sequence

import numpy as np
from fastapi import Request

from api.errors import Rehearsed, bad_request
from api.media.references import FetchedImage, ImageReference
from api.protocol.messages import Conversation
from api.replaying import REHEARSAL
from api.sequences import Limit, Sequences
from api.serving import ServedModel
from api.state import state_of
from pooling.tokenizing import TokenIds
from pooling.vision.layout import expanded
from pooling.vision.processors import ImageOptions

OPTIONS = "mm_processor_kwargs"

WRITTEN = ("<|image@placeholder|>",)
"""What templates write for an image in place of the tokenizer's own placeholder (ERNIE-4.5-VL's)."""


def check_images(model: ServedModel, conversation: Conversation, sent: object) -> None:
    """Raises a 400 for images that the model does not take, or that what else was sent would be mistaken for.

    Args:
        sent: the messages as they came: names and tool calls may reach the text too.
    """
    check_written(model, sent)
    if not conversation.images:
        return
    if model.image_processor is None:
        raise bad_request(
            f"{conversation.images[0].place} is an image, and {model.name} takes text only: leave it out, or serve "
            "a model that takes images.",
            "messages",
            "unsupported_content",
        )
    if model.spec.placeholder_id is None and (len(conversation.images) > 1 or "".join(conversation.texts).strip()):
        raise bad_request(
            f"{model.name} makes a vector of one text or one image, and messages has more: send an image alone, or "
            "inputs of their own.",
            "messages",
            "too_many_parts",
        )


def check_options(model: ServedModel, options: ImageOptions | None) -> ImageOptions:
    """What a request says of how its images are processed; nothing for models that take none, which ignore it.

    Raises:
        ApiError: 400 that names the key that is not taken, and what it may be.
    """
    if model.image_processor is None or not options:
        return {}
    why = model.image_processor.refusal(options)
    if why is not None:
        raise bad_request(f"{OPTIONS}: {why}.", OPTIONS)
    return options


def check_written(model: ServedModel, sent: object, field: str = "messages") -> None:
    """Raises a 400 where a caller wrote what stands for an image: images would be taken for others.

    Args:
        sent: JSON.
    """
    if model.spec.placeholder_id is None:
        return
    words = (_placeholder(model), *WRITTEN)
    found = next((word for text in texts_in(sent) for word in words if word in text), None)
    if found is not None:
        raise bad_request(
            f"A text of {field} contains {found!r}, which stands for an image: leave it out, and send the image as a "
            "part of its own.",
            field,
            "reserved_text",
        )


def texts_in(value: object) -> Iterator[str]:
    """All strings of a JSON value, keys too."""
    # No recursion: a caller's JSON may be nested as deep as its parser allows.
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            left += each.keys()
            left += each.values()
        elif isinstance(each, list):
            left += each


def check_no_places(model: ServedModel, sequences: Sequences) -> None:
    """Raises a 400 for sequences without images in which a caller's text or token ids have the token for one."""
    placeholder = model.spec.placeholder_id
    if placeholder is None:
        return
    for index, ids in enumerate(sequences.ids):
        if not (sequences.images and sequences.images[index]) and placeholder in ids:
            raise bad_request(
                f"{sequences.place(index)} has the token {placeholder} ({_placeholder(model)}), which stands for an "
                "image: leave it out, and send the image as a part of messages.",
                sequences.field,
                "reserved_text",
            )


async def fetched_images(request: Request, references: Sequence[ImageReference]) -> list[FetchedImage]:
    """The images that references name.

    Raises:
        ApiError: 400, one is not taken or not to be had.
        Rehearsed: it was only asked whether the call could run; its images are fetched when it does.
    """
    if references and getattr(request.state, REHEARSAL, False):
        raise Rehearsed
    return await state_of(request).media.fetched(references)


def _placeholder(model: ServedModel) -> str:
    """The text of the token that stands for images."""
    assert model.spec.placeholder_id is not None
    return str(model.tokenizer.token(model.spec.placeholder_id))


def placeholders_in(text: str, model: ServedModel) -> str:
    """A rendered text with the tokenizer's own placeholder in every place of an image."""
    for written in WRITTEN:
        text = text.replace(written, _placeholder(model))
    return text


def with_images(
    model: ServedModel,
    ids: TokenIds,
    images: Sequence[FetchedImage],
    options: ImageOptions,
    limit: Limit,
    place: str = "messages",
) -> TokenIds:
    """Ids in which each placeholder is repeated as often as its image has tokens.

    Args:
        limit: of the whole, which is found to be too long before it is made: options can make an image immense.

    Raises:
        ApiError: 400, the chat template wrote more or fewer placeholders than there are images, or the images make the
            sequence too long.
    """
    processor, placeholder = model.image_processor, model.spec.placeholder_id
    assert processor is not None
    assert placeholder is not None
    counts = [processor.tokens(image.width, image.height, options) for image in images]
    tokens = int(np.count_nonzero(ids != placeholder)) + sum(counts)
    if tokens > limit.tokens:
        raise bad_request(
            f"{place} has {tokens} tokens, {sum(counts)} of them of its {len(counts)} images, over the limit of "
            f"{limit.tokens} (--max-model-len, or where the request cuts): send fewer or smaller images, or {OPTIONS} "
            "with a lower max_pixels. What has images is never cut.",
            place.partition("[")[0],
            "context_length_exceeded",
        )
    try:
        return expanded(ids, placeholder, counts)
    except ValueError as error:
        raise bad_request(
            f"The chat template of {model.name} wrote {error}: send images in messages of roles whose "
            "images it writes.",
            place.partition("[")[0],
            "image_placeholders",
        ) from error
