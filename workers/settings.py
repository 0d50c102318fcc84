"""What a worker process is told by its environment (`MILLPOND_...`); `millpond worker` fills it in and checks it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pooling.model_options import ModelOptions
from pooling.vision.images import MAX_PIXELS
from workers.errors import SettingError


@dataclass(frozen=True)
class WorkerSettings:
    """The settings of one worker process.

    Attributes:
        workers: how many of this model were started together, and share the machine's cores.
    """

    redis_url: str
    broker_url: str
    checkpoint: Path
    model: str
    device: str
    model_options: ModelOptions
    max_num_seqs: int
    max_num_batched_tokens: int
    tensor_parallel_size: int
    workers: int
    gpu_memory_utilization: float
    log_format: str
    max_image_pixels: int = MAX_PIXELS
    enforce_eager: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """The settings.

        Raises:
            SettingError: a variable without a default is missing.
        """

        def required(name: str) -> str:
            value = environment.get("MILLPOND_" + name)
            if not value:
                raise SettingError(f"MILLPOND_{name} is not set: start workers with `millpond worker`.")
            return value

        redis_url = required("REDIS_URL")
        limit = environment.get("MILLPOND_MAX_MODEL_LEN")
        return cls(
            redis_url=redis_url,
            broker_url=environment.get("MILLPOND_BROKER_URL") or redis_url,
            checkpoint=Path(required("CHECKPOINT")),
            model=required("SERVED_MODEL_NAME"),
            device=environment.get("MILLPOND_DEVICE") or "cpu",
            model_options=ModelOptions(
                runner=environment.get("MILLPOND_RUNNER") or "auto",
                convert=environment.get("MILLPOND_CONVERT") or "auto",
                pooler_config=environment.get("MILLPOND_POOLER_CONFIG") or None,
                max_model_len=int(limit) if limit else None,
                dtype=environment.get("MILLPOND_DTYPE") or "auto",
                float32_matmul_precision=environment.get("MILLPOND_FLOAT32_MATMUL_PRECISION") or "highest",
                quantization=environment.get("MILLPOND_QUANTIZATION") or "none",
                device=environment.get("MILLPOND_DEVICE") or "cpu",
            ),
            max_num_seqs=int(required("MAX_NUM_SEQS")),
            max_num_batched_tokens=int(required("MAX_NUM_BATCHED_TOKENS")),
            tensor_parallel_size=int(environment.get("MILLPOND_TENSOR_PARALLEL_SIZE") or 1),
            workers=int(environment.get("MILLPOND_WORKERS") or 1),
            gpu_memory_utilization=float(environment.get("MILLPOND_GPU_MEMORY_UTILIZATION") or 0.9),
            log_format=environment.get("MILLPOND_LOG_FORMAT") or "text",
            max_image_pixels=int(environment.get("MILLPOND_MAX_IMAGE_PIXELS") or MAX_PIXELS),
            enforce_eager=environment.get("MILLPOND_ENFORCE_EAGER", "").lower() == "true",
        )
