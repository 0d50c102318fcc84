"""The api's processes stay light."""

import subprocess
import sys


def test_the_api_loads_no_paddle() -> None:
    code = "import sys, api.app, api.__main__, api.cli, api.launcher; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "api.app" in loaded
    assert not {name for name in loaded if name.split(".")[0] in ("paddle", "torch", "transformers", "workers")}
