"""Fetches the images of a request: in parallel, once for equal URLs, within limits, and nothing but images.

Redirects are followed here, one by one, and each is checked like the URL before it. The connections are
`api.public_network`'s: an address is checked when it is connected to, and no proxy of the environment is used.
"""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from importlib.metadata import version

import httpcore

from api.addresses import Reachable
from api.errors import ApiError, bad_request
from api.media.errors import UrlError
from api.media.local import in_data_uri, in_file, too_long
from api.media.references import FetchedImage, ImageReference, MediaLimits
from api.media.urls import WebUrl, not_public
from api.public_network import ForbiddenAddressError, PublicNetwork, public_connections
from pooling.vision.errors import ImageError, TooManyPixelsError
from pooling.vision.images import verified

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
"""For one host's addresses together, if the time for all is longer."""

MOST_CONNECTIONS = 64
"""Of one api process."""

MOST_REDIRECTS = 3

DECODERS = 2
"""Threads that decode. An image of the most pixels takes up to half a gigabyte meanwhile."""

FILE_READERS = 4
"""Threads that read files: a disk that hangs holds these, and no decoder."""

FEW_PARTS = 1_000
FEWEST_BYTES = 64
"""A part, on average, of a body that comes in more than a few: single bytes would cost more than the image."""

HEADERS = (
    ("User-Agent", f"Millpond/{version('millpond')}"),
    ("Accept", "image/png, image/jpeg, image/webp, image/gif"),
    ("Accept-Encoding", "identity"),
)


class Media:
    """Fetches images for one api process.

    Args:
        limits: what is taken, and from where.
        network: through which hosts are reached, if not the one of these limits.
    """

    def __init__(self, limits: MediaLimits, network: PublicNetwork | None = None) -> None:
        self._limits = limits
        network = network or PublicNetwork(Reachable(limits.domains), "--allowed-media-domains")
        self._connections = public_connections(network, MOST_CONNECTIONS)
        self._decoders = ThreadPoolExecutor(DECODERS, "image")
        self._file_readers = ThreadPoolExecutor(FILE_READERS, "image-file")

    async def close(self) -> None:
        """Ends all connections; threads end with what they do."""
        await self._connections.aclose()
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._file_readers.shutdown(wait=False, cancel_futures=True)

    async def fetched(self, references: Sequence[ImageReference]) -> list[FetchedImage]:
        """The images that references name, in their order; equal URLs give the same image.

        Raises:
            ApiError: 400, with the place of the first image that is not taken: too many images; a URL that is not
                taken, leads nowhere, or not in time; too many bytes or pixels; something else than an image.
        """
        self._check_count(references)
        distinct: dict[str, ImageReference] = {}
        for each in references:
            distinct.setdefault(each.url, each)
        deadline = asyncio.get_running_loop().time() + self._limits.seconds
        tasks = [asyncio.create_task(self._image(each, deadline)) for each in distinct.values()]
        try:
            images = dict(zip(distinct, await asyncio.gather(*tasks), strict=True))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return [images[each.url] for each in references]

    def _check_count(self, references: Sequence[ImageReference]) -> None:
        most = self._limits.images
        if len(references) > most:
            raise bad_request(
                f"{references[most].place}: the request has {len(references)} images; --max-images allows {most}.",
                references[most].place,
                "too_many_images",
            )

    async def _image(self, reference: ImageReference, deadline: float) -> FetchedImage:
        loop = asyncio.get_running_loop()
        try:
            data = await self._bytes(reference.url, deadline)
            return await loop.run_in_executor(self._decoders, _checked, data, self._limits)
        except UrlError as error:
            raise _refusal(reference, f"{error}.", "invalid_image_url") from error
        except TooManyPixelsError as error:
            raise _refusal(reference, f"{error}, by --max-image-pixels.", "invalid_image") from error
        except ImageError as error:
            raise _refusal(reference, f"{error}.", "invalid_image") from error

    async def _bytes(self, url: str, deadline: float) -> bytes:
        loop = asyncio.get_running_loop()
        scheme = url[:5].lower()
        if scheme == "data:":
            return await loop.run_in_executor(self._decoders, in_data_uri, url, self._limits)
        try:
            async with asyncio.timeout_at(deadline):
                if scheme == "file:":
                    return await loop.run_in_executor(self._file_readers, in_file, url, self._limits)
                return await self._body(WebUrl.parse(url, self._limits))
        except TimeoutError as error:
            raise UrlError(
                f"the image was not there within {self._limits.seconds:g} s, which --media-timeout allows for all of a "
                "request"
            ) from error

    async def _body(self, url: WebUrl) -> bytes:
        """What a URL leads to, over at most three redirects."""
        for _ in range(MOST_REDIRECTS + 1):
            got = await self._answered(url)
            if isinstance(got, bytes):
                return got
            url = got
        raise UrlError(f"there are more than {MOST_REDIRECTS} redirects before the image")

    async def _answered(self, url: WebUrl) -> bytes | WebUrl:
        """The body of a URL, or where it redirects."""
        try:
            async with self._connections.stream(
                "GET",
                url.for_httpcore(),
                headers=[("Host", url.netloc), *HEADERS],
                extensions={"timeout": {"connect": min(CONNECT_SECONDS, self._limits.seconds)}},
            ) as response:
                return await self._read(url, response)
        except ForbiddenAddressError as error:
            log.info("an image is not fetched: %s", error)
            raise UrlError(not_public(url.host)) from error
        except httpcore.TimeoutException as error:
            raise UrlError(f"{url.host} did not take a connection in time") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError) as error:
            log.info("an image is not fetched from %s: %s: %s", url.host, type(error).__name__, error)
            raise UrlError(f"{url.host} could not be reached, or did not speak HTTP to the end") from error

    async def _read(self, url: WebUrl, response: httpcore.Response) -> bytes | WebUrl:
        location = _header(response, b"location")
        if response.status in (301, 302, 303, 307, 308) and location:
            return url.redirected(location, self._limits)
        if response.status != 200:
            raise UrlError(f"{url.host} answered {response.status}")
        length = _header(response, b"content-length")
        if length.isdecimal() and int(length[:20]) > self._limits.image_bytes:
            raise UrlError(too_long(self._limits))
        body = bytearray()
        parts = 0
        async for part in response.aiter_stream():
            body += part
            parts += 1
            if len(body) > self._limits.image_bytes:
                raise UrlError(too_long(self._limits))
            if parts > FEW_PARTS and len(body) < parts * FEWEST_BYTES:
                raise UrlError(f"{url.host} sends the image in parts of a few bytes each")
            if parts % 100 == 0:  # parts that are there already come without a pause, and others wait
                await asyncio.sleep(0)
        return bytes(body)


def _checked(data: bytes, limits: MediaLimits) -> FetchedImage:
    """The image that bytes are."""
    if len(data) > limits.image_bytes:
        raise UrlError(too_long(limits))
    header = verified(data, limits.image_pixels)
    return FetchedImage(data, sha256(data).digest(), header.width, header.height)


def _refusal(reference: ImageReference, reason: str, code: str) -> ApiError:
    return bad_request(f"{reference.place}: {reason}", reference.place, code)


def _header(response: httpcore.Response, wanted: bytes) -> str:
    """A header's value, "" where there is none."""
    return next((value.decode("latin-1").strip() for name, value in response.headers if name.lower() == wanted), "")
