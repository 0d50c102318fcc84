"""Every model family at one size (12 layers, 768 wide, random weights) against Hugging Face's CPU forward, by turns.

    make .venv-bench/installed
    .venv/bin/python -m benchmarks.families --rounds 3 --json FILE

Both compute the same sequences sorted by length, on every core, in float32, one after the other. Hugging Face gets them
in batches of about 1,024 padded tokens, the best size that was found for torch; Millpond's engine cuts its own.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.machine import describe_machine
from benchmarks.texts import mixed_texts
from pooling.config import resolve_spec
from pooling.device import prepare_process
from pooling.model_options import ModelOptions
from pooling.packed import chunks_by_length

FAMILIES = (
    "bert",
    "roberta",
    "xlm-roberta",
    "distilbert",
    "mpnet",
    "modernbert",
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma3",
    "ernie",
    "ernie-moe",
)  # the keys of hugging_face_peer.CONFIGS, which only another environment can import
PEER_PYTHON = Path(".venv-bench/bin/python")
PEER = "benchmarks/hugging_face_peer.py"
VOCABULARY = 20_000
BATCH_TOKENS = 1024
LONGEST = 256


def sequences(tokens: int) -> list[list[int]]:
    """Random ids in sequences as long as the mixed texts have words and signs, until they are so many tokens."""
    chance = np.random.default_rng(0)
    found: list[list[int]] = []
    for text in mixed_texts():
        if sum(map(len, found)) >= tokens:
            break
        length = min(LONGEST, max(4, len(text) // 4))
        found.append(chance.integers(5, VOCABULARY, length).tolist())
    return found


def run_engine(directory: Path, sequences_file: Path, dtype: str) -> None:
    """The engine in a process of its own: for each line on standard input one pass; prints its seconds."""
    prepare_process("cpu", None)
    from pooling.engine import Engine, PoolingInput

    engine = Engine.load(resolve_spec(directory, ModelOptions(dtype=dtype)))
    inputs = [PoolingInput(np.array(ids, dtype=np.int32)) for ids in json.loads(sequences_file.read_text())]
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        engine.forward(inputs)
        print(time.perf_counter() - began, flush=True)


def next_pass(process: "subprocess.Popen[str]") -> float:
    """Seconds of one more pass."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def started(stack: ExitStack, family: str, commands: Mapping[str, Sequence[str]]) -> dict[str, "subprocess.Popen[str]"]:
    """Processes that compute when told to, each after a first pass, which does not count; they end with the stack."""
    processes = {}
    for name, command in commands.items():
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        stack.callback(process.kill)
        assert process.stdout
        if process.stdout.readline().strip() != "ready":
            raise SystemExit(f"{name} did not start for {family}: {' '.join(command)}")
        next_pass(process)
        processes[name] = process
    return processes


def by_turns(processes: Mapping[str, "subprocess.Popen[str]"], rounds: int) -> dict[str, list[float]]:
    """The seconds of each one's passes, one after the other in every round."""
    seconds: dict[str, list[float]] = {name: [] for name in processes}
    for _ in range(rounds):
        for name, process in processes.items():
            seconds[name].append(next_pass(process))
    return seconds


def measure(family: str, rounds: int, tokens: int, peer_python: Path, dtype: str) -> tuple[float, float, float]:
    """Tokens a second of Hugging Face and of the engine, and the ratio of two passes that follow each other: medians.

    The first pass of each does not count.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        subprocess.run([peer_python, PEER, "make", family, directory], check=True, stderr=subprocess.DEVNULL)
        given = sequences(tokens)
        groups = chunks_by_length([len(ids) for ids in given], BATCH_TOKENS)
        batches, flat = directory / "batches.json", directory / "sequences.json"
        batches.write_text(json.dumps([[given[place] for place in group] for group in groups]))
        flat.write_text(json.dumps(given))
        commands = {
            "peer": [str(peer_python), PEER, "run", str(directory), str(batches)],
            "engine": [sys.executable, "-m", "benchmarks.families", "--engine", str(directory), str(flat), dtype],
        }
        seconds = by_turns(started(stack, family, commands), rounds)
        total = sum(map(len, given))
        ratios = [peer / engine for peer, engine in zip(seconds["peer"], seconds["engine"], strict=True)]
        peer, engine = (total / statistics.median(seconds[name]) for name in ("peer", "engine"))
        return peer, engine, statistics.median(ratios)


def main() -> None:
    """Prints the table, and writes it as JSON when asked to."""
    if sys.argv[1:2] == ["--engine"]:
        run_engine(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=6000)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--dtype", default="float32", help="of the engine; Hugging Face computes in float32")
    parser.add_argument("--peer-python", type=Path, default=PEER_PYTHON)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    table = {}
    print(f"{'family':14} {'Hugging Face':>14} {'Millpond':>10} {'ratio':>6}")
    for family in options.families:
        peer, engine, ratio = measure(family, options.rounds, options.tokens, options.peer_python, options.dtype)
        table[family] = {"hugging_face": peer, "millpond": engine, "ratio": ratio}
        print(f"{family:14} {peer:14.0f} {engine:10.0f} {ratio:6.2f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": describe_machine(), "tokens_per_second": table}, indent=1))


if __name__ == "__main__":
    main()
