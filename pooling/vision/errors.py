"""What is wrong with an image, told to whoever sent it."""


class ImageError(ValueError):
    """Bytes that are not taken as an image; the message is the rest of a sentence that begins with its place.

    `the image is cut off`, `the image has 40000000 pixels; 33000000 are the most`.
    """


class TooManyPixelsError(ImageError):
    """The header says more pixels than are taken; none of them was decoded."""
