"""How every question is measured: subjects in turn, each round in a process of its own.

A module with a question has CASES (a function for each subject, which measures once and returns
its numbers) and TARGETS (ratios of two of those numbers). Every round runs all cases once, one
after another, so that what disturbs the machine disturbs them alike; a target is judged by the
median of the ratios of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

Numbers = dict[str, float]
Measure = Callable[[], Numbers]

QUICK = "AB_BENCH_QUICK"
NOT_INSTALLED = 3
CASE_LIMIT_S = 120


@dataclass(frozen=True)
class Target:
    """A number of one case over that of another, or alone, and what it must be.

    Attributes:
        text: What is compared.
        over: ``case.number`` above the line.
        under: ``case.number`` below it; empty: nothing.
        at_least: The least it may be; None: there is none.
        at_most: The most it may be.
    """

    text: str
    over: str
    under: str = ""
    at_least: float | None = None
    at_most: float | None = None

    def value(self, numbers: dict[str, Numbers]) -> float | None:
        """Return the ratio of one round, or None if a case is not there."""
        values = []
        for path in filter(None, (self.over, self.under)):
            case, _, name = path.rpartition(".")
            if name not in numbers.get(case, {}):
                return None
            values.append(numbers[case][name])
        return float(values[0] / values[1] if len(values) == 2 else values[0])

    def is_met(self, value: float) -> bool:
        """Judge a median."""
        return (self.at_least is None or value >= self.at_least) and (
            self.at_most is None or value <= self.at_most
        )

    @property
    def wanted(self) -> str:
        """The target in words."""
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"


def quick() -> bool:
    """Whether a short run is wanted."""
    return bool(os.environ.get(QUICK))


def scaled(count: int) -> int:
    """How many of something to use: fewer in a short run."""
    return max(1, count // 5) if quick() else count


def run(main: Coroutine[Any, Any, T], loop: str = "asyncio") -> T:
    """Run a measurement on the named kind of loop."""
    if loop == "uvloop":
        import uvloop

        new: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    else:
        new = asyncio.new_event_loop()
    try:
        return new.run_until_complete(main)
    finally:
        new.close()


def measure_in_child(name: str, case: str, python: str) -> Numbers | None:
    """Measure one case once in a process of its own; None if it is not installed."""
    done = subprocess.run(
        [python, "-m", f"benchmarks.{name}", "--case", case],
        capture_output=True,
        text=True,
        timeout=CASE_LIMIT_S,
        check=False,
    )
    if done.returncode == NOT_INSTALLED:
        return None
    if done.returncode != 0:
        raise RuntimeError(f"{name}, {case}: {done.stderr or done.stdout}")
    numbers: Numbers = json.loads(done.stdout.splitlines()[-1])
    return numbers


def ask(name: str, rounds: int, python: str = sys.executable) -> dict[str, Any]:
    """Measure all cases of a question in turn; return rounds, medians and judged targets."""
    module = importlib.import_module(f"benchmarks.{name}")
    cases = list(module.CASES)
    taken: list[dict[str, Numbers]] = []
    for number in range(rounds):
        row: dict[str, Numbers] = {}
        for case in list(cases):
            numbers = measure_in_child(name, case, python)
            if numbers is None:
                cases.remove(case)
            else:
                row[case] = numbers
        taken.append(row)
        print(f"  {name}: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return {
        "question": (module.__doc__ or name).splitlines()[0],
        "unit": module.UNIT,
        "rounds": taken,
        "medians": {case: medians([row[case] for row in taken]) for case in cases},
        "targets": [judge(target, taken) for target in module.TARGETS],
    }


def medians(rows: list[Numbers]) -> Numbers:
    """Return the median of each number."""
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def judge(target: Target, rounds: list[dict[str, Numbers]]) -> dict[str, Any]:
    """Compare the median over the rounds with the target."""
    values = [value for row in rounds if (value := target.value(row)) is not None]
    verdict: dict[str, Any] = {"text": target.text, "wanted": target.wanted, "value": None}
    if values:
        median = statistics.median(values)
        verdict.update(
            value=median, least=min(values), most=max(values), is_met=target.is_met(median)
        )
    return verdict


def show(name: str, answer: dict[str, Any]) -> None:
    """Print medians and targets."""
    print(f"\n{answer['question']}  ({answer['unit']}; python -m benchmarks.{name})")
    for case, numbers in answer["medians"].items():
        line = "  ".join(f"{key} {value:,.4g}" for key, value in numbers.items())
        print(f"    {case:28} {line}")
    for target in answer["targets"]:
        if target["value"] is None:
            print(f"    -  {target['text']}: not installed")
            continue
        mark = "ok" if target["is_met"] else "NO"
        print(
            f"    {mark} {target['text']}: {target['value']:.3g} wanted {target['wanted']}"
            f" ({target['least']:.3g} to {target['most']:.3g})"
        )


def main(name: str, module: Any) -> None:
    """The command line of a question."""
    parser = argparse.ArgumentParser(description=module.__doc__)
    parser.add_argument("--case", choices=[*module.CASES], help="measure one case, here, once")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python", default=sys.executable, help="the interpreter to measure")
    options = parser.parse_args()
    if options.case is None:
        show(name, ask(name, options.rounds, options.python))
        return
    try:
        numbers = module.CASES[options.case]()
    except ImportError as error:
        print(error, file=sys.stderr)
        sys.exit(NOT_INSTALLED)
    print(json.dumps(numbers))
