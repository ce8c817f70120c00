"""How long does the import of the package take, beyond that of asyncio?

Every round is a fresh interpreter whose files are in the cache.
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks import harness
from benchmarks.harness import Numbers, Target

UNIT = "milliseconds"


def measure() -> Numbers:
    """Import it in interpreters that have imported nothing but asyncio."""
    source = (
        "import time; import asyncio; start = time.perf_counter(); import async_batcher;"
        " print((time.perf_counter() - start) * 1e3)"
    )
    times = []
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", source], capture_output=True, text=True, check=True
        )
        times.append(float(done.stdout))
    return {"import": sorted(times)[2]}


CASES = {"async_batcher": measure}
TARGETS = [Target("beyond asyncio", "async_batcher.import", at_most=5)]

if __name__ == "__main__":
    harness.main("imports", sys.modules[__name__])
