"""The places of images in texts and token ids, and who may write them: a template may, a caller may not."""

from collections.abc import Sequence

import numpy as np

from pooling.packed import TokenIds


def placeholders(ids: TokenIds, placeholder_id: int) -> int:
    """How many there are."""
    return int(np.count_nonzero(ids == placeholder_id))


def written_in(value: object, words: Sequence[str], place: str) -> tuple[str, str] | None:
    """Where in a JSON value one of these words stands, in a text or a key, and which; None for nowhere.

    Args:
        place: of the value, for messages: `messages`.
    """
    # No recursion: a caller's JSON may be nested as deep as the parser allows.
    left: list[tuple[str, object]] = [(place, value)]
    while left:
        where, each = left.pop()
        if isinstance(each, str):
            for word in words:
                if word in each:
                    return where, word
        elif isinstance(each, dict):
            left += ((f"{where}.{key}", entry) for key, entry in each.items())
            left += ((where, key) for key in each)
        elif isinstance(each, list):
            left += ((f"{where}[{index}]", entry) for index, entry in enumerate(each))
    return None
