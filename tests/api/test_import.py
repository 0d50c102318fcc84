"""The api's processes stay light."""

import subprocess
import sys


def loaded_with(*modules: str) -> set[str]:
    """The packages that are there once these modules are."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(modules) <= set(loaded)
    return {name.split(".")[0] for name in loaded}


def test_the_api_loads_no_paddle() -> None:
    loaded = loaded_with("api.app", "api.__main__", "api.cli", "api.launcher")
    assert not loaded & {"paddle", "torch", "transformers", "workers"}


def test_the_command_line_loads_no_web_framework() -> None:
    assert not loaded_with("api.cli", "api.launcher") & {"fastapi", "starlette", "uvicorn"}
