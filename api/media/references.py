"""What a request says of an image, what becomes of it, and the limits on the way."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from api.addresses import Address, Allowance, literal_address
from api.options import Options


@dataclass(frozen=True, slots=True)
class ImageReference:
    """An image as a request names it.

    Attributes:
        url: `https:`, `http:`, `data:` or `file:`.
        place: of the request, for messages: `messages[0].content[1]`.
    """

    url: str
    place: str


@dataclass(frozen=True, slots=True)
class FetchedImage:
    """An image whose every pixel was decoded once, so that a worker can do it again.

    Attributes:
        data: the file, as it was sent.
        digest: SHA-256 of it, 32 bytes.
        width, height: in pixels of the first frame, upright.
    """

    data: bytes
    digest: bytes
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """What of images is taken, and where it may come from.

    Attributes:
        image_bytes: of one image, as it is sent.
        image_pixels: of one image, known before any of it is decoded.
        images: of one request.
        seconds: for fetching all images of a request, look-ups, redirects and bodies together.
        domains: none: everything public. Some: these only, wherever they lead.
        local_path: `file:` URLs below it are taken; without symbolic links in it.
    """

    image_bytes: int
    image_pixels: int
    images: int
    seconds: float
    domains: tuple[Allowance, ...] = ()
    local_path: Path | None = None

    @classmethod
    def of(cls, options: Options) -> Self:
        """The limits that the operator set."""
        local_path = options.allowed_local_media_path
        return cls(
            options.max_image_bytes,
            options.max_image_pixels,
            options.max_images,
            options.media_timeout,
            tuple(Allowance.parse(each) for each in options.allowed_media_domains),
            local_path.resolve() if local_path else None,
        )

    def allows(self, host: str, port: int) -> bool:
        """Whether a host, a name in lower case or an address, is of --allowed-media-domains, if there are any."""
        address = literal_address(host)
        return not self.domains or any(each.port in (None, port) and _is(each, host, address) for each in self.domains)


def _is(allowance: Allowance, host: str, address: Address | None) -> bool:
    if allowance.network is None:
        return allowance.name == host
    return address is not None and address in allowance.network
