"""What one HTTP request has taken, stage by stage, and how its reply says so."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from scheduler.metrics import STAGE_SECONDS

CUT_HEADER = b"millpond-truncated-inputs"


class Timings:
    """The marks of one request, from its head on.

    Attributes:
        began: `time.perf_counter` at its head.
        model: the name of the model that it is for; None until that is known, and where it is for none.
        device: where that model runs, for those who ask TEI's headers.
        tokens, characters: what was read of its inputs.
        cut: how many of its inputs were longer than the limit and were cut.
        allowance: where the caller's key stands with its limits, as headers.
    """

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.model: str | None = None
        self.device = "cpu"
        self.tokens = 0
        self.characters = 0
        self.cut = 0
        self.allowance: Mapping[str, str] = {}
        self._seconds: dict[str, float] = {}
        self._last = self.began

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the time inside towards a stage: tokenize, wait."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._last = time.perf_counter()
            self.add(name, self._last - began)

    def add(self, name: str, seconds: float) -> None:
        """Counts seconds towards a stage; those of queue and inference are measured by the worker."""
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def observe(self) -> None:
        """Puts the stages into the metrics."""
        if self.model is not None:
            for name in ("tokenize", "wait", "reply"):
                if name in self._seconds:
                    STAGE_SECONDS.labels(self.model, name).observe(self._seconds[name])

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The reply's headers: Server-Timing (W3C), and those of text-embeddings-inference, all in milliseconds."""
        found = [(name.encode(), value.encode()) for name, value in self.allowance.items()]
        if self.cut:
            found.append((CUT_HEADER, b"%d" % self.cut))
        if not self._seconds:
            return found
        now = time.perf_counter()
        self.add("reply", now - self._last)
        total = now - self.began
        entries = [f"{name};dur={seconds * 1000:.2f}" for name, seconds in {**self._seconds, "total": total}.items()]
        found.append((b"server-timing", ", ".join(entries).encode()))
        found += [
            (b"x-compute-type", self.device.encode()),
            (b"x-compute-time", _ms(total)),
            (b"x-compute-characters", b"%d" % self.characters),
            (b"x-compute-tokens", b"%d" % self.tokens),
            (b"x-total-time", _ms(total)),
        ]
        for header, name in _TEI_STAGES:
            found.append((header, _ms(self._seconds.get(name, 0.0))))
        return found


_TEI_STAGES = ((b"x-tokenization-time", "tokenize"), (b"x-queue-time", "queue"), (b"x-inference-time", "inference"))


def _ms(seconds: float) -> bytes:
    return b"%d" % round(seconds * 1000)
