"""The same 1,024 mixed texts through Millpond over HTTP and through sentence-transformers, alternating, in one run.

    make bench, or: .venv/bin/python -m benchmarks.throughput --rounds 5 [--peers infinity ray-serve] [--json FILE]
        [--plot FILE.svg]

With `--peers` also through other servers (`benchmarks.http_peers`), by the same callers.

Also compares the vectors: every one with the reference, and the same text's between batches.
"""

import argparse
import asyncio
import base64
import json
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from api.options import Options
from api.serving import checkpoint_directory
from benchmarks.callers import Answers, call_all
from benchmarks.http_peers import HTTP_PEERS, HttpPeer, started
from benchmarks.machine import describe_machine
from benchmarks.plotting import add_options, keep
from benchmarks.texts import mixed_texts
from tests.server import Millpond, serving

SHAPES = {"64 callers of 1 text": (64, 1), "4 callers of 32 texts": (4, 32)}
PEER = "sentence-transformers"
PEER_PYTHON = Path(".venv-bench/bin/python")


@dataclass
class Peer:
    """The running yardstick."""

    process: "subprocess.Popen[str]"
    directory: Path
    tokens: int = 0

    def encode(self) -> tuple[float, np.ndarray]:
        """Seconds for all texts, and their vectors."""
        assert self.process.stdin
        assert self.process.stdout
        path = self.directory / "vectors.npy"
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline()), np.load(path)


def start_peer(model: Path, texts: list[str], directory: Path, python: Path) -> Peer:
    """sentence-transformers in its own environment, warm."""
    texts_file = directory / "texts.json"
    texts_file.write_text(json.dumps(texts))
    command = [str(python), "benchmarks/sentence_transformers_peer.py", str(model), str(texts_file)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    peer = Peer(process, directory)
    assert process.stdout
    peer.tokens = int(process.stdout.readline())
    return peer


def ask(server: Millpond, texts: list[str], callers: int, size: int) -> tuple[Answers, np.ndarray]:
    """All texts in calls of `size`, by so many callers; and their vectors."""
    calls = [texts[start : start + size] for start in range(0, len(texts), size)]
    answers = asyncio.run(call_all(server.port, calls, callers))
    data = [each["embedding"] for body in answers.bodies for each in orjson.loads(body)["data"]]
    return answers, np.stack([np.frombuffer(base64.b64decode(each), "<f4") for each in data])


def ask_peer(peer: HttpPeer, port: int, texts: list[str], callers: int, size: int) -> tuple[float, np.ndarray]:
    """The same of another server: seconds, and the vectors."""
    calls = [texts[start : start + size] for start in range(0, len(texts), size)]
    answers = asyncio.run(call_all(port, calls, callers, peer.path, peer.fields))
    data = [each["embedding"] for body in answers.bodies for each in orjson.loads(body)["data"]]
    return answers.seconds, np.array(data, np.float32)


def main() -> None:
    """Prints the table, and writes it as JSON when asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="+", choices=HTTP_PEERS, default=[])
    parser.add_argument("--serve", default="", help="further options of the server, such as '--workers 2'")
    add_options(parser)
    parser.add_argument("--peer-python", type=Path, default=PEER_PYTHON)
    options = parser.parse_args()
    texts = mixed_texts()
    model = checkpoint_directory(Options())
    seconds: dict[str, list[float]] = {PEER: [], **{name: [] for name in SHAPES}}
    seconds |= {f"{peer}, {name}": [] for peer in options.peers for name in SHAPES}
    cosines: dict[str, float] = {}
    found: list[np.ndarray] = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        peer = start_peer(model, texts, directory, options.peer_python)
        stack.callback(peer.process.kill)
        server = stack.enter_context(serving(*options.serve.split(), model=model))
        others = {name: stack.enter_context(started(HTTP_PEERS[name], model)) for name in options.peers}
        _, reference = peer.encode()
        ask(server, texts, 64, 1)
        for name, port in others.items():
            _, vectors = ask_peer(HTTP_PEERS[name], port, texts, 64, 1)
            lengths = np.linalg.norm(vectors, axis=-1) * np.linalg.norm(reference, axis=-1)
            cosines[name] = float(((vectors * reference).sum(-1) / lengths).min())
        for _ in range(options.rounds):
            taken, _ = peer.encode()
            seconds[PEER].append(taken)
            for name, (callers, size) in SHAPES.items():
                answers, vectors = ask(server, texts, callers, size)
                seconds[name].append(answers.seconds)
                found.append(vectors)
                for other, port in others.items():
                    taken, _ = ask_peer(HTTP_PEERS[other], port, texts, callers, size)
                    seconds[f"{other}, {name}"].append(taken)
        for size in (1, 7, 64):
            found.append(ask(server, texts, 1, size)[1])
    every = np.stack(found)
    report = {
        "benchmark": "throughput",
        **describe_machine(),
        "serve": options.serve,
        "texts": len(texts),
        "tokens": peer.tokens,
        "tokens_per_second": {name: peer.tokens / statistics.median(taken) for name, taken in seconds.items()},
        "ratio": {
            name: statistics.median(
                ours / theirs for ours, theirs in zip(seconds["sentence-transformers"], seconds[name], strict=True)
            )
            for name in SHAPES
        },
        "ratio_to_peers": {
            f"{other}, {name}": statistics.median(
                theirs / ours for ours, theirs in zip(seconds[name], seconds[f"{other}, {name}"], strict=True)
            )
            for other in others
            for name in SHAPES
        },
        "lowest_cosine_of_peers": cosines,
        "lowest_cosine": float((every * reference).sum(-1).min()),
        "largest_difference_between_batches": float(np.ptp(every, axis=0).max()),
    }
    print(json.dumps(report, indent=2))
    keep(report, options)


if __name__ == "__main__":
    sys.exit(main())
