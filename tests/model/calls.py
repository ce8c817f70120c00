"""What callers of the real batcher hold, beside the tickets that stand for it in the reference."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from support import told

from async_batcher import BatcherStoppedError, QueueFullException

if TYPE_CHECKING:
    from reference import Reference
    from tickets import Caller, Item, Ticket


class SpoiltError(Exception):
    """What process_batch raises, and what it puts in the place of a result."""


def answer(item: Item) -> tuple[str, int]:
    """The result of an item, which is no other's."""
    return "answer to", item.number


def name_of(outcome: Any) -> str:
    """What a caller was told, in the words of the reference."""
    names: dict[type[BaseException], str] = {
        SpoiltError: "error",
        QueueFullException: "full",
        BatcherStoppedError: "stopped",
        asyncio.CancelledError: "cancelled",
    }
    return names.get(type(outcome), repr(outcome)) if isinstance(outcome, BaseException) else ""


def compare_outcome(ticket: Ticket, outcome: Any) -> None:
    if ticket.told == "result":
        assert outcome == answer(ticket.item)
    else:
        assert name_of(outcome) == ticket.told


class Call(ABC):
    tickets: list[Ticket]

    @abstractmethod
    def compare(self) -> None:
        """Demand that the caller knows what the reference told it, and no more."""

    @abstractmethod
    def has_ended(self) -> bool:
        """Whether the caller has nothing left to wait for."""

    @abstractmethod
    def cancel(self, model: Reference) -> None:
        """Cancel what the caller waits for."""


@dataclass(eq=False)
class One(Call):
    """A future of one item."""

    tickets: list[Ticket]
    future: asyncio.Future[Any]

    def compare(self) -> None:
        assert self.future.done() == bool(self.tickets[0].told)
        if self.future.done():
            compare_outcome(self.tickets[0], told(self.future))

    def has_ended(self) -> bool:
        return self.future.done()

    def cancel(self, model: Reference) -> None:
        if self.future.cancel():
            model.cancel(self.tickets)


@dataclass(eq=False)
class Many(Call):
    """The one future of process_many()."""

    tickets: list[Ticket]
    future: asyncio.Future[Any]
    returns_exceptions: bool

    def compare(self) -> None:
        outcomes = {ticket.told for ticket in self.tickets}
        errors = outcomes - {"", "result"}
        fails_at_once = bool(errors) and not self.returns_exceptions
        is_over = fails_at_once or "cancelled" in errors or "" not in outcomes
        assert self.future.done() == is_over
        if is_over:
            self.compare_all(told(self.future), errors, fails_at_once)

    def compare_all(self, outcome: Any, errors: set[str], fails_at_once: bool) -> None:
        if isinstance(outcome, BaseException):
            assert name_of(outcome) in errors
            return
        assert not fails_at_once
        for ticket, row in zip(self.tickets, outcome, strict=True):
            compare_outcome(ticket, row)

    def has_ended(self) -> bool:
        return self.future.done()

    def cancel(self, model: Reference) -> None:
        if self.future.cancel():
            model.cancel(self.tickets)


@dataclass(eq=False)
class InTurn(Call):
    """A task that submits, waits for space where it is short, and gives one future or a list."""

    tickets: list[Ticket]
    task: asyncio.Task[Any]
    caller: Caller

    def ones(self) -> list[One]:
        """The futures it gave, each with its ticket."""
        if not self.task.done() or self.task.cancelled() or self.task.exception() is not None:
            return []
        given = self.task.result()
        futures = given if isinstance(given, list) else [given]
        return [One([t], future) for t, future in zip(self.tickets, futures, strict=True)]

    def compare(self) -> None:
        gave_up = bool(self.caller.left) and self.tickets[-1].told == "cancelled"
        assert self.task.done() == (not self.caller.left or self.caller.is_refused or gave_up)
        assert not self.caller.is_refused or isinstance(self.task.exception(), RuntimeError)
        assert self.task.cancelled() == gave_up
        for one in self.ones():
            one.compare()

    def has_ended(self) -> bool:
        return self.task.done() and all(one.has_ended() for one in self.ones())

    def cancel(self, model: Reference) -> None:
        if not self.task.done():
            self.task.cancel()
            model.withdraw(self.caller)
            model.cancel(self.tickets)
        for one in self.ones():
            one.cancel(model)
