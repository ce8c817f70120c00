"""What the machines and their reference speak of: items, tickets, callers, limits."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import NamedTuple

UNLIMITED = sys.maxsize


class Item(NamedTuple):
    """What is submitted; no two have the same number."""

    number: int
    cost: int


@dataclass(eq=False)
class Ticket:
    """One item on its way, and what its caller was told: nothing as long as it is pending."""

    item: Item
    told: str = ""  # result, error, full, stopped, cancelled
    since_ns: int = 0
    is_watched: bool = False  # a cancellation is noticed at once
    is_flushed: bool = False


@dataclass(eq=False)
class Caller:
    """One who submits its tickets in turn and waits for space where it is short."""

    left: list[Ticket]
    is_refused: bool = False


def cost_of(tickets: list[Ticket]) -> int:
    return sum(ticket.item.cost for ticket in tickets)


@dataclass
class Limits:
    batch_size: int = UNLIMITED
    batch_cost: int = UNLIMITED
    queue_size: int = UNLIMITED
    queue_cost: int = UNLIMITED
    permits: int = 1
    window_ns: int = 0
    prefetch: int = 0

    def fits(self, batch: list[Ticket], ticket: Ticket) -> bool:
        has_size = len(batch) < self.batch_size
        return not batch or (has_size and cost_of([*batch, ticket]) <= self.batch_cost)

    def batches_of(self, queue: list[Ticket]) -> list[list[Ticket]]:
        """Cut all of it, each batch as large as it may be."""
        batches: list[list[Ticket]] = []
        for ticket in queue:
            if not batches or not self.fits(batches[-1], ticket):
                batches.append([])
            batches[-1].append(ticket)
        return batches
