"""Freed memory goes back to the machine."""

import subprocess
import sys

import pytest

STORY = """
import time
from scheduler import memory

def own_mib():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) / 1024

memory.GIVING_BACK_SECONDS = 0.05
kept = [bytes(5_000) for _ in range(40_000)]
del kept[1::20], kept[:-1]  # what remains lies at the top, and holds all below it
before = own_mib()
memory.keep_small()
until = time.monotonic() + 20
while own_mib() > before - 50 and time.monotonic() < until:
    time.sleep(0.02)
print(before - own_mib())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's heap")
def test_a_hole_in_the_heap_is_given_back() -> None:
    found = subprocess.run([sys.executable, "-c", STORY], capture_output=True, text=True, check=True, timeout=60)
    assert float(found.stdout) > 50
