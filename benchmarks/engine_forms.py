"""The engine in the forms it could have, each in its own process, alternating, against the machine's matrix product.

    .venv/bin/python -m benchmarks.engine_forms --rounds 5
    .venv/bin/python -m benchmarks.engine_forms --peer-python .venv-bench/bin/python    # with sentence-transformers

Prints one row a form, of medians: tokens a second over 1,024 mixed texts; the same as a share of what SGEMM, measured
before and after in the same process, would allow if nothing but the linear layers cost anything; and milliseconds for
one text of 12 tokens, or of `--short-tokens`. docs/decisions/0002-the-form-of-the-engine.md says what follows from it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.texts import mixed_texts
from pooling.config import ModelSpec, resolve_spec
from pooling.device import prepare_process
from pooling.fetch import DEFAULT_MODEL, local_checkpoint
from pooling.tokenizing import Tokenizer

SHORT_TOKENS = 12
NEVER, ALWAYS = 10**9, 0


@dataclass(frozen=True)
class Form:
    """What differs from the engine as it is: environment variables, and constants of pooling.engine."""

    environment: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, int] = field(default_factory=dict)


FORMS = {
    "as it is": Form(),
    "always eager": Form(constants={"EAGER_TOKENS": NEVER}),
    "eager up to 64 tokens": Form(constants={"EAGER_TOKENS": 64}),
    "always compiled": Form(constants={"EAGER_TOKENS": ALWAYS}),
    "compiled, without oneDNN": Form({"FLAGS_use_onednn": "0", "FLAGS_use_mkldnn": "0"}, {"EAGER_TOKENS": ALWAYS}),
    "chunks of 512 tokens": Form(constants={"CHUNK_TOKENS": 512}),
    "chunks of 2048 tokens": Form(constants={"CHUNK_TOKENS": 2048}),
    "results freed one by one": Form({"FLAGS_eager_delete_tensor_gb": "0"}),
    "multiplied in bfloat16": Form({"ONEDNN_DEFAULT_FPMATH_MODE": "BF16"}),
    "threads never spin": Form({"KMP_BLOCKTIME": "0"}),
    "threads spin for 200 ms": Form({"KMP_BLOCKTIME": "200"}),
}


@dataclass(frozen=True)
class Pass:
    """One pass over all texts: seconds it took, GFLOP/s of SGEMM around it, milliseconds for one short text."""

    seconds: float
    sgemm: float
    short_milliseconds: float


def run_form(form: Form, model: Path, short_tokens: int) -> None:
    """Serve one form: for every line on standard input one pass, written as JSON to standard output."""
    prepare_process("cpu", None)
    from pooling import engine as engine_module

    for name, value in form.constants.items():
        setattr(engine_module, name, value)
    spec = resolve_spec(model)
    engine = engine_module.Engine.load(spec)
    engine.warm_up(16384, 256)
    inputs = [engine_module.PoolingInput(ids) for ids in token_ids(spec)]
    short = [engine_module.PoolingInput(np.full(short_tokens, 2000, dtype=np.int32))]
    engine.forward(inputs)
    for _ in sys.stdin:
        before = sgemm_gigaflops()
        seconds = seconds_of(lambda: engine.forward(inputs))
        sgemm = (before + sgemm_gigaflops()) / 2
        latency = statistics.median(seconds_of(lambda: engine.forward(short)) for _ in range(50))
        print(json.dumps([seconds, sgemm, latency * 1e3]), flush=True)


def token_ids(spec: ModelSpec) -> list[np.ndarray]:
    """The texts of the benchmark as ids, cut to the model's limit."""
    tokenizer = Tokenizer.from_spec(spec)
    return [tokenizer.truncate(ids, spec.max_model_len) for ids in tokenizer.encode(mixed_texts())]


def seconds_of(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def sgemm_gigaflops() -> float:
    """The best of ten products of 4096 x 384 with 384 x 1536, the largest that the model has."""
    import paddle

    left, right = paddle.rand([4096, 384]), paddle.rand([384, 1536])
    best = min(seconds_of(lambda: paddle.matmul(left, right)) for _ in range(10))
    return 2 * 4096 * 384 * 1536 / best / 1e9


def linear_flop_per_token(spec: ModelSpec) -> int:
    """What the linear layers compute for one token: four products hidden x hidden, two hidden x intermediate."""
    inner, layers = spec.settings.integer("intermediate_size"), spec.settings.integer("num_hidden_layers")
    return 2 * layers * (4 * spec.hidden_size**2 + 2 * spec.hidden_size * inner)


def start_form(name: str, model: Path, short_tokens: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "benchmarks.engine_forms", "--form", name, "--model", str(model)]
    command += ["--short-tokens", str(short_tokens)]
    environment = {**os.environ, **FORMS[name].environment}
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def next_pass(process: "subprocess.Popen[str]") -> Pass:
    """Let a form's process make one more pass."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    return Pass(*json.loads(process.stdout.readline()))


def compare(model: Path, rounds: int, names: list[str], short_tokens: int, peer_python: Path | None) -> None:
    """Print the table: all forms in turn, `rounds` times."""
    spec = resolve_spec(model)
    tokens = sum(map(len, token_ids(spec)))
    passes: dict[str, list[Pass]] = {name: [] for name in names}
    peer_seconds: list[float] = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        peer = None
        if peer_python:
            from benchmarks.throughput import start_peer

            peer = start_peer(model, mixed_texts(), directory, peer_python)
            stack.callback(peer.process.kill)
            peer.encode()
        processes = {name: start_form(name, model, short_tokens) for name in names}
        for process in processes.values():
            stack.callback(process.kill)
        for _ in range(rounds):
            for name, process in processes.items():
                passes[name].append(next_pass(process))
            if peer:
                peer_seconds.append(peer.encode()[0])
    print(f"{tokens} tokens in {len(mixed_texts())} texts, {rounds} rounds, medians")
    print(f"{'form':28} {'tokens/s':>9} {'of SGEMM':>9} {'one text':>9}")
    for name, taken in passes.items():
        rate = statistics.median(tokens / each.seconds for each in taken)
        flop = linear_flop_per_token(spec)
        share = statistics.median(tokens / each.seconds * flop / (each.sgemm * 1e9) for each in taken)
        short = statistics.median(each.short_milliseconds for each in taken)
        print(f"{name:28} {rate:9.0f} {share:9.2f} {short:6.1f} ms")
    if peer_seconds:
        print(f"{'sentence-transformers':28} {statistics.median(tokens / seconds for seconds in peer_seconds):9.0f}")


def main() -> None:
    """Compare the forms, or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--short-tokens", type=int, default=SHORT_TOKENS, help="of the one text")
    parser.add_argument("--model", type=Path, help="a checkpoint directory; the default model is fetched without it")
    parser.add_argument("--peer-python", type=Path, help="a Python that has sentence-transformers")
    parser.add_argument("--form", choices=FORMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    model = options.model or local_checkpoint(DEFAULT_MODEL, None, Path.home() / ".cache" / "millpond")
    if options.form:
        run_form(FORMS[options.form], model, options.short_tokens)
    else:
        compare(model, options.rounds, options.forms, options.short_tokens, options.peer_python)


if __name__ == "__main__":
    main()
