"""How many tokens fit into memory beside the weights, measured by a forward (`--gpu-memory-utilization`)."""

import logging
from pathlib import Path
from typing import Protocol

import numpy as np
import paddle

from pooling.config import ModelSpec
from pooling.device import give_back_freed_memory
from pooling.engine import CHUNK_TOKENS, PoolingEngine, PoolingInput
from pooling.errors import OptionError
from pooling.layers.attention import LONGEST_AT_ONCE
from pooling.parallel import group

log = logging.getLogger(__name__)

OPTION = "--gpu-memory-utilization"

# On a CPU a longer forward would hold up the start. Sequences of more than LONGEST_AT_ONCE attend in blocks, and take
# memory in proportion to their length: what the longest takes is worked out from one a little beyond.
LONGEST_ON_CPU = LONGEST_AT_ONCE + 256

MEGABYTE = 1e6


class Memory(Protocol):
    """The memory of a device."""

    def total(self) -> int:
        """Bytes of all of it that this process may count on."""

    def held(self) -> int:
        """Bytes that this process holds now."""

    def forget_peak(self) -> None:
        """Give up what is held and not used, and measure the peak anew from now on."""

    def peak(self) -> int:
        """The most bytes that this process has held since."""


class HostMemory:
    """The machine's memory, or what its control group allows, shared out among the ranks of the group."""

    def total(self) -> int:
        stated = [int(_proc("meminfo", "MemTotal")) * 1024]
        for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
            limit = Path(path).read_text().strip() if Path(path).exists() else "max"
            stated += [int(limit)] if limit.isdigit() else []
        return min(stated) // group().size

    def held(self) -> int:
        return int(_proc("self/status", "VmRSS")) * 1024

    def forget_peak(self) -> None:
        give_back_freed_memory()  # a forward that took what lies free already would seem to need nothing
        Path("/proc/self/clear_refs").write_text("5")  # see proc(5): resets VmHWM

    def peak(self) -> int:
        return int(_proc("self/status", "VmHWM")) * 1024


class GpuMemory:
    """The memory of the GPU that was selected. Not run on one yet."""

    def total(self) -> int:
        return int(paddle.device.cuda.get_device_properties().total_memory)

    def held(self) -> int:
        return int(paddle.device.cuda.memory_reserved())

    def forget_peak(self) -> None:
        paddle.device.cuda.empty_cache()
        paddle.device.cuda.reset_max_memory_reserved()

    def peak(self) -> int:
        return int(paddle.device.cuda.max_memory_reserved())


def fitting_tokens(
    engine: PoolingEngine,
    device: str,
    *,
    max_num_batched_tokens: int,
    max_num_seqs: int,
    utilization: float,
    memory: Memory | None = None,
) -> int:
    """The token budget of a micro-batch: as asked for, or less where that would not fit into memory.

    Args:
        engine: loaded, not yet warm.
        device: "cpu", "gpu" or "gpu:N".
        max_num_batched_tokens, max_num_seqs: the largest batch asked for.
        utilization: the share of the device's memory that may be taken, above 0 up to 1.
        memory: another memory than the device's, for tests.

    Raises:
        OptionError: the weights alone do not fit, or the longest sequence does not; the message names what to change.
    """
    memory = memory or (HostMemory() if device == "cpu" else GpuMemory())
    memory.forget_peak()
    allowed, held = int(memory.total() * utilization), memory.held()
    if held >= allowed:
        raise OptionError(
            f"The model takes {_megabytes(held)} and {OPTION} {utilization:g} allows {_megabytes(allowed)}: raise it, "
            "use a smaller --dtype, --quantization int8 on a cpu, or divide the model with --tensor-parallel-size."
        )
    lengths = largest_batch(engine.spec, device, max_num_batched_tokens, max_num_seqs)
    engine.start([PoolingInput(np.zeros(length, dtype=np.int32)) for length in lengths]).rows()
    taken = max(1, memory.peak() - held)
    at_once = min(sum(lengths), max(CHUNK_TOKENS, max(lengths))) if device == "cpu" else sum(lengths)
    fitting = (allowed - held) * at_once // taken
    longest = engine.spec.max_model_len
    log.info(
        "%s of weights and process, %s for %d tokens at once; %s allowed, which is enough for %d tokens",
        _megabytes(held), _megabytes(taken), at_once, _megabytes(allowed), fitting,
    )  # fmt: skip
    if fitting < longest:
        raise OptionError(
            f"A sequence of {longest} tokens does not fit into the {_megabytes(allowed - held)} that "
            f"{OPTION} {utilization:g} leaves beside the model: raise it, or use --max-model-len {fitting}."
        )
    # A CPU computes a micro-batch in chunks: its size costs no memory.
    return max_num_batched_tokens if device == "cpu" else min(max_num_batched_tokens, fitting)


def largest_batch(spec: ModelSpec, device: str, max_num_batched_tokens: int, max_num_seqs: int) -> list[int]:
    """The lengths of the batch that takes the most memory: one of the longest, and others to fill it up."""
    longest = min(spec.max_model_len, LONGEST_ON_CPU) if device == "cpu" else spec.max_model_len
    lengths = [longest]
    while sum(lengths) < max_num_batched_tokens and len(lengths) < max_num_seqs:
        lengths.append(min(longest, max_num_batched_tokens - sum(lengths)))
    return lengths


def _proc(file: str, field: str) -> str:
    """A field's number in one of the kernel's tables, in kB."""
    for line in Path("/proc", file).read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return value.split()[0]
    raise LookupError(f"/proc/{file} has no {field}")


def _megabytes(count: int) -> str:
    return f"{count / MEGABYTE:,.0f} MB"
