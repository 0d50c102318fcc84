"""The images of conversations: fetched, and given as many places among the tokens as they need."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request

from api.errors import Rehearsed, bad_request
from api.media.references import FetchedImage, ImageReference
from api.protocol.messages import Conversation
from api.replaying import REHEARSAL
from api.sequences import Limit
from api.serving import ServedModel
from api.state import state_of
from pooling.tokenizing import TokenIds
from pooling.vision.layout import expanded

OPTIONS = "mm_processor_kwargs"

ImageOptions = Mapping[str, Any]

WRITTEN = ("<|image@placeholder|>",)
"""What templates write for an image in place of the tokenizer's own placeholder (ERNIE-4.5-VL's)."""


def check_images(model: ServedModel, conversation: Conversation) -> None:
    """Raises a 400 for images that the model does not take, or that its texts would be mistaken for."""
    if not conversation.images:
        return
    if model.image_processor is None:
        raise bad_request(
            f"{conversation.images[0].place} is an image, and {model.name} takes text only: leave it out, or serve "
            "a model that takes images.",
            "messages",
            "unsupported_content",
        )
    if model.spec.placeholder_id is None:
        if len(conversation.images) > 1 or "".join(conversation.texts).strip():
            raise bad_request(
                f"{model.name} makes a vector of one text or one image, and messages has more: send an image alone, or "
                "inputs of their own.",
                "messages",
                "too_many_parts",
            )
        return
    check_texts(model, conversation.texts)


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


def check_texts(model: ServedModel, texts: Sequence[str], field: str = "messages") -> None:
    """Raises a 400 for a text that contains what stands for images: its images would be taken for others."""
    placeholder = _placeholder(model) if model.spec.placeholder_id is not None else None
    for text in texts:
        for written in (placeholder, *WRITTEN):
            if written and written in text:
                raise bad_request(
                    f"A text of {field} contains {written!r}, which stands for an image: leave it out, and send the "
                    "image as a part of its own.",
                    field,
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
    limit: Limit | None,
    place: str = "messages",
) -> TokenIds:
    """Ids in which each placeholder is repeated as often as its image has tokens.

    Raises:
        ApiError: 400, the chat template wrote more or fewer placeholders than there are images, or the images make the
            sequence too long.
    """
    processor, placeholder = model.image_processor, model.spec.placeholder_id
    assert processor is not None
    assert placeholder is not None
    counts = [processor.tokens(image.width, image.height, options) for image in images]
    try:
        found = expanded(ids, placeholder, counts)
    except ValueError as error:
        raise bad_request(
            f"The chat template of {model.name} wrote {error}: send images in messages of roles whose "
            "images it writes.",
            "messages",
            "image_placeholders",
        ) from error
    if limit is not None and len(found) > limit.tokens:
        raise bad_request(
            f"{place} has {len(found)} tokens, {sum(counts)} of them of its {len(counts)} images, over this model's "
            f"{limit.tokens} (--max-model-len): send fewer or smaller images, or {OPTIONS} with a lower max_pixels. "
            "What has images is never cut.",
            place.partition("[")[0],
            "context_length_exceeded",
        )
    return found
