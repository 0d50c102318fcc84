"""The environment of Paddle is set before it is loaded, and the device is chosen in one place."""

import subprocess
import sys

import paddle
import pytest

from pooling.device import most_eager_tokens, prepare_process, select_device
from pooling.errors import DeviceError


def in_new_process(code: str, **environment: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_the_environment_is_set_and_told() -> None:
    code = "import os; from pooling.device import prepare_process; v = prepare_process('cpu', 3); "
    code += "print(v['OMP_NUM_THREADS'], all(os.environ[name] == value for name, value in v.items()))"
    assert in_new_process(code) == "3 True"


def test_what_a_person_has_set_stays() -> None:
    code = "from pooling.device import prepare_process; print(prepare_process('cpu', 3)['KMP_BLOCKTIME'])"
    assert in_new_process(code, KMP_BLOCKTIME="17") == "17"


def test_after_paddle_is_loaded_it_is_too_late() -> None:
    assert paddle
    with pytest.raises(DeviceError, match="imported already"):
        prepare_process("cpu", None)


@pytest.mark.parametrize(("device", "threads"), [("tpu", None), ("gpu:one", None), ("", None), ("cpu", 0)])
def test_a_device_that_makes_no_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, device: str, threads: int | None
) -> None:
    monkeypatch.delitem(sys.modules, "paddle")
    with pytest.raises(DeviceError):
        prepare_process(device, threads)


def test_a_gpu_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    if not paddle.is_compiled_with_cuda():
        with pytest.raises(DeviceError, match="install paddlepaddle-gpu"):
            select_device("gpu")
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 1)
    with pytest.raises(DeviceError, match="gpu:1 does not exist: this machine shows 1 GPUs"):
        select_device("gpu:1")


@pytest.mark.parametrize(("vendor", "tokens"), [("AuthenticAMD", 32), ("GenuineIntel", 64)])
def test_programs_pay_earlier_on_amd(monkeypatch: pytest.MonkeyPatch, vendor: str, tokens: int) -> None:
    monkeypatch.setattr("pooling.device._processor", lambda: f"vendor_id\t: {vendor}\nflags\t\t: fpu avx2\n")
    assert most_eager_tokens() == tokens


def test_configuration_and_tokenizing_load_neither_paddle_nor_transformers() -> None:
    code = "import sys, pooling.config, pooling.fetch, pooling.checkpoint, pooling.tokenizing, pooling.errors; "
    code += "print([name for name in ('paddle', 'transformers', 'torch', 'huggingface_hub') if name in sys.modules])"
    assert in_new_process(code) == "[]"
