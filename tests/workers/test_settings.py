"""What a worker is told by its environment."""

import pytest

from api.options import Options
from pooling.device import threads_for
from workers.errors import SettingError
from workers.settings import WorkerSettings

TOLD = {
    "MILLPOND_REDIS_URL": "redis://here",
    "MILLPOND_CHECKPOINT": "/model",
    "MILLPOND_SERVED_MODEL_NAME": "m",
    "MILLPOND_MAX_NUM_SEQS": "8",
    "MILLPOND_MAX_NUM_BATCHED_TOKENS": "100",
}


def test_workers_of_a_model_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: set(range(8)))
    assert WorkerSettings.from_environment(TOLD).workers == 1
    settings = WorkerSettings.from_environment({**TOLD, "MILLPOND_WORKERS": "3"})
    assert threads_for(settings.workers) == 2
    assert threads_for(100) == 1


def test_how_float32_is_multiplied_reaches_the_model() -> None:
    settings = WorkerSettings.from_environment({**TOLD, "MILLPOND_FLOAT32_MATMUL_PRECISION": "medium"})
    assert settings.model_options.float32_matmul_precision == "medium"
    assert WorkerSettings.from_environment(TOLD).model_options.float32_matmul_precision == "highest"


def test_quantization_reaches_the_model() -> None:
    settings = WorkerSettings.from_environment({**TOLD, "MILLPOND_QUANTIZATION": "int8"})
    assert settings.model_options.quantization == "int8"
    assert WorkerSettings.from_environment(TOLD).model_options.quantization == "none"


def test_that_nothing_is_compiled_reaches_the_worker() -> None:
    told = {**TOLD, **Options(enforce_eager=True).environment()}
    assert WorkerSettings.from_environment(told).enforce_eager
    assert not WorkerSettings.from_environment({**told, **Options().environment()}).enforce_eager
    assert not WorkerSettings.from_environment(TOLD).enforce_eager


def test_what_is_missing_is_named() -> None:
    with pytest.raises(SettingError, match="MILLPOND_CHECKPOINT"):
        WorkerSettings.from_environment({name: value for name, value in TOLD.items() if name != "MILLPOND_CHECKPOINT"})
