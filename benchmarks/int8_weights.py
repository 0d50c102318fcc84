"""What `--quantization int8` saves and costs: memory, pace and quality beside float32, bfloat16 and `medium`.

    .venv/bin/python -m benchmarks.int8_weights --rounds 5 --json FILE
    .venv/bin/python -m benchmarks.int8_weights --rounds 3 --large --texts 16   # a Llama of 351 million random weights

Each form is a process of its own, and they compute by turns. Columns: megabytes of weights, and of the process when it
has computed; tokens a second over mixed texts; milliseconds for one text of 12 tokens. Of the default model also the
lowest cosine with what Sentence Transformers gave for 100 texts (tests/golden/minilm), and, beside float32 and over the
mixed texts, Spearman's correlation of the likeness of a text with all others (mean, lowest), and the share of its ten
nearest that stay among them.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.engine_forms import SHORT_TOKENS, seconds_of, token_ids
from benchmarks.loading import write_checkpoint
from benchmarks.machine import describe_machine
from benchmarks.quantizing import nearest
from pooling.config import resolve_spec
from pooling.device import prepare_process
from pooling.fetch import DEFAULT_MODEL, local_checkpoint
from pooling.model_options import ModelOptions

FORMS: Mapping[str, ModelOptions] = {
    "float32": ModelOptions(),
    "float32, medium": ModelOptions(float32_matmul_precision="medium"),
    "bfloat16": ModelOptions(dtype="bfloat16"),
    "int8": ModelOptions(quantization="int8"),
    "int8, medium": ModelOptions(quantization="int8", float32_matmul_precision="medium"),
    "int8, the rest bfloat16": ModelOptions(quantization="int8", dtype="bfloat16"),
}
GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "minilm"
MEGABYTE = 1e6
SHORT_PASSES = 5


@dataclass
class Figures:
    """What was measured of a form; quality only where the model's weights are not random.

    Attributes:
        weights, process: megabytes.
        tokens_per_second, short_milliseconds: of each pass.
        lowest_cosine: with the golden's vectors.
        mean_spearman, lowest_spearman, recall: beside float32.
    """

    weights: float = 0.0
    process: float = 0.0
    tokens_per_second: list[float] = field(default_factory=list)
    short_milliseconds: list[float] = field(default_factory=list)
    lowest_cosine: float | None = None
    mean_spearman: float | None = None
    lowest_spearman: float | None = None
    recall: float | None = None


def run_form(name: str, model: Path, ids_file: Path, vectors: Path) -> None:
    """Serve one form: vectors into a file, then for every line of standard input a pass, as JSON on standard output."""
    options = FORMS[name]
    prepare_process("cpu", None, options.float32_matmul_precision)
    from pooling.engine import Engine, PoolingInput

    engine = Engine.load(resolve_spec(model, options))
    held = [*engine._model.parameters(), *engine._model.buffers()]
    weights = sum(each.element_size() * each.size for each in held) / MEGABYTE
    texts, known = (
        [PoolingInput(np.array(ids, dtype=np.int32)) for ids in each] for each in json.loads(ids_file.read_text())
    )
    tokens = sum(len(each.ids) for each in texts)
    np.savez(vectors, texts=np.concatenate(engine.forward(texts)), known=np.concatenate(engine.forward(known)))
    short = [PoolingInput(np.full(SHORT_TOKENS, 2000, dtype=np.int32))]
    for _ in sys.stdin:
        rate = tokens / seconds_of(lambda: engine.forward(texts))
        latency = statistics.median(seconds_of(lambda: engine.forward(short)) for _ in range(SHORT_PASSES)) * 1e3
        print(json.dumps([weights, resident(), rate, latency]), flush=True)


def resident() -> float:
    """The megabytes that this process holds."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024 / MEGABYTE


