"""`python -m api.sandbox.child`: renders what comes by standard input, within limits that the kernel keeps.

It ends when its input ends, so with its parent. While it renders an alarm runs that ends it: no template can catch it,
and it comes even where the parent is gone. It can open no file and no connection, as it may have no more descriptors
than the three it was started with; what is imported late by Jinja and Python is therefore used once before.
"""

import contextlib
import functools
import gc
import os
import resource
import signal
import sys
import time
from importlib import import_module
from pathlib import Path

from api.sandbox import job as wire
from api.sandbox.job import HEADER, Job, Origin, Refusal
from api.sandbox.template import Template

TEMPLATES = 32
"""Compiled ones that are kept."""

READ_BYTES = 1024 * 1024

IMPORTED_LATE = ("html", "jinja2.constants", "jinja2.debug", "pprint", "textwrap", "unicodedata")
"""By filters and functions of Jinja, and by "\\N{...}"."""

USES_THE_REST = "{{ 'é' | upper }}{{ strftime_now('%c') }}{{ nothing.at_all }}"
"""A template that has Python import codecs and what it tells errors with."""


def main() -> None:
    """Renders until there is no more to do; the argument is how nice to be to other processes."""
    os.nice(int(sys.argv[1]))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _warm_up()
    _limit()
    _write(b"", last=False)
    while True:
        data = _read()
        if data is None:
            return
        reply, last = _reply(data)
        _write(reply, last)
        if last:
            return


def _reply(data: bytearray) -> tuple[bytes, bool]:
    """What to answer to a job, and whether this process is to end with it: without memory it is not sound any more."""
    try:
        _alarm(wire.SECONDS)
        return _rendered(data), False
    except Refusal as refusal:
        return wire.encoded_refusal(refusal), False
    except MemoryError:
        return wire.encoded_out_of_memory(), True
    finally:
        _alarm(0)


def _rendered(data: bytearray) -> bytes:
    try:
        job = Job.decoded(data)
    except ValueError as error:
        raise Refusal(wire.NESTED_TOO_DEEP, "messages") from error
    template = _template(job.origin, tuple(job.special_tokens.items()), tuple(job.roles))
    texts = []
    for conversation in job.conversations:
        _alarm(wire.SECONDS)
        texts.append(
            template.render(
                conversation,
                add_generation_prompt=job.add_generation_prompt,
                continue_final_message=job.continue_final_message,
                variables=job.variables,
                longest=wire.longest_text(data),
            )
        )
    try:
        return wire.encoded_texts(texts)
    except UnicodeEncodeError as error:
        raise Refusal(
            f"{job.origin.name} makes text that is not Unicode: it has one half of a surrogate pair.", job.origin.field
        ) from error


@functools.lru_cache(TEMPLATES)
def _template(origin: Origin, special_tokens: tuple[tuple[str, str], ...], roles: tuple[str, ...]) -> Template:
    return Template(origin, dict(special_tokens), roles)


def _alarm(seconds: float) -> None:
    """Ends this process after so many seconds, unless it is called again; 0 ends that."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _warm_up() -> None:
    """Makes Jinja and Python import what they import late, and keeps the collector from all that is there by then."""
    time.tzset()
    for name in IMPORTED_LATE:
        import_module(name)
    template = Template(Origin(USES_THE_REST, "", "", ""), {}, ["user"])
    with contextlib.suppress(Refusal):
        template.render(
            [{"role": "user", "content": ""}],
            add_generation_prompt=False,
            continue_final_message=False,
            variables={},
            longest=wire.LONGEST_TEXT,
        )
    gc.collect()
    gc.freeze()


def _limit() -> None:
    """Takes from this process what a template has no use for."""
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_NOFILE: 3,
    }
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + wire.MEMORY_BYTES
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    for kind, most in limits.items():
        resource.setrlimit(kind, (most, most))


def _read() -> bytearray | None:
    """The next message; None when there are no more."""
    header = _read_exactly(HEADER.size)
    if header is None:
        return None
    length, _ = HEADER.unpack(header)
    return _read_exactly(length)


def _read_exactly(count: int) -> bytearray | None:
    found = bytearray()
    while len(found) < count:
        piece = os.read(0, min(count - len(found), READ_BYTES))
        if not piece:
            return None
        found += piece
    return found


def _write(data: bytes, last: bool) -> None:
    rest = memoryview(wire.framed(data, last))
    while rest:
        rest = rest[os.write(1, rest) :]


if __name__ == "__main__":
    main()
