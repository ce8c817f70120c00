"""How many instructions of ours does an item take, on its way in and on its way out?

Counted by callgrind in the extension alone, so the numbers depend on the compiler and not on the
machine's mood: one run with few items and one with many, and the difference is the items'. The
test of the same name holds them near those that are kept in instructions.json. When they change on
purpose, ``python -m benchmarks.instructions --keep`` keeps the new ones, and the commit says why.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

KEPT = Path(__file__).with_suffix(".json")
FEW, MANY = 2_000, 6_000
SCRIPT = """
import asyncio, gc, os, sys
from async_batcher import AsyncBatcher

class Echo(AsyncBatcher):
    async def process_batch(self, batch):
        return batch

async def main(count, ends):
    batcher = Echo(max_queue_time=3600)
    futures = [batcher.process(None) for _ in range(count)]
    if not ends:
        os._exit(0)
    batcher.flush()
    await batcher.idle()

gc.disable()  # or what it visits would be counted
asyncio.run(main(int(sys.argv[1]), sys.argv[2] == "ends"))
"""
OURS = re.compile(r"\b_core\.[^/]*\.(so|pyd)")


def count(items: int, way: str) -> int:
    """Instructions inside the extension while so many items go `way`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "callgrind.out"
        subprocess.run(
            [
                *("valgrind", "--tool=callgrind", f"--callgrind-out-file={path}"),
                *("--compress-strings=no", "--compress-pos=no"),
                *(sys.executable, "-c", SCRIPT, str(items), way),
            ],
            check=True,
            capture_output=True,
            env={"PYTHONHASHSEED": "0", "PYTHONMALLOC": "malloc"},
        )
        return total(path)


def total(path: Path) -> int:
    """Sum the own costs of all functions in the extension."""
    instructions, is_ours, is_call = 0, False, False
    for line in path.read_text().splitlines():
        if line.startswith("ob="):
            is_ours = OURS.search(line) is not None
        elif line.startswith("calls="):
            is_call = True  # the next line is what the callee took
        elif line[:1].isdigit():
            if is_ours and not is_call:
                instructions += int(line.split()[1])
            is_call = False
    return instructions


def measure() -> dict[str, float]:
    """Instructions an item takes to get in, and to be settled."""
    pushed = (count(MANY, "stays") - count(FEW, "stays")) / (MANY - FEW)
    whole = (count(MANY, "ends") - count(FEW, "ends")) / (MANY - FEW)
    return {"process": round(pushed, 1), "settle": round(whole - pushed, 1)}


def main() -> None:
    """Print the numbers beside those kept; keep them if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    numbers = measure()
    print(f"now {numbers}, kept {KEPT.read_text().strip() if KEPT.exists() else None}")
    if options.keep:
        KEPT.write_text(json.dumps(numbers) + "\n")


if __name__ == "__main__":
    main()
