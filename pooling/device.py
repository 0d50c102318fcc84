"""The one place that knows devices: what a process must set before paddle is imported, and the choice of the device."""

import ctypes
import os
import re
import sys
from functools import cache
from pathlib import Path

from pooling.errors import DeviceError

# How a rank of a tensor-parallel group is told what `prepare_process` needs.
DEVICE_VARIABLE, THREADS_VARIABLE = "MILLPOND_RANK_DEVICE", "MILLPOND_RANK_THREADS"

# How oneDNN is told to multiply float32 in bfloat16 where the processor can.
PRODUCTS_VARIABLE = "ONEDNN_DEFAULT_FPMATH_MODE"

KEPT_BYTES = 1 << 30
"""Freed memory that a process keeps for its next forward, as far as nothing gives it back from time to time."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)

_DEVICE = re.compile(r"cpu|gpu(:\d+)?")


def prepare_process(device: str, threads: int | None, float32_matmul_precision: str = "highest") -> dict[str, str]:
    """Set the environment that Paddle and its math libraries read once, while they load.

    Variables that are set already stay as they are, so that a person can try other values. Figures for each choice are
    in docs/decisions/0002-the-form-of-the-engine.md.

    Args:
        device: "cpu", "gpu" or "gpu:N".
        threads: threads of one forward on the CPU; None takes every core this process may use.
        float32_matmul_precision: "highest", or "medium" to have compiled programs multiply float32 in bfloat16.

    Returns:
        The variables and their values in force, for the log.

    Raises:
        DeviceError: paddle is imported already, or `device` or `threads` makes no sense.
    """
    if "paddle" in sys.modules:
        raise DeviceError("paddle is imported already: call prepare_process before anything that imports it.")
    if not _DEVICE.fullmatch(device):
        raise DeviceError(f"There is no device {device!r}: use cpu, gpu or gpu:N.")
    if threads is not None and threads < 1:
        raise DeviceError(f"{threads} threads cannot compute anything: use at least 1.")
    count = str(threads or len(os.sched_getaffinity(0)))
    wanted = {
        # Paddle takes one thread unless told.
        "OMP_NUM_THREADS": count,
        # Only the pooler's few numpy sums use OpenBLAS: its own pool of threads would only compete.
        "OPENBLAS_NUM_THREADS": "1",
        # Intel's OpenMP spins for 200 ms after each parallel region, which takes the cores from the api process.
        "KMP_BLOCKTIME": "1",
        # Compiled programs run on oneDNN, with twice the speed of Paddle's own kernels. One flag under two names.
        "FLAGS_use_mkldnn": "1",
        "FLAGS_use_onednn": "1",
        # Paddle hands each intermediate result of a program to a thread that frees it, and which spins meanwhile; with
        # some MB of them at once, a short forward takes half the time.
        "FLAGS_eager_delete_tensor_gb": "0.003",
        # oneDNN keeps a program for each shape it has met, and by default up to 1,024 of them with their buffers.
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
        # Paddle's notes about its executor are none of the user's business; errors still come as exceptions.
        "GLOG_minloglevel": "2",
    }
    if float32_matmul_precision == "medium":
        wanted[PRODUCTS_VARIABLE] = "BF16"
    if _is_amd():
        # The MKL inside Paddle takes a path without AVX2 on AMD, at a quarter of the speed, unless told the type.
        wanted["MKL_DEBUG_CPU_TYPE"] = "5"
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    if device == "cpu":
        _keep_freed_memory()
    return {name: os.environ[name] for name in wanted}


def _keep_freed_memory() -> None:
    """Asks glibc to keep what a forward frees for the next one, up to KEPT_BYTES.

    Otherwise a forward's memory, and each block over 32 MB at once, goes back to the kernel and comes again page by
    page: a seventh of the time of a batch of 4,096 tokens. Does nothing where the C library is not glibc.
    """
    option = getattr(ctypes.CDLL(None), "mallopt", None)
    if option is not None:
        option(_M_MMAP_THRESHOLD, KEPT_BYTES)
        option(_M_TRIM_THRESHOLD, KEPT_BYTES)


def give_back_freed_memory() -> None:
    """Has glibc give the kernel what lies free. Does nothing where the C library is another."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def multiplies_narrowly() -> bool:
    """Whether compiled programs of this process multiply float32 in bfloat16."""
    return os.environ.get(PRODUCTS_VARIABLE) == "BF16" and processor_has_amx()


def processor_has_amx() -> bool:
    """Whether this processor multiplies tiles of bfloat16: oneDNN rounds float32 to it for these alone."""
    return "amx_bf16" in _processor()


def processor_has_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16; without them oneDNN has no product of it either."""
    return "avx512_bf16" in _processor()


@cache
def processor_has_avx512() -> bool:
    """Whether this processor has the instructions that some of Paddle's operators need without asking."""
    return "avx512f" in _processor()


def most_eager_tokens() -> int:
    """Up to how many tokens a forward on this processor is quicker operator by operator than as a compiled program.

    Starting a program costs more than it saves a short forward. On AMD it pays earlier: the MKL inside Paddle, which
    only the eager way uses, multiplies 33 to some 300 rows at the pace of one thread there, until it has seen more.
    """
    return 32 if _is_amd() else 64


def select_device(device: str) -> None:
    """Make a device the one that paddle computes on, for this whole process.

    Raises:
        DeviceError: there is no such GPU, or this Paddle was built without GPU support.
    """
    import paddle

    if device == "cpu":
        paddle.set_device("cpu")
        return
    if not paddle.is_compiled_with_cuda():
        raise DeviceError(
            f"--device {device} needs Paddle for GPUs, and this build is for CPUs: install paddlepaddle-gpu."
        )
    count = paddle.device.cuda.device_count()
    number = int(device.partition(":")[2] or 0)
    if number >= count:
        raise DeviceError(f"--device {device} does not exist: this machine shows {count} GPUs, numbered from 0.")
    paddle.set_device(f"gpu:{number}")


def device_of_rank(device: str, rank: int) -> str:
    """The device of a rank: the CPU for all, or the GPUs from the given one on, one each."""
    if device == "cpu":
        return device
    return f"gpu:{int(device.partition(':')[2] or 0) + rank}"


def threads_for(processes: int) -> int:
    """The threads of a forward on a CPU in each of so many processes: the cores they may use, shared out."""
    return max(1, len(os.sched_getaffinity(0)) // processes)


def _is_amd() -> bool:
    return "AuthenticAMD" in _processor()


def _processor() -> str:
    """What the kernel says of the processor; nothing where it does not."""
    information = Path("/proc/cpuinfo")
    return information.read_text() if information.exists() else ""
