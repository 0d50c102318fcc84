"""What a role says when it is ready, and does for what comes then."""

import os
import subprocess
import sys

STORY = """
import gc
from scheduler.readiness import announce_ready

loaded = [[number] for number in range(1000)]
announce_ready("serving")
looked_at = set(map(id, gc.get_objects()))
print(sum(id(each) in looked_at for each in loaded), gc.isenabled())
"""


def test_the_launcher_hears_once_and_the_collector_looks_no_more_at_what_is_loaded() -> None:
    reading, writing = os.pipe()
    environment = {**os.environ, "MILLPOND_READY_FD": str(writing)}
    found = subprocess.run(
        [sys.executable, "-c", STORY], env=environment, pass_fds=[writing], capture_output=True, text=True, check=True
    )
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == "ready serving\n"
    assert found.stdout.split() == ["0", "True"]
