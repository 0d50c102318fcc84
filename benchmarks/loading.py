"""What loading a checkpoint of about 1 GiB in several files takes: peak memory over the weights, seconds, bytes read.

    .venv/bin/python -m benchmarks.loading --json FILE

The checkpoint is a Llama of random weights, written for the purpose. Each case is a process of its own, or one a rank.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import describe_machine
from pooling.config import resolve_spec
from pooling.device import prepare_process, threads_for
from pooling.model_options import ModelOptions

LAYERS, HIDDEN, INNER, VOCABULARY, HEADS, KV_HEADS = 12, 1536, 4096, 32_000, 24, 8
CASES = (("F32", "float32", 1), ("BF16", "float32", 1), ("BF16", "bfloat16", 1), ("F32", "float32", 2))
BYTES = {"F32": 4, "BF16": 2, "float32": 4, "bfloat16": 2}
SHARD_BYTES = 256 * 1024 * 1024


def shapes() -> dict[str, tuple[int, ...]]:
    """The tensors of the checkpoint by name."""
    keys = HIDDEN // HEADS * KV_HEADS
    found: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (VOCABULARY, HIDDEN), "norm.weight": (HIDDEN,)}
    for number in range(LAYERS):
        layer = f"layers.{number}."
        found |= {
            f"{layer}self_attn.q_proj.weight": (HIDDEN, HIDDEN),
            f"{layer}self_attn.k_proj.weight": (keys, HIDDEN),
            f"{layer}self_attn.v_proj.weight": (keys, HIDDEN),
            f"{layer}self_attn.o_proj.weight": (HIDDEN, HIDDEN),
            f"{layer}mlp.gate_proj.weight": (INNER, HIDDEN),
            f"{layer}mlp.up_proj.weight": (INNER, HIDDEN),
            f"{layer}mlp.down_proj.weight": (HIDDEN, INNER),
            f"{layer}input_layernorm.weight": (HIDDEN,),
            f"{layer}post_attention_layernorm.weight": (HIDDEN,),
        }
    return found


def parameters() -> int:
    """How many numbers the checkpoint holds."""
    return sum(int(np.prod(shape)) for shape in shapes().values())


def write_checkpoint(directory: Path, stored: str) -> None:
    """A Llama of random weights in files of about SHARD_BYTES, in that type of safetensors."""
    config = {
        "architectures": ["LlamaModel"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
    }
    (directory / "config.json").write_text(json.dumps(config))
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    for name, shape in shapes().items():
        if sum(int(np.prod(each)) for each in shards[-1].values()) * BYTES[stored] > SHARD_BYTES:
            shards.append({})
        shards[-1][name] = shape
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_shard(directory / file, shard, stored)
        weight_map |= dict.fromkeys(shard, file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def write_shard(path: Path, tensors: dict[str, tuple[int, ...]], stored: str) -> None:
    """One safetensors file of random numbers."""
    chance, header, end = np.random.default_rng(0), {}, 0
    for name, shape in tensors.items():
        begin, end = end, end + int(np.prod(shape)) * BYTES[stored]
        header[name] = {"dtype": stored, "shape": shape, "data_offsets": [begin, end]}
    encoded = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for shape in tensors.values():
            values = chance.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
            raw = values if stored == "F32" else (values.view(np.uint32) >> 16).astype(np.uint16)
            file.write(raw.tobytes())


def load_alone(directory: Path, dtype: str, rank: int, addresses: list[str]) -> None:
    """Load in this process, as one rank where there are addresses; print what it took."""
    prepare_process("cpu", threads_for(max(1, len(addresses) - 1)))
    from pooling.engine import Engine
    from pooling.memory import HostMemory
    from pooling.parallel import join

    if addresses:
        join(rank, addresses)
    memory = HostMemory()
    spec = resolve_spec(directory, ModelOptions(dtype=dtype))
    before, read_before = memory.held(), bytes_read()
    memory.forget_peak()
    began = time.monotonic()
    engine = Engine.load(spec)
    seconds = time.monotonic() - began
    print(json.dumps([memory.peak() - before, memory.held() - before, seconds, bytes_read() - read_before]))
    del engine


def bytes_read() -> int:
    """What this process has asked the kernel to read so far, whether it came from the disk or its cache."""
    return int(Path("/proc/self/io").read_text().split("rchar:")[1].split()[0])


def measure(directory: Path, dtype: str, ranks: int) -> list[list[float]]:
    """Peak and held bytes over those before, seconds and bytes read, of each rank."""
    from pooling.ranks import free_addresses

    addresses = free_addresses(ranks + 1) if ranks > 1 else ()
    command = [sys.executable, "-m", "benchmarks.loading", "--load", str(directory), dtype]
    processes = [
        subprocess.Popen(
            [*command, str(rank), *addresses], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for rank in range(ranks)
    ]
    return [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]


def main() -> None:
    """Prints the table, and writes it as JSON when asked to."""
    if sys.argv[1:2] == ["--load"]:
        load_alone(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    table = []
    print(f"{parameters():,} parameters")
    print(f"{'stored':>6} {'held as':>9} {'rank':>5} {'of file read':>13} {'peak / weights':>15} {'seconds':>8}")
    for stored in dict.fromkeys(case[0] for case in CASES):
        with tempfile.TemporaryDirectory() as name:
            write_checkpoint(Path(name), stored)
            size = parameters() * BYTES[stored]
            for _, dtype, ranks in (case for case in CASES if case[0] == stored):
                for rank, (peak, _, seconds, read) in enumerate(measure(Path(name), dtype, ranks)):
                    share = peak / (parameters() * BYTES[dtype] / ranks)
                    table.append([stored, dtype, ranks, rank, read / size, share, seconds])
                    print(
                        f"{stored:>6} {dtype:>9} {rank + 1}/{ranks:<3} {read / size:13.3f} {share:15.3f} {seconds:8.1f}"
                    )
    if options.json:
        options.json.write_text(json.dumps({"machine": describe_machine(), "cases": table}, indent=1))


if __name__ == "__main__":
    main()
