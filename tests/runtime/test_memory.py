"""Memory: items that go through leave none behind, answered or failed. `AB_ITEMS` of them a way."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from support import INSTRUMENTED, clean_script

if TYPE_CHECKING:
    from pathlib import Path

ITEMS = int(os.environ.get("AB_ITEMS", "300000"))
PATIENCE_S = 50 + ITEMS // 5000
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc"),
    pytest.mark.skipif(INSTRUMENTED, reason="a sanitizer keeps memory of its own"),
    pytest.mark.timeout(10 + PATIENCE_S),
]

# A process of its own, whose memory nobody else uses. What is grown by is the most that it held
# later on, so that no lucky moment hides it.
FLOW = """
import asyncio, gc, os, sys
from scripted import KINDS, run

ROUND = 1000
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20
LIMIT_MB = 5
rounds, way = int(sys.argv[3]) // ROUND, sys.argv[2]

def rss_mb():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE_MB

class Item:
    def __init__(self, number):
        self.number = number
        self.ballast = bytes(100)

def answers(batch):
    if way == "failed":
        raise LookupError(batch[0].number)
    return [LookupError() if way == "failed singly" else item for item in batch]

class Async(KINDS["async"]):
    async def process_batch(self, batch):
        return answers(batch)

class Sync(KINDS["sync"]):
    def process_batch(self, batch):
        return answers(batch)

async def one_round(batcher):
    items = [Item(number) for number in range(ROUND)]
    half = ROUND // 2
    futures = [batcher.process(item) for item in items[:half]]
    many = batcher.process_many(items[half:], return_exceptions=True)
    told = await asyncio.gather(*futures, return_exceptions=True) + await many
    if way == "answered":
        assert told == items
    else:
        assert all(type(error) is LookupError for error in told)

async def main():
    async with {"async": Async, "sync": Sync}[sys.argv[1]](
        max_queue_time=0, max_batch_size=64
    ) as batcher:
        for _ in range(rounds // 6):
            await one_round(batcher)
        before, most = rss_mb(), 0
        for number in range(rounds):
            await one_round(batcher)
            if number % 10 == 9:
                most = max(most, rss_mb())
    assert most - before < LIMIT_MB, f"{before:.1f} MB, then {most:.1f}"

run(main())
"""


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize("way", ["answered", "failed", "failed singly"])
def test_memory_stays_flat_while_items_go_through(tmp_path: Path, kind: str, way: str) -> None:
    """Scenario 66. Trap 50."""
    clean_script(tmp_path, FLOW, kind, way, str(ITEMS), timeout=PATIENCE_S)
