"""What is wrong with where an image is said to be."""


class UrlError(ValueError):
    """A URL that is not fetched, or that gave nothing to read; the message is the rest of a sentence about it."""
