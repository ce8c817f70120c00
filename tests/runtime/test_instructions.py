"""The cost of an item in instructions: it does not grow by accident."""

from __future__ import annotations

import json
import platform
import shutil
import sys
from pathlib import Path

import pytest
from support import IS_OTHER_BUILD

ROOT = Path(__file__).parents[2]
TOLERANCE = 0.05
CHANGED = (
    "an item takes {now} instructions of ours, {kept} are kept: if that is on purpose, run"
    " `python -m benchmarks.instructions --keep` and say in the commit why"
)


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
@pytest.mark.skipif(IS_OTHER_BUILD, reason="the numbers are those of a plain build")
@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11) or platform.machine() != "x86_64",
    reason="the numbers are those of CPython 3.11 on x86_64",
)
@pytest.mark.timeout(300)
def test_item_takes_as_many_instructions_as_are_kept() -> None:
    sys.path.insert(0, str(ROOT))
    from benchmarks import instructions

    kept = json.loads(instructions.KEPT.read_text(encoding="utf-8"))
    now = instructions.measure()
    for way, number in kept.items():
        assert abs(now[way] - number) <= TOLERANCE * number, CHANGED.format(now=now, kept=kept)
