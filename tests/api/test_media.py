"""Images are fetched once, within limits and from public addresses."""

import asyncio
import os
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import pytest

from api.addresses import Allowance, Reachable
from api.errors import LaunchError
from api.media.fetching import Media
from api.media.references import FetchedImage, ImageReference, MediaLimits
from api.options import Options
from api.public_network import PublicNetwork
from tests.api.hostile_images import data_uri
from tests.api.media_calls import MIB, NAME, Resolver, fetch, limits, refusal
from tests.api.media_host import MediaHost, media_host
from tests.pooling.vision.pictures import encoded, noise

GOOD = encoded(noise(40, 30), "PNG")
OTHER = encoded(noise(30, 40, seed=8), "JPEG")


@pytest.fixture(scope="module")
def host() -> Iterator[MediaHost]:
    with media_host({"good.png": GOOD, "other.jpg": OTHER}) as host:
        yield host


@pytest.fixture(autouse=True)
def forget(request: pytest.FixtureRequest) -> None:
    if "host" in request.fixturenames:
        host: MediaHost = request.getfixturevalue("host")
        host.asked.clear()
        host.heads.clear()
        host.reached.clear()


# --- what is taken


def test_images_of_all_kinds_of_urls_come_in_their_order(host: MediaHost, tmp_path: Path) -> None:
    (tmp_path / "a b?.jpg").write_bytes(OTHER)
    found = fetch(
        host.url("good.png", NAME),
        data_uri(OTHER, "IMAGE/JPEG"),
        "data:image/png," + quote(GOOD),
        f"file://{tmp_path}/a%20b%3F.jpg",
        host.url("~redirect/3/other.jpg", NAME),
        within=limits(local_path=tmp_path.resolve()),
    )
    assert [image.data for image in found] == [GOOD, OTHER, GOOD, OTHER, OTHER]
    assert [(image.width, image.height) for image in found] == [(40, 30), (30, 40), (40, 30), (30, 40), (30, 40)]
    assert [image.digest for image in found] == [sha256(image.data).digest() for image in found]


def test_equal_urls_are_fetched_once(host: MediaHost) -> None:
    url = host.url("good.png", NAME)
    found = fetch(url, host.url("other.jpg", NAME), url, url)
    assert host.asked == {"good.png": 1, "other.jpg": 1}
    assert found[0] is found[2] is found[3]


def test_a_host_is_asked_by_its_name_without_anything_about_the_caller(host: MediaHost) -> None:
    fetch(host.url("~redirect/1/good.png?a=%20b", NAME) + "#part", within=limits())
    assert len(host.heads) == 2
    for head in host.heads:
        names = {line.split(":")[0].lower() for line in head.split("\n")[1:]}
        assert names == {"host", "user-agent", "accept", "accept-encoding"}
        assert f"Host: {NAME}:{host.port}" in head
    assert host.heads[0].startswith("GET /~redirect/1/good.png?a=%20b HTTP/1.1\n")


@pytest.mark.parametrize(
    "body",
    [
        "\n".join(data_uri(GOOD).split(",")[1][at : at + 70] for at in range(0, 9000, 70)),
        quote(data_uri(GOOD).split(",")[1], ""),
    ],
)
def test_base64_may_have_line_breaks_escapes_and_no_padding(body: str) -> None:
    assert fetch(f"data:image/png;base64,{body.rstrip('=')}")[0].data == GOOD


def test_images_of_a_request_are_fetched_at_the_same_time() -> None:
    together = threading.Barrier(8, timeout=20)

    class Waiting(dict[str, bytes]):
        def __getitem__(self, path: str) -> bytes:
            together.wait()
            return GOOD

    with media_host(Waiting({str(number): b"" for number in range(8)})) as host:
        assert len(fetch(*(host.url(str(number), NAME) for number in range(8)))) == 8


