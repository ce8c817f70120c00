"""Finds the highest rate that an endpoint holds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.demo.load import Step

FIRST_RATE = 20.0
FACTOR = 2.0
MAX_RATE = 20_480.0
REFINEMENTS = 3


async def climb(measure: Callable[[float], Awaitable[Step]], limit_ms: float) -> None:
    """Double the rate until the limit breaks, then halve the gap a few times.

    The gap is halved on a logarithmic scale: in the end the lowest rate that broke is above
    the highest that held by a factor of ``FACTOR ** (1 / 2**REFINEMENTS)``, about 1.09.
    """
    held, broken = 0.0, math.inf
    rate = FIRST_RATE
    while rate <= MAX_RATE and broken == math.inf:
        if (await measure(rate)).holds(limit_ms):
            held, rate = rate, rate * FACTOR
        else:
            broken = rate
    for _ in range(REFINEMENTS if held and broken < math.inf else 0):
        rate = float(round(math.sqrt(held * broken)))
        if (await measure(rate)).holds(limit_ms):
            held = rate
        else:
            broken = rate


def highest_held(steps: list[Step], limit_ms: float) -> float:
    """The highest rate that held below every one that did not; 0 if none did."""
    broken = min((step.rate for step in steps if not step.holds(limit_ms)), default=math.inf)
    return max((step.rate for step in steps if step.rate < broken), default=0.0)
