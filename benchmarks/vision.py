"""Vision towers of one size (8 layers, 640 wide, random weights) against Hugging Face's forward on the CPU, by turns.

    make .venv-bench/installed
    .venv/bin/python -m benchmarks.vision --rounds 5 --json FILE

Both compute the same patches of images of several sizes, on every core, in float32, one after the other.
Preparing the images is not counted, and is measured by itself.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.families import PEER_PYTHON, by_turns, started
from benchmarks.machine import describe_machine
from pooling.config import resolve_spec
from pooling.device import prepare_process
from pooling.model_options import ModelOptions
from pooling.vision.patches_processor import PatchesProcessor
from pooling.vision.processors import PreparedImage

FAMILIES = {"qwen2-vl": 14, "qwen2.5-vl": 14, "qwen3-vl": 16}
"""The keys of vision_peer.CONFIGS, and the pixels of their patches' sides."""

PEER = "benchmarks/vision_peer.py"

SIZES = ((448, 448), (640, 360), (300, 500), (224, 224), (640, 480), (336, 336), (512, 128), (256, 384))
"""Width and height of the images."""


def prepared(side: int) -> tuple[list[PreparedImage], float]:
    """Images as a tower takes them, and the seconds that preparing one takes."""
    generator = np.random.default_rng(0)
    processor = PatchesProcessor({"patch_size": side, "temporal_patch_size": 2, "merge_size": 2})
    pixels = [generator.integers(0, 256, (height, width, 3), dtype=np.uint8) for width, height in SIZES]
    began = time.perf_counter()
    images = [processor.prepared(bytes([number]), each, {}) for number, each in enumerate(pixels)]
    return images, (time.perf_counter() - began) / len(images)


def run_engine(directory: Path, patches_file: Path, rows_file: Path) -> None:
    """The engine in a process of its own: for each line on standard input one pass; prints its seconds."""
    prepare_process("cpu", None)
    from pooling.embedded_images import EmbeddedImages
    from pooling.engine import Engine

    engine = Engine.load(resolve_spec(directory, ModelOptions()))
    given = np.load(patches_file)
    grids = [tuple(int(each) for each in grid) for grid in given["grids"]]
    ends = np.cumsum([times * height * width for times, height, width in grids])
    images = [
        PreparedImage(bytes([number]), patches, grid, (grid[0], grid[1] // 2, grid[2] // 2))
        for number, (patches, grid) in enumerate(zip(np.split(given["patches"], ends[:-1]), grids, strict=True))
    ]
    print("ready", flush=True)
    for _ in sys.stdin:
        tower = EmbeddedImages(engine.spec, engine._model, kept_bytes=0)
        began = time.perf_counter()
        found = tower.rows(images)
        rows = np.concatenate([found[image.key][0].numpy() for image in images])
        print(time.perf_counter() - began, flush=True)
        np.save(rows_file, rows)


def measure(family: str, rounds: int, attention: str, peer_python: Path) -> dict[str, float]:
    """Images a second of both, the ratio of two passes that follow each other (medians), and the least cosine."""
    images, preparing = prepared(FAMILIES[family])
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        subprocess.run([peer_python, PEER, "make", family, directory], check=True, stderr=subprocess.DEVNULL)
        patches = directory / "patches.npz"
        grids = np.array([image.grid for image in images])
        np.savez(patches, patches=np.concatenate([image.patches for image in images]), grids=grids)
        rows = {name: directory / f"{name}.npy" for name in ("peer", "engine")}
        commands = {
            "peer": [str(peer_python), PEER, "run", directory, patches, attention, rows["peer"]],
            "engine": [sys.executable, "-m", "benchmarks.vision", "--engine", directory, patches, rows["engine"]],
        }
        processes = started(stack, family, {name: list(map(str, command)) for name, command in commands.items()})
        seconds = by_turns(processes, rounds)
        for process in processes.values():
            assert process.stdin
            process.stdin.close()
            process.wait(60)
        left, right = (np.load(rows[name]).astype(np.float64) for name in ("peer", "engine"))
        cosines = (left * right).sum(-1) / np.linalg.norm(left, axis=-1) / np.linalg.norm(right, axis=-1)
        ratios = [peer / engine for peer, engine in zip(seconds["peer"], seconds["engine"], strict=True)]
        return {
            "hugging_face": len(images) / statistics.median(seconds["peer"]),
            "millpond": len(images) / statistics.median(seconds["engine"]),
            "ratio": statistics.median(ratios),
            "least_cosine": float(cosines.min()),
            "patches": float(sum(map(len, (image.patches for image in images)))),
            "preparing_ms": 1000 * preparing,
        }


def main() -> None:
    """Prints the table, and writes it as JSON when asked to."""
    if sys.argv[1:2] == ["--engine"]:
        run_engine(*map(Path, sys.argv[2:]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--attention", nargs="+", choices=("eager", "sdpa"), default=["eager", "sdpa"])
    parser.add_argument("--peer-python", type=Path, default=PEER_PYTHON)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    table = {}
    print(f"{'family':12} {'attention':>9} {'Hugging Face':>13} {'Millpond':>9} {'ratio':>6} {'cosine':>11} (images/s)")
    for family in options.families:
        for attention in options.attention:
            found = measure(family, options.rounds, attention, options.peer_python)
            table[f"{family} {attention}"] = found
            print(
                f"{family:12} {attention:>9} {found['hugging_face']:13.2f} {found['millpond']:9.2f} "
                f"{found['ratio']:6.2f} {found['least_cosine']:11.8f}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps({"machine": describe_machine(), "towers": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