def test_https_is_checked_against_the_name_and_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("there is no openssl to make a certificate")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with media_host({"good.png": GOOD}) as host:
        host.socket = context.wrap_socket(host.socket, server_side=True)
        url = host.url("good.png", NAME).replace("http:", "https:")
        assert "could not be reached" in refusal(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert fetch(url)[0].data == GOOD
        assert "could not be reached" in refusal(url.replace(NAME, "other.example.com"))
        assert host.asked == {"good.png": 1}


# --- limits


def test_one_image_more_than_the_limit_is_refused_before_any_is_fetched(host: MediaHost) -> None:
    said = refusal(*[host.url("good.png", NAME)] * 4, within=limits(images=3))
    assert said == "messages[0].content[3]: the request has 4 images; --max-images allows 3."
    assert not host.asked


@pytest.mark.parametrize("kind", ["data", "file", "http"])
def test_a_byte_more_than_the_limit_is_refused_wherever_it_comes_from(
    kind: str, host: MediaHost, tmp_path: Path
) -> None:
    (tmp_path / "good.png").write_bytes(GOOD)
    url = {"data": data_uri(GOOD), "file": f"file://{tmp_path}/good.png", "http": host.url("good.png", NAME)}[kind]
    local = {"local_path": tmp_path.resolve()}
    assert fetch(url, within=limits(image_bytes=len(GOOD), **local))[0].data == GOOD
    most = len(GOOD) - 1
    said = refusal(url, within=limits(image_bytes=most, **local))
    assert said == (
        f"messages[0].content[0]: the image is longer than {most} bytes, the most that --max-image-bytes allows."
    )


def test_a_pixel_more_than_the_limit_is_refused_by_the_header() -> None:
    assert fetch(data_uri(GOOD), within=limits(image_pixels=1200))
    said = refusal(data_uri(GOOD), within=limits(image_pixels=1199))
    assert said == (
        "messages[0].content[0]: the image has 40 x 30 = 1200 pixels; 1199 are the most, by --max-image-pixels."
    )


def test_the_time_is_for_all_images_of_a_request_together(host: MediaHost) -> None:
    began = time.monotonic()
    said = refusal(
        *(host.url(f"~drip?{number}", NAME).replace("?", "/") for number in range(3)),
        host.url("good.png", NAME),
        within=limits(seconds=0.5),
    )
    assert "0.5 s, which --media-timeout allows for all of a request" in said
    assert time.monotonic() - began < 3


def test_one_that_is_refused_ends_the_others(host: MediaHost) -> None:
    began = time.monotonic()
    assert "answered 404" in refusal(host.url("~silent", NAME), host.url("absent", NAME), within=limits(seconds=30))
    assert time.monotonic() - began < 10


# --- where images may come from


def test_only_the_domains_that_are_named_are_asked_and_wherever_they_lead(host: MediaHost) -> None:
    named = limits(domains=(Allowance.parse("127.0.0.1"), Allowance.parse(f"{NAME}:{host.port}")))
    network = {"within": named, "allowed": None}
    assert fetch(host.url("good.png"), **network)[0].data == GOOD
    for url in (host.url("good.png", "127.0.0.2"), "https://www.wikipedia.org/x.png", f"http://{NAME}/x.png"):
        assert "none of the hosts that --allowed-media-domains names" in refusal(url, **network)
    elsewhere = quote(host.url("good.png", "127.0.0.2"), "")
    said = refusal(host.url(f"~to/{elsewhere}"), **network)
    assert "127.0.0.1 redirects, and there 127.0.0.2 port" in said
    assert set(host.reached) == {"127.0.0.1"}


def test_a_domain_that_is_named_may_lead_to_a_private_address(host: MediaHost) -> None:
    named = limits(domains=(Allowance.parse(NAME),))
    resolver = Resolver("127.0.0.9")

    async def get(media: Media) -> list[FetchedImage]:
        return await media.fetched([ImageReference(host.url("good.png", NAME.upper() + "."), "image")])

    async def run() -> list[FetchedImage]:
        media = Media(named, PublicNetwork(Reachable(named.domains), "--allowed-media-domains", resolver))
        try:
            return await get(media)
        finally:
            await media.close()

    assert asyncio.run(run())[0].data == GOOD
    assert host.reached == ["127.0.0.9"]


def test_a_name_that_leads_elsewhere_at_its_next_look_up_leads_nowhere(host: MediaHost) -> None:
    resolver = Resolver("127.0.0.7", "127.0.0.1", "169.254.169.254")
    back = quote(host.url("good.png", NAME), "")
    said = refusal(host.url(f"~to/{back}", NAME), resolver=resolver)
    assert said == (
        f"messages[0].content[0]: {NAME} does not lead to the public network, where images are fetched from unless "
        "--allowed-media-domains names it."
    )
    assert (host.reached, resolver.asked) == (["127.0.0.7"], [NAME] * 2)


def test_a_name_is_looked_up_once_for_the_check_and_the_connection(host: MediaHost) -> None:
    resolver = Resolver("127.0.0.7", "127.0.0.1")
    assert fetch(host.url("good.png", NAME), resolver=resolver)[0].data == GOOD
    assert (host.reached, resolver.asked) == (["127.0.0.7"], [NAME])


def test_the_environments_proxy_is_not_used(host: MediaHost, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch(host.url("good.png", NAME))[0].data == GOOD


# --- files


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with an image, beside one that is nobody's business, and ways from the one to the other."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / "below").mkdir(parents=True)
    outside.mkdir()
    (inside / "below" / "good.png").write_bytes(GOOD)
    (outside / "secret.png").write_bytes(OTHER)
    (inside / "within").symlink_to(inside / "below")
    (inside / "good.png").symlink_to("below/good.png")
    (inside / "out.png").symlink_to(outside / "secret.png")
    (inside / "out").symlink_to(outside)
    (inside / "dangling.png").symlink_to(outside / "absent.png")
    (inside / "circle").symlink_to("circle")
    os.mkfifo(inside / "pipe.png")
    return inside


@pytest.mark.parametrize("path", ["below/good.png", "within/good.png", "good.png", "below/../good.png"])
def test_files_below_the_directory_are_read_through_links_that_stay_there(directory: Path, path: str) -> None:
    for form in ("file://", "file://localhost", "FILE://"):
        assert fetch(f"{form}{directory}/{path}", within=limits(local_path=directory.resolve()))[0].data == GOOD


@pytest.mark.parametrize(
    "path",
    [
        "../outside/secret.png", "%2e%2e/outside/secret.png", "below/../../outside/secret.png", "out.png",
        "out/secret.png", "dangling.png", "out/absent.png", "absent.png", "circle", "pipe.png", "below", "", "a%00b",
        "%ff", "/../../etc/passwd", "x" * 300,
    ],
)  # fmt: skip
def test_everything_else_is_refused_in_the_same_words(directory: Path, path: str) -> None:
    said = refusal(f"file://{directory}/{path}", within=limits(local_path=directory.resolve()))
    assert said == (
        "messages[0].content[0]: there is no file of this name that may be read below --allowed-local-media-path."
    )


def test_a_file_of_a_host_or_with_a_query_is_refused(directory: Path) -> None:
    for url in (f"file://host{directory}/good.png", f"file://{directory}/good.png?x", "file:good.png", "file://"):
        assert "a file's URL is file:///PATH" in refusal(url, within=limits(local_path=directory.resolve()))


# --- options


def test_the_operators_limits_are_those_of_the_options(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    options = Options.checked(
        {
            "allowed_media_domains": "a.example, 10.1.2.3:80",
            "allowed_local_media_path": str(link),
            "max_images": "3",
            "max_image_bytes": "4",
            "max_image_pixels": "5",
            "media_timeout": "6.5",
        }
    )
    domains = (Allowance.parse("a.example"), Allowance.parse("10.1.2.3:80"))
    assert MediaLimits.of(options) == MediaLimits(4, 5, 3, 6.5, domains, tmp_path.resolve())
    assert MediaLimits.of(Options()) == MediaLimits(20 * MIB, 33_000_000, 16, 10.0)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("allowed_media_domains", "https://a.example/", "--allowed-media-domains cannot be .* is no host name"),
        ("allowed_media_domains", "10.0.0.0/8", "is a network; name hosts"),
        ("allowed_local_media_path", "/absent", "--allowed-local-media-path cannot be .*there is no such directory"),
    ],
)
def test_a_wrong_option_is_one_sentence(name: str, value: str, sentence: str) -> None:
    with pytest.raises(LaunchError, match=sentence):
        Options.checked({name: value})
