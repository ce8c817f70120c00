"""The examples of the documentation run, and print what the pages say of them."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
ROW = re.compile(r"^(\S.*?) +([\d,]+) +([\d.]+)% +([\d.]+)% +([\d.]+)% +([\d.]+)% +([\d,]+)$")


@dataclass(frozen=True)
class Row:
    """What is printed of one way to limit a batch; shares in percent."""

    batches: int
    mean: float
    least: float
    most: float
    padding: float
    largest_padded: int


def number(text: str) -> int:
    return int(text.replace(",", ""))


@pytest.fixture(scope="module")
def printed() -> str:
    done = subprocess.run(
        [sys.executable, str(DOCS / "examples" / "token_budget.py")],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def rows(printed: str) -> dict[str, Row]:
    """The rows by what limits a batch; "alike" and "safe" are the numbers of passages."""
    found = {}
    for match in filter(None, map(ROW.match, printed.splitlines())):
        shares = map(float, match.groups()[2:6])
        found[match[1]] = Row(number(match[2]), *shares, number(match[7]))
    names = ["the budget", "alike", "safe", "the budget, in parts", "the budget, sorted"]
    return dict(zip(names, found.values(), strict=True))


@pytest.fixture(scope="module")
def figures(printed: str) -> dict[str, int]:
    """What the first two lines say: passages, tokens, mean, longest, budget."""
    numbers = re.findall(r"[\d,]*\d", printed.partition("\n\n")[0])
    names = ["passages", "tokens", "mean", "longest", "budget"]
    return dict(zip(names, map(number, numbers), strict=True))


def test_no_batch_is_over_its_budget(rows: dict[str, Row]) -> None:
    assert rows["the budget"].most <= 100
    assert rows["the budget, sorted"].most <= 100


def test_batches_under_a_budget_lack_less_than_the_longest_passage(
    rows: dict[str, Row], figures: dict[str, int]
) -> None:
    most_lacking = 100 * figures["longest"] / figures["budget"]
    assert rows["the budget"].least > 100 - most_lacking
    assert rows["the budget"].mean > 95


def test_number_that_fills_the_budget_on_average_overruns_it(rows: dict[str, Row]) -> None:
    assert rows["alike"].most > 110
    assert rows["alike"].least < rows["the budget"].mean
    assert abs(rows["alike"].batches - rows["the budget"].batches) <= 2


def test_number_that_never_overruns_leaves_batches_almost_empty(
    rows: dict[str, Row], figures: dict[str, int]
) -> None:
    assert rows["safe"].largest_padded <= figures["budget"]
    assert rows["safe"].mean < 5
    assert rows["safe"].batches > 40 * rows["the budget"].batches


def test_budget_alone_saves_no_padding(rows: dict[str, Row], figures: dict[str, int]) -> None:
    assert abs(rows["the budget"].padding - rows["alike"].padding) < 2
    assert rows["the budget"].largest_padded > 10 * figures["budget"]


def test_order_saves_padding(rows: dict[str, Row], figures: dict[str, int]) -> None:
    assert rows["the budget, sorted"].padding < 20
    assert rows["the budget, sorted"].largest_padded < 2 * figures["budget"]
    assert rows["the budget, in parts"].padding < 65
    assert rows["the budget, in parts"].largest_padded <= figures["budget"]
    assert rows["the budget, in parts"].batches < 5 * rows["the budget"].batches


def test_page_shows_what_is_printed(printed: str) -> None:
    """But for the figures, which depend on the docstrings of the interpreter."""
    page = (DOCS / "choosing.md").read_text(encoding="utf-8")
    assert form_of(printed) in form_of(page)


def form_of(text: str) -> str:
    return re.sub(r"[\d,.%]*\d[\d,.%]*", "#", re.sub(" +", " ", text))
