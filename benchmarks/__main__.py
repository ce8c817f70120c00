"""All questions in one run: numbers as JSON, a plot of each, and a table of the targets.

``make bench`` runs it with five rounds of everything, ``make bench-quick`` with less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import harness

RESULTS = Path(__file__).parent / "results"
ROUNDS = {
    "closed_loop": 15,
    "burst": 9,
    "many": 5,
    "sync_batches": 5,
    "threads": 5,
    "dynamic": 3,
    "one_caller": 5,
    "window": 1,
    "busy_loop": 3,
    "late_binding": 3,
    "scale": 1,
    "memory": 3,
    "imports": 3,
    "pause": 3,
}
"""Every question, and how often it is asked: often where the ratios are close, for the speed of a
shared machine changes between two processes; once where a round repeats itself inside."""


def machine() -> dict[str, Any]:
    """What the numbers were taken on."""
    return {
        "python": sys.version.split()[0],
        "free-threaded": bool(getattr(sys, "_is_gil_enabled", lambda: True)() is False),
        "system": platform.platform(terse=True),
        "cpus": os.cpu_count(),
    }


def plot(name: str, answer: dict[str, Any], path: Path) -> None:
    """Draw the medians of a question, with the spread of its rounds."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    bars = [
        (
            f"{case}, {key}" if len(numbers) > 1 else case,
            sorted(row[case][key] for row in answer["rounds"]),
        )
        for case, numbers in answer["medians"].items()
        for key in numbers
    ]
    figure, axes = pyplot.subplots(figsize=(9, 1 + 0.36 * len(bars)), layout="constrained")
    for place, (label, values) in enumerate(bars):
        color = "#3b6ea5" if "ours" in label else "#b8b8b8"
        axes.barh(place, values[len(values) // 2], color=color)
        axes.plot([values[0], values[-1]], [place, place], color="black", linewidth=1)
    axes.set_yticks(range(len(bars)), [label for label, _ in bars], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(answer["unit"])
    axes.set_title(answer["question"], loc="left", fontsize=10)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def table(answers: dict[str, Any]) -> str:
    """The targets as a table of Markdown."""
    lines = ["| question | compared | target | median | spread | |", "|---|---|---|---|---|---|"]
    for name, answer in answers.items():
        for target in answer["targets"]:
            if target["value"] is None:
                continue
            spread = f"{target['least']:.3g} to {target['most']:.3g}"
            mark = "met" if target["is_met"] else "**missed**"
            lines.append(
                f"| {name} | {target['text']} | {target['wanted']} | {target['value']:.3g}"
                f" | {spread} | {mark} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Ask every question."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("questions", nargs="*", default=list(ROUNDS), help="some of them")
    parser.add_argument("--quick", action="store_true", help="one short round of each")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.quick:
        os.environ[harness.QUICK] = "1"
    options.results.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    answers = {}
    for name in options.questions:
        answers[name] = harness.ask(name, 1 if options.quick else ROUNDS[name])
        harness.show(name, answers[name])
        plot(name, answers[name], options.results / f"{name}.png")
    whole = {"machine": machine(), "answers": answers}
    (options.results / "results.json").write_text(json.dumps(whole, indent=1) + "\n")
    (options.results / "targets.md").write_text(table(answers) + "\n")
    missed = [t for a in answers.values() for t in a["targets"] if t.get("is_met") is False]
    print(f"\n{len(missed)} targets missed; {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
