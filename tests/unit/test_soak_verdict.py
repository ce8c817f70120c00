"""The verdict of the soak: what grows, slows down or gets lost is told, what is flat is not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.soak_account import Account, judge

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTES = 30
END_S = 60.0 * MINUTES
FLAT: dict[str, float] = {"threads": 12, "fds": 40, "rss_mb": 80, "p99_ms": 5}


def account_of(**figures: Callable[[float], float]) -> Account:
    """Return a soak of half an hour whose figures are flat but for those of `figures`."""
    account = Account(submitted=1000)
    account.outcomes.update(answered=900, failed=20, cancelled=80)
    for second in range(int(END_S)):
        share = second / END_S
        sample = {
            name: figures.get(name, lambda _, flat=flat: flat)(share) for name, flat in FLAT.items()
        }
        account.samples.append({"at": float(second), **sample})
    return account


def failures(account: Account) -> list[str]:
    """Return what the verdict has to say."""
    told: list[str] = judge(account, 0.0, END_S)["failures"]
    return told


def test_flat_soak_has_no_failures() -> None:
    """Scenario 85."""
    assert failures(account_of()) == []


def test_growth_of_the_warm_up_is_none() -> None:
    """Scenario 85."""
    growths: Any = {
        name: lambda share, flat=flat: flat if share > 0.2 else flat * 0.5
        for name, flat in FLAT.items()
        if name != "p99_ms"
    }
    assert failures(account_of(**growths)) == []


@pytest.mark.parametrize("name", ["threads", "fds"])
def test_one_more_at_the_end_is_told(name: str) -> None:
    """Scenario 85."""
    told = failures(account_of(**{name: lambda share: FLAT[name] + (share > 0.7)}))
    assert told == [f"{name}: {FLAT[name]:.0f} at most, then {FLAT[name] + 1:.0f}"]


@pytest.mark.parametrize("name", ["threads", "fds", "rss_mb"])
def test_steady_growth_is_told(name: str) -> None:
    """Scenario 85."""
    (told,) = failures(account_of(**{name: lambda share: FLAT[name] * (1 + share)}))
    assert told.startswith(f"{name}: ")


def test_memory_may_grow_by_a_seventh() -> None:
    """Scenario 85."""
    assert failures(account_of(rss_mb=lambda share: FLAT["rss_mb"] * (1 + share / 7))) == []


@pytest.mark.parametrize(("factor", "is_told"), [(1.1, False), (1.3, True), (0.5, False)])
def test_slower_answers_at_the_end_are_told(factor: float, is_told: bool) -> None:
    """Scenario 85."""
    told = failures(
        account_of(p99_ms=lambda share: FLAT["p99_ms"] * (factor if share > 0.9 else 1))
    )
    assert [each.partition(":")[0] for each in told] == ["p99"] * is_told


@pytest.mark.parametrize("change", [-1, 1])
def test_lost_or_doubled_item_is_told(change: int) -> None:
    """Scenario 85."""
    account = account_of()
    account.outcomes["answered"] += change
    (told,) = failures(account)
    assert told.startswith("1000 submitted, ")


def test_wrong_answers_are_told() -> None:
    """Scenario 85."""
    account = account_of()
    account.wrong += ["3: 7"]
    assert failures(account) == ["3: 7"]
