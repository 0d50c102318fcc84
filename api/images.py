"""How a model takes images into its sequences, as far as the api has to know: no pixels, no Paddle."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from api.errors import bad_request
from api.media.references import FetchedImage
from pooling.config import ModelSpec
from pooling.errors import CheckpointError
from pooling.tokenizing import Tokenizer
from pooling.vision.processors import ImageOptions, ImageProcessor, read_image_processor

OPTIONS_FIELD = "mm_processor_kwargs"

# Baidu's own templates write a mark that its processor replaces; those that came with transformers write the token.
_MARKS = {"<|IMAGE_PLACEHOLDER|>": "<|image@placeholder|>"}


@dataclass(frozen=True)
class ImageReader:
    """How one model takes images.

    Attributes:
        placeholder_id: the token that stands for a part of an image; None where an image is a sequence of its own.
        placeholder: its text, "" for None.
        mark: what the family's templates may write in its place; None for nothing else.
    """

    processor: ImageProcessor
    placeholder_id: int | None
    placeholder: str
    mark: str | None = None

    @classmethod
    def of(cls, spec: ModelSpec, tokenizer: Tokenizer) -> Self | None:
        """The reader of a model; None for one of text alone.

        Raises:
            CheckpointError: what says how images are processed is missing or not supported, or the tokenizer does not
                have the placeholder.
        """
        processor = read_image_processor(spec)
        if processor is None:
            return None
        if spec.placeholder_id is None:
            return cls(processor, None, "")
        placeholder = tokenizer.token(spec.placeholder_id)
        if placeholder is None:
            raise CheckpointError(
                f"{spec.directory} has {spec.placeholder_id} in config.json as the token for images, which its "
                "tokenizer.json does not have: use files that belong together."
            )
        return cls(processor, spec.placeholder_id, placeholder, _MARKS.get(placeholder))

    @property
    def written(self) -> tuple[str, ...]:
        """What only a template may write."""
        return tuple(each for each in (self.placeholder, self.mark) if each)

    def with_placeholders(self, text: str) -> str:
        """What a template wrote, with the placeholder in the place of the family's mark."""
        return text.replace(self.mark, self.placeholder) if self.mark else text

    def tokens(self, image: FetchedImage, options: ImageOptions) -> int:
        """How many tokens an image has; the options were checked."""
        return self.processor.tokens(image.width, image.height, options)


def image_options(reader: ImageReader | None, options: Mapping[str, Any] | None) -> ImageOptions:
    """What a request says of how its images are processed.

    Raises:
        ApiError: 400 that names the key that the model's processor does not take, and what it takes. Models of text
            alone take all, and use none.
    """
    if reader is None or not options:
        return {}
    why = reader.processor.refusal(options)
    if why is not None:
        raise bad_request(f"{OPTIONS_FIELD}: {why}.", OPTIONS_FIELD)
    return options
