"""What a user may say about how a checkpoint is served, and what of it goes together."""

from dataclasses import dataclass

from pooling.errors import OptionError
from pooling.settings import Settings

DTYPES = ("float32", "bfloat16", "float16")
QUANTIZATIONS = ("none", "int8")


@dataclass(frozen=True)
class ModelOptions:
    """What a user may say about how a checkpoint is served; the defaults leave everything to the checkpoint.

    Attributes:
        runner: "auto" or "pooling"; Millpond has no other.
        convert: "auto", "none", "embed" or "classify".
        pooler_config: JSON, or the path of a file with it.
        max_model_len: the longest sequence wanted, in tokens.
        dtype: "auto", "float32", "bfloat16" or "float16".
        float32_matmul_precision: "highest" or "medium", by the names that torch has for them: "medium" multiplies in
            bfloat16 and adds up in float32.
        quantization: "none", or "int8" for linear layers of a byte a weight, on a CPU.
        device: "cpu", "gpu" or "gpu:N"; "auto" means another type on each.
    """

    runner: str = "auto"
    convert: str = "auto"
    pooler_config: str | None = None
    max_model_len: int | None = None
    dtype: str = "auto"
    float32_matmul_precision: str = "highest"
    quantization: str = "none"
    device: str = "cpu"


def dtype_of(options: ModelOptions, *configs: Settings) -> str:
    """The type of the weights of a model with these configurations, the first that states one.

    On a CPU "auto" is float32, whatever is stored: there 16 bits save memory, and are exact to 3 digits only.

    Raises:
        OptionError: there is no such type, or `float32_matmul_precision` does not go with it.
    """
    if options.dtype not in ("auto", *DTYPES):
        raise OptionError(f"--dtype {options.dtype} is not supported: use auto, {', '.join(DTYPES)}.")
    medium = options.float32_matmul_precision != "highest"
    if medium and (options.device != "cpu" or options.dtype not in ("auto", "float32")):
        raise OptionError(
            f"--float32-matmul-precision {options.float32_matmul_precision} is for float32 weights on a cpu, and "
            f"changes nothing with --dtype {options.dtype} on {options.device}: leave it out."
        )
    if options.dtype in DTYPES:
        return options.dtype
    stored = next((stated for config in configs if (stated := config.get("dtype", "torch_dtype"))), "float32")
    return str(stored) if options.device != "cpu" and stored in DTYPES else "float32"


def quantization_of(options: ModelOptions) -> str:
    """How the weights of linear layers are held; raises OptionError where that is not known, or not for the device."""
    chosen = options.quantization
    if chosen not in QUANTIZATIONS:
        raise OptionError(f"--quantization {chosen} is not supported: use {' or '.join(QUANTIZATIONS)}.")
    if chosen != "none" and options.device != "cpu":
        raise OptionError(
            f"--quantization {chosen} is for a cpu, and not written for {options.device}: leave it out, or use --dtype "
            "bfloat16 there."
        )
    return chosen
