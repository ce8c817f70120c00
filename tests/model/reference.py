"""What a batcher does, in the fewest words; `settle` is what a real one does in some iterations."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tickets import Caller, Item, Limits, Ticket, cost_of


@dataclass
class Reference:
    limits: Limits
    is_closing: bool = False
    now_ns: int = 0
    queue: list[Ticket] = field(default_factory=list)
    backlog: list[Caller] = field(default_factory=list)
    resumed: list[Caller] = field(default_factory=list)
    running: list[list[Ticket]] = field(default_factory=list)
    begun: list[list[Item]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    looks_soon: bool = False  # a watched one was cancelled

    def is_idle(self) -> bool:
        return not self.queue and not self.backlog and not self.running

    def assembled(self) -> list[list[Ticket]]:  # ahead of their turn, the one that grows last
        is_busy = len(self.running) >= self.limits.permits
        batches = self.limits.batches_of(self.queue)
        return batches[: self.limits.prefetch + 1] if is_busy and self.limits.prefetch else []

    def has_room(self, tickets: list[Ticket]) -> bool:
        inside = self.queue[sum(map(len, self.assembled())) :]
        has_size = len(inside) + len(tickets) <= self.limits.queue_size
        is_first = not inside and len(tickets) == 1
        return has_size and (is_first or cost_of(inside + tickets) <= self.limits.queue_cost)

    def accepts(self, tickets: list[Ticket]) -> bool:
        if self.backlog or not self.has_room(tickets):
            self.look()
        if self.backlog or not self.has_room(tickets):
            return False
        self.push(tickets)
        return True

    def push(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            ticket.since_ns = self.now_ns
        self.counts["submitted"] += len(tickets)
        self.queue += tickets

    def admit(self) -> None:
        while self.backlog and not self.is_closing and self.has_room(self.backlog[0].left[:1]):
            self.resumed.append(self.backlog.pop(0))
            self.push([self.resumed[-1].left.pop(0)])
        for ticket in self.queue if self.backlog else []:
            ticket.is_watched = True

    def tell(self, tickets: list[Ticket], told: str, counter: str) -> None:
        for ticket in tickets:
            self.counts["cancelled" if ticket.told else counter] += 1
            ticket.told = ticket.told or told

    def process(self, tickets: list[Ticket]) -> None:
        if self.is_closing or not self.accepts(tickets):
            self.tell(tickets, "stopped" if self.is_closing else "full", "rejected")

    def submit(self, caller: Caller) -> None:
        while caller.left and not self.is_closing and self.accepts(caller.left[:1]):
            del caller.left[0]
        if caller.left:
            self.backlog.append(caller)
            self.stop() if self.is_closing else self.admit()

    def withdraw(self, caller: Caller) -> None:
        self.backlog.remove(caller)
        self.admit()

    def cancel(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            ticket.told = ticket.told or "cancelled"
            self.looks_soon |= ticket.is_watched

    def look(self) -> None:  # and notice what was cancelled in the queue
        self.looks_soon = False
        self.tell([ticket for ticket in self.queue if ticket.told], "", "")
        self.queue = [ticket for ticket in self.queue if not ticket.told]
        self.admit()

    def flush(self) -> None:
        self.look()
        for ticket in self.queue:
            ticket.is_flushed = True

    def stop(self) -> None:
        self.look()
        self.is_closing = True
        for caller in self.backlog:
            caller.is_refused = True
        self.counts["rejected"] += len(self.backlog)
        self.backlog = []

    def end_all(self, told: str, counter: str) -> None:  # by force, or their loop is closed
        for tickets in [self.queue, *self.running]:
            self.tell(tickets, told, counter)
        self.queue, self.backlog, self.running = [], [], []

    def due(self) -> str:
        while self.queue and self.queue[0].told:
            self.tell([self.queue.pop(0)], "", "")
        if not self.queue or len(self.running) >= self.limits.permits:
            return ""
        reasons = {
            "full": len(self.queue) >= self.limits.batch_size,
            "cost": cost_of(self.queue) >= self.limits.batch_cost,
            "drain": self.is_closing,
            "flush": self.queue[0].is_flushed,
            "idle": self.limits.window_ns == 0,
            "window": self.now_ns - self.queue[0].since_ns >= self.limits.window_ns,
        }
        return next((reason for reason, holds in reasons.items() if holds), "")

    def cut(self, reason: str) -> None:
        batch: list[Ticket] = []
        while self.queue and self.limits.fits(batch, self.queue[0]):
            batch.append(self.queue.pop(0))
            if not self.queue or not self.limits.fits(batch, self.queue[0]):
                self.tell([ticket for ticket in batch if ticket.told], "", "")
                batch = [ticket for ticket in batch if not ticket.told]
        if batch:
            self.running.append(batch)
            self.begun.append([ticket.item for ticket in batch])
            self.counts.update([reason], batches=1, items=len(batch), total_cost=cost_of(batch))
        self.admit()

    def finish(self, batch: list[Ticket], spoiled: set[Item]) -> None:
        for ticket in batch:
            is_spoiled = ticket.item in spoiled
            self.tell([ticket], *(("error", "failed") if is_spoiled else ("result", "completed")))
        self.running.remove(batch)

    def settle(self) -> None:
        self.look() if self.looks_soon else None
        while (reason := self.due()) or self.resumed:
            if reason:
                self.cut(reason)
            else:
                resumed, self.resumed = self.resumed, []
                for caller in resumed:
                    self.submit(caller)
