"""What a run has to say: a table, a sentence, a plot and a JSON file."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from rich import box
from rich.table import Table

from benchmarks.demo.search import highest_held

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.demo.load import Step
    from benchmarks.demo.model import Trained

ENDPOINTS = ("plain", "batched")
PACKAGES = ("async-batcher", "fastapi", "scikit-learn", "uvicorn")


def table(steps: list[Step], limit_ms: float) -> Table:
    """One row a rate, the endpoints side by side; a p95 over the limit is red."""
    result = Table(
        title=f"Open loop; latency in ms from the due time; limit {limit_ms:.0f} ms",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    result.add_column("rate\n/s", justify="right", no_wrap=True)
    for name in ENDPOINTS:
        for column in (f"{name}\nserved", "\np50", "\np95", "\np99", "\nerr"):
            result.add_column(column, justify="right", no_wrap=True)
    by_rate = {(step.rate, step.endpoint): step for step in steps}
    for rate in sorted({step.rate for step in steps}):
        cells: list[str] = []
        for name in ENDPOINTS:
            cells += _cells(by_rate.get((rate, name)), limit_ms)
        result.add_row(f"{rate:.0f}", *cells)
    return result


def _cells(step: Step | None, limit_ms: float) -> list[str]:
    if step is None:
        return [""] * 5
    colour = "green" if step.holds(limit_ms) else "red"
    return [
        f"{step.served_per_s:.0f}",
        f"{step.p50_ms:.0f}",
        f"[{colour}]{step.p95_ms:.0f}[/]",
        f"{step.p99_ms:.0f}",
        str(step.errors + step.wrong),
    ]


def generator_line(steps: list[Step], limit_ms: float) -> str:
    """Whether the generator kept up at the rates that held."""
    held = [step for step in steps if step.holds(limit_ms)]
    cpu = max((step.generator_cpu for step in held), default=0.0)
    lag_ms = max((step.send_lag_p99_ms for step in held), default=0.0)
    return (
        f"The load generator used at most {cpu:.0%} of a core and sent at most {lag_ms:.0f} ms "
        f"late (p99) at the rates that held; {sum(step.sent for step in steps)} answers checked, "
        f"{sum(step.wrong for step in steps)} wrong."
    )


def sentence(steps: list[Step], limit_ms: float) -> str:
    """The highest rate of each endpoint, and the ratio."""
    plain, batched = (_held(steps, name, limit_ms) for name in ENDPOINTS)
    ratio = f"{batched / plain:.0f} times as much" if plain else "the plain one none at all"
    return (
        f"With p95 under {limit_ms:.0f} ms, /plain holds {plain:.0f} requests a second and "
        f"/batched holds {batched:.0f}: {ratio}."
    )


def save(folder: Path, trained: Trained, steps: list[Step], limit_ms: float) -> list[Path]:
    """Write the plot and the JSON file, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "demo.png", folder / "demo.json"]
    _plot(steps, limit_ms, paths[0])
    text = json.dumps(_record(trained, steps, limit_ms), indent=2)
    paths[1].write_text(text + "\n", encoding="utf-8")
    return paths


def _held(steps: list[Step], endpoint: str, limit_ms: float) -> float:
    return highest_held([step for step in steps if step.endpoint == endpoint], limit_ms)


def _record(trained: Trained, steps: list[Step], limit_ms: float) -> dict[str, Any]:
    plain, batched = (_held(steps, name, limit_ms) for name in ENDPOINTS)
    return {
        "limit_ms": limit_ms,
        "highest_rate": {"plain": plain, "batched": batched},
        "ratio": batched / plain if plain else None,
        "model": {
            "trees": trained.trees,
            "one_row_ms": trained.one_row_ms,
            "hundred_rows_ms": trained.hundred_rows_ms,
        },
        "machine": {
            "system": platform.platform(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "packages": {name: version(name) for name in PACKAGES},
        },
        "steps": [asdict(step) for step in steps],
    }


def _plot(steps: list[Step], limit_ms: float, path: Path) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5))
    for name, colour in zip(ENDPOINTS, ("tab:red", "tab:blue"), strict=True):
        mine = sorted((step for step in steps if step.endpoint == name), key=lambda s: s.rate)
        rates = [step.rate for step in mine]
        p50s, p95s = [step.p50_ms for step in mine], [step.p95_ms for step in mine]
        axes.plot(rates, p95s, "o-", color=colour, label=f"/{name} p95")
        axes.plot(rates, p50s, ":", color=colour, alpha=0.7, label=f"/{name} p50")
    axes.axhline(limit_ms, color="gray", linestyle="--", label=f"{limit_ms:.0f} ms")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="requests a second (open loop, Poisson)",
        ylabel="latency from the due time, ms",
        title="One model, asked row by row: plain and batched",
    )
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
