"""What does a budget of tokens do that a fixed number of items does not?

Every docstring of some modules of the standard library is a passage: from one token to more than
two thousand, shuffled as many callers would send them. Each has a producer of its own, the bounded
queue of a ``TokenBatcher`` holds them back, and ``count_words`` stands for the model. The same
passages go through it once for each way to limit a batch. What is printed is how full the batches
were, and what they take if a model pads each passage to the longest of its batch.

Two more rows show what the order does: ``in parts``, if the consumer sorts its batch by length and
runs it in parts that fit the budget with their padding; and ``sorted``, if the passages are sorted
before they are handed in, which nobody can do whose callers come one by one.

Run it: ``python docs/examples/token_budget.py``.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import random
import re
import types
from dataclasses import dataclass
from statistics import mean

from async_batcher import TokenBatcher

BUDGET = 8_192
"""Most tokens of a batch."""
NO_LIMIT = -1
MODULES = (
    "argparse ast asyncio.tasks base64 bisect calendar codecs collections configparser contextlib "
    "copy csv datetime decimal difflib dis doctest email.message fractions functools gzip heapq "
    "http.client http.server imaplib inspect io ipaddress itertools json locale logging math "
    "mimetypes operator optparse os pathlib pdb pickle pickletools platform pprint pydoc queue "
    "random re sched shlex shutil smtplib socket statistics string struct subprocess tarfile "
    "tempfile textwrap threading time timeit tokenize traceback unittest.mock urllib.parse "
    "urllib.request uuid warnings wave weakref zipfile"
)


@dataclass(frozen=True)
class Passage:
    """A text and its number of tokens, words and punctuation marks."""

    text: str
    tokens: int

    def estimate_tokens(self) -> int:
        """Tell a ``TokenBatcher`` the cost."""
        return self.tokens


def docstrings(module: types.ModuleType) -> set[str]:
    """Return the docstrings of a module, its classes, their methods and its functions."""
    things: list[object] = [module]
    for thing in vars(module).values():
        if inspect.isclass(thing):
            things += [thing, *filter(inspect.isroutine, vars(thing).values())]
        elif inspect.isroutine(thing):
            things.append(thing)
    return {thing.__doc__ for thing in things if isinstance(thing.__doc__, str)}


def gather_passages() -> list[Passage]:
    """Return the passages, the same and in the same order in every run."""
    texts = set[str]().union(
        *(docstrings(importlib.import_module(name)) for name in MODULES.split())
    )
    counted = [Passage(text, len(re.findall(r"\w+|[^\w\s]", text))) for text in sorted(texts)]
    random.Random(0).shuffle(counted)
    return [passage for passage in counted if passage.tokens]


async def batch_up(passages: list[Passage], size: int, tokens: int) -> list[list[int]]:
    """Hand in all passages at once; return the lengths in each batch, in tokens."""
    batches: list[list[int]] = []

    async def count_words(batch: list[Passage]) -> list[int]:
        batches.append([passage.tokens for passage in batch])
        await asyncio.sleep(0)  # a model would run here
        return [len(passage.text.split()) for passage in batch]

    batcher = TokenBatcher(
        count_words, max_batch_size=size, target_batch_tokens=tokens, max_queue_size=1_000
    )

    async def produce(passage: Passage) -> None:
        answer = await (await batcher.submit(passage))
        if answer != len(re.findall(r"\S+", passage.text)):
            raise AssertionError(f"{answer} words is the answer for another passage")

    async with batcher:
        await asyncio.gather(*map(produce, passages))
    return batches


def parts_of(batch: list[int]) -> list[list[int]]:
    """Split a batch, longest first, into parts that fit the budget with their padding."""
    parts: list[list[int]] = []
    for tokens in sorted(batch, reverse=True):
        if not parts or (len(parts[-1]) + 1) * parts[-1][0] > BUDGET:
            parts.append([])
        parts[-1].append(tokens)
    return parts


def row(way: str, batches: list[list[int]]) -> str:
    """Describe the batches. The last one takes what is left: it has no part in mean and minimum."""
    full = [sum(batch) / BUDGET for batch in batches]
    padded = [len(batch) * max(batch) for batch in batches]
    padding = 1 - sum(map(sum, batches)) / sum(padded)
    return (
        f"{way:<24}{len(batches):>8,}{mean(full[:-1]):>8.1%}{min(full[:-1]):>8.1%}"
        f"{max(full):>8.1%}{padding:>9.1%}{max(padded):>16,}"
    )


async def main() -> None:
    """Print a row for each way to limit a batch."""
    passages = gather_passages()
    lengths = [passage.tokens for passage in passages]
    by_length = sorted(passages, key=Passage.estimate_tokens, reverse=True)
    alike = round(BUDGET / mean(lengths))  # as many tokens as the budget, on average
    safe = BUDGET // max(lengths)  # never more than the budget, padding included

    print(f"{len(passages):,} passages, {sum(lengths):,} tokens: {mean(lengths):.0f} on average,")
    print(f"{max(lengths):,} in the longest. The budget is {BUDGET:,} tokens.\n")
    print(f"{'':<32}{'tokens, share of budget':>24}{'':>9}{'largest':>16}")
    print(f"{'a batch is at most':<24}{'batches':>8}", end="")
    print(f"{'mean':>8}{'least':>8}{'most':>8}{'padding':>9}{'padded batch':>16}")
    batches = await batch_up(passages, NO_LIMIT, BUDGET)
    print(row("the budget", batches))
    print(row(f"{alike} passages", await batch_up(passages, alike, NO_LIMIT)))
    print(row(f"{safe} passages", await batch_up(passages, safe, NO_LIMIT)))
    print(row("the budget, in parts", [part for batch in batches for part in parts_of(batch)]))
    print(row("the budget, sorted", await batch_up(by_length, NO_LIMIT, BUDGET)))


if __name__ == "__main__":
    asyncio.run(main())
