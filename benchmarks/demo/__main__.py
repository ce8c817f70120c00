"""Trains the model, serves it, loads both endpoints and reports. This process makes the load."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.demo import report
from benchmarks.demo.load import LoadGenerator, Step
from benchmarks.demo.model import Trained, train
from benchmarks.demo.search import climb
from benchmarks.demo.server import running_server

if TYPE_CHECKING:
    from collections.abc import Coroutine

TIME_LIMIT_S = 300.0


def main() -> int:
    """Run the demo; the exit status is 1 when an answer was wrong or time ran out."""
    arguments = parse_arguments()
    console = Console()
    steps: list[Step] = []
    is_complete = True
    try:
        trained = train()
        console.print(
            f"A forest of {trained.trees} trees: {trained.one_row_ms:.1f} ms for one row, "
            f"{trained.hundred_rows_ms:.1f} ms for a hundred."
        )
        with running_server(trained.model) as address:
            run(measure_all(address, trained, arguments, console, steps))
    except KeyboardInterrupt:
        console.print("Interrupted.")
        return 130
    except asyncio.TimeoutError:
        console.print(f"[red]Not done within {TIME_LIMIT_S:.0f} s; this is what there is.[/]")
        is_complete = False
    paths = report.save(arguments.out, trained, steps, arguments.limit_ms)
    console.print(report.table(steps, arguments.limit_ms))
    console.print(report.generator_line(steps, arguments.limit_ms))
    console.print(f"Plot and figures: {', '.join(map(str, paths))}")
    console.print(f"[bold]{report.sentence(steps, arguments.limit_ms)}[/]")
    return 0 if is_complete and not any(step.wrong for step in steps) else 1


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="length of one step")
    parser.add_argument("--limit-ms", type=float, default=300.0, help="what p95 must stay under")
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="where files go")
    return parser.parse_args()


async def measure_all(
    address: tuple[str, int],
    trained: Trained,
    arguments: argparse.Namespace,
    console: Console,
    steps: list[Step],
) -> None:
    """Climb with one endpoint, then with the other; finished steps are added to ``steps``."""
    generator = LoadGenerator(address, trained)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rate]:5.0f}/s"),
        TimeElapsedColumn(),
        console=console,
        refresh_per_second=4,
    )

    async def climb_with(endpoint: str) -> None:
        bar = progress.add_task(f"{endpoint:8}", total=1.0, rate=0.0)

        def on_progress(share: float) -> None:
            progress.update(bar, completed=share)

        async def measure(rate: float) -> Step:
            progress.update(bar, completed=0.0, rate=rate)
            step = await generator.measure(endpoint, rate, arguments.seconds, on_progress)
            steps.append(step)
            progress.print(describe(step))
            return step

        await climb(measure, arguments.limit_ms)

    async def climb_with_all() -> None:
        for endpoint in report.ENDPOINTS:
            await climb_with(endpoint)

    try:
        await generator.wait_until_up()
        with progress:
            await asyncio.wait_for(climb_with_all(), TIME_LIMIT_S)
    finally:
        await generator.close()


def describe(step: Step) -> str:
    """One line on a finished step."""
    return (
        f"{step.endpoint:8} {step.rate:6.0f}/s: served {step.served_per_s:6.0f}/s, "
        f"p95 {step.p95_ms:5.0f} ms, {step.errors} errors"
    )


def run(work: Coroutine[object, object, None]) -> None:
    """Run on the fastest loop there is: the generator shares the machine with the service."""
    if sys.platform == "win32":
        asyncio.run(work)
    else:
        import uvloop

        uvloop.run(work)


if __name__ == "__main__":
    sys.exit(main())
