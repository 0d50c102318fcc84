"""Where a forward's time goes, by the kind of operator, beside the machine's matrix product.

    .venv/bin/python -m benchmarks.layers --tokens 1024 --length 128 [--dtype bfloat16] [--json FILE]

One process runs a compiled forward again and again, first for its time, then, in another process, with oneDNN telling
of each operator what it took (`ONEDNN_VERBOSE`). What is left over is what oneDNN does not run: gathering rows for
attention and back, embeddings, pooling, and the way from Python into the program. The telling itself costs a few
percent, so shares are of the time that was told of plus what is left.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from api.options import Options
from api.serving import checkpoint_directory
from benchmarks.engine_forms import linear_flop_per_token, sgemm_gigaflops
from benchmarks.machine import describe_machine
from pooling.config import ModelSpec, resolve_spec
from pooling.device import prepare_process
from pooling.model_options import ModelOptions

PASSES = 30
BEGIN, END = "forwards begin", "forwards end"
PRIMITIVE, SHAPES = 5, -2
"""Of the comma-separated fields of a line of oneDNN's: the operator's kind, and from behind the sizes."""

KINDS = {
    "binary": "additions: biases, residuals, masks",
    "softmax": "softmax",
    "eltwise": "activations",
    "layer_normalization": "norms",
    "reorder": "copies",
}
LINEAR, ATTENTION, REST = "linear layers", "attention's products", "not oneDNN"


def serve(model: Path, dtype: str, count: int, length: int) -> None:
    """Runs the passes, with marks around them, and prints the median of their milliseconds and SGEMM's GFLOP/s."""
    prepare_process("cpu", None)
    from pooling.engine import Engine, PoolingInput

    engine = Engine.load(resolve_spec(model, ModelOptions(dtype=dtype)))
    inputs = [PoolingInput(np.full(length, 2000 + number, dtype=np.int32)) for number in range(count)]
    for _ in range(5):
        engine.forward(inputs)
    print(BEGIN, flush=True)
    taken = []
    for _ in range(PASSES):
        began = time.perf_counter()
        engine.forward(inputs)
        taken.append(time.perf_counter() - began)
    print(END, flush=True)
    print(json.dumps([1000 * statistics.median(taken), sgemm_gigaflops()]), flush=True)


def run(model: Path, dtype: str, count: int, length: int, *, told: bool) -> list[str]:
    """What a process of its own prints."""
    command = [sys.executable, "-m", "benchmarks.layers", "--serve", str(model), dtype, str(count), str(length)]
    environment = {**os.environ, "ONEDNN_VERBOSE": "1" if told else "0"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return done.stdout.decode().splitlines()


def told_of(lines: Iterable[str], hidden: int) -> dict[str, float]:
    """Milliseconds of a pass by kind, of lines between the marks."""
    found: dict[str, float] = defaultdict(float)
    between = False
    for line in lines:
        between = line == BEGIN or (between and line != END)
        fields = line.split(",")
        if not between or not line.startswith("onednn_verbose") or "exec" not in fields:
            continue
        kind = fields[PRIMITIVE]
        if kind == "matmul":
            # A linear layer multiplies all rows at once, as a batch of one, attention those of each head.
            linear = fields[SHAPES].startswith("1x")
            name = LINEAR if linear and str(hidden) in fields[SHAPES].replace(":", "x").split("x") else ATTENTION
        else:
            name = KINDS.get(kind, kind)
        found[name] += float(fields[-1]) / PASSES
    return found


def shares(plain: float, told: Mapping[str, float], told_whole: float) -> dict[str, float]:
    """Milliseconds of a plain pass by kind: what was told, and what was left, brought to its length."""
    left = max(0.0, told_whole - sum(told.values()))
    scale = plain / (sum(told.values()) + left)
    return {name: each * scale for name, each in {**told, REST: left}.items()}


def measured(spec: ModelSpec, model: Path, dtype: str, count: int, length: int) -> dict[str, object]:
    """The figures of both processes."""
    plain, sgemm = json.loads(run(model, dtype, count, length, told=False)[-1])
    lines = run(model, dtype, count, length, told=True)
    told_whole, _ = json.loads(lines[-1])
    limit = 1000 * count * length * linear_flop_per_token(spec) / (sgemm * 1e9)
    parts = shares(plain, told_of(lines, spec.hidden_size), told_whole)
    return {"milliseconds": plain, "sgemm_limit_milliseconds": limit, "sgemm_gigaflops": sgemm, "parts": parts}


def main() -> None:
    """Prints the table, and writes it as JSON when asked to."""
    if sys.argv[1:2] == ["--serve"]:
        serve(Path(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = checkpoint_directory(Options())
    found = measured(resolve_spec(model), model, options.dtype, options.tokens // options.length, options.length)
    whole, parts = found["milliseconds"], found["parts"]
    assert isinstance(whole, float)
    assert isinstance(parts, dict)
    print(f"a forward of {options.tokens} tokens in sequences of {options.length}: {whole:.1f} ms")
    print(f"its linear layers at SGEMM's pace: {found['sgemm_limit_milliseconds']:.1f} ms")
    for name, each in sorted(parts.items(), key=lambda part: -part[1]):
        print(f"{name:36} {each:7.1f} ms  {each / whole:4.0%}")
    if options.json:
        options.json.write_text(json.dumps({**describe_machine(), **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