def spearman(vectors: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """For each text the rank correlation of its likeness to all texts, by one kind of vectors and by the other, [n]."""
    left, right = (
        np.argsort(np.argsort(each @ each.T, axis=1), axis=1).astype(np.float64) for each in (vectors, others)
    )
    left, right = left - left.mean(1, keepdims=True), right - right.mean(1, keepdims=True)
    found: NDArray[np.float64] = (left * right).sum(1) / np.sqrt((left**2).sum(1) * (right**2).sum(1))
    return found


def judge(figures: Mapping[str, Figures], directory: Path) -> None:
    """Fill in the quality of each form."""
    wanted = np.load(GOLDEN / "vectors.npy")
    exact = np.load(directory / "float32.npz")["texts"]
    for name, each in figures.items():
        found = np.load(directory / f"{name}.npz")
        each.lowest_cosine = float((found["known"] * wanted).sum(1).min())
        correlations = spearman(found["texts"], exact)
        each.mean_spearman, each.lowest_spearman = float(correlations.mean()), float(correlations.min())
        shared = [
            len(np.intersect1d(one, other)) for one, other in zip(nearest(exact), nearest(found["texts"]), strict=True)
        ]
        each.recall = float(np.mean(shared)) / nearest(exact).shape[1]


def measure(model: Path, ids_file: Path, directory: Path, rounds: int) -> dict[str, Figures]:
    """All forms, by turns."""
    figures = {name: Figures() for name in FORMS}
    with ExitStack() as stack:
        processes = {}
        for name in FORMS:
            command = [sys.executable, "-m", "benchmarks.int8_weights", "--form", name, "--model", str(model)]
            command += ["--ids", str(ids_file), "--vectors", str(directory / f"{name}.npz")]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            stack.callback(process.kill)
            processes[name] = process
            next_pass(process)  # one after the other: it is answered once the process is warm
        for _ in range(rounds):
            for name, process in processes.items():
                each = figures[name]
                each.weights, each.process, rate, latency = next_pass(process)
                each.tokens_per_second.append(rate)
                each.short_milliseconds.append(latency)
                time.sleep(0.2)
    return figures


def next_pass(process: "subprocess.Popen[str]") -> list[float]:
    """Let a form's process make one more pass."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    found: list[float] = json.loads(process.stdout.readline())
    return found


def show(figures: Mapping[str, Figures]) -> None:
    """Print the table."""
    print(f"{'form':<25}{'weights':>9}{'process':>9}{'tokens/s':>10}{'12 tokens':>11}", end="")
    print(f"{'cosine':>9}{'spearman':>10}{'lowest':>8}{'recall@10':>11}")
    for name, each in figures.items():
        rate, latency = statistics.median(each.tokens_per_second), statistics.median(each.short_milliseconds)
        print(f"{name:<25}{each.weights:>6.0f} MB{each.process:>6.0f} MB{rate:>10.0f}{latency:>8.1f} ms", end="")
        quality = (each.lowest_cosine, each.mean_spearman, each.lowest_spearman, each.recall)
        for value, width in zip(quality, (9, 10, 8, 11), strict=True):
            print(f"{'' if value is None else format(value, '.4f'):>{width}}", end="")
        print()


def main() -> None:
    """Compares the forms, or is one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=1024, help="how many of the mixed texts")
    parser.add_argument(
        "--large", action="store_true", help="the Llama of benchmarks.loading in place of the default model"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--form", choices=FORMS, help=argparse.SUPPRESS)
    for hidden in ("--model", "--ids", "--vectors"):
        parser.add_argument(hidden, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.form:
        run_form(options.form, options.model, options.ids, options.vectors)
        return
    default = local_checkpoint(DEFAULT_MODEL, None, Path.home() / ".cache" / "millpond")
    ids = [each.tolist() for each in token_ids(resolve_spec(default))[: options.texts]]
    known = [json.loads(line)["ids"] for line in (GOLDEN / "texts.jsonl").read_text("utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as temporary:
        directory, model = Path(temporary), default
        if options.large:
            model = directory / "llama"
            model.mkdir()
            write_checkpoint(model, "F32")
            known = known[:1]
        ids_file = directory / "ids.json"
        ids_file.write_text(json.dumps([ids, known]))
        figures = measure(model, ids_file, directory, options.rounds)
        if not options.large:
            judge(figures, directory)
    print(f"{sum(map(len, ids))} tokens in {len(ids)} texts, {options.rounds} rounds, medians")
    show(figures)
    if options.json:
        rows = {name: vars(each) for name, each in figures.items()}
        options.json.write_text(json.dumps({**describe_machine(), "forms": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
