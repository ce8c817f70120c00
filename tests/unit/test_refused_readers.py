"""A loop that cannot watch one more fd: its caller is told so, whatever else goes on."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from support import PATIENCE, AsyncRecorder, Item, finished, outcome, run


class Full(asyncio.SelectorEventLoop):
    """A loop whose selector is full."""

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
        raise OSError("no space left in the selector")


async def test_waiting_on_a_loop_that_refuses_a_reader_is_its_error() -> None:
    """Scenario 69. It comes while the answers of another loop are being given."""
    asked, answered = threading.Event(), threading.Event()
    answers: list[Any] = []

    class Result(Item):
        def __del__(self) -> None:
            asked.set()
            answered.wait(PATIENCE)

    def make(batch: list[Any]) -> list[Any]:
        return [Result() if item == 10 else item for item in batch]

    async def main() -> None:
        answers.append(await outcome(batcher.idle))

    def ask() -> None:
        asked.wait(PATIENCE)
        run(main(), factory=Full)
        answered.set()

    batcher = AsyncRecorder(make, max_queue_time=0)
    thread = threading.Thread(target=ask)
    thread.start()
    batcher.hold()
    futures = [batcher.process(item) for item in range(200)]
    await batcher.begun()
    futures[10].cancel()  # nobody is there to keep what it gets
    batcher.release()
    await finished(*futures)
    await asyncio.to_thread(thread.join)
    assert [type(answer) for answer in answers] == [OSError]
