"""The model that is served: a random forest on scikit-learn's diabetes data.

Its cost is that of most models: high for a call, low for one row more.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor

ONE_ROW_MS = 12.0
"""What predicting one row should take; the number of trees is chosen for it."""


@dataclass(frozen=True)
class Trained:
    """A fitted model, the rows it is asked for and its own answers to them."""

    model: Any
    rows: list[list[float]]
    answers: list[float]
    trees: int
    one_row_ms: float
    hundred_rows_ms: float


def train() -> Trained:
    """Fit the forest with as many trees as make one row cost ``ONE_ROW_MS`` here."""
    features, target = load_diabetes(return_X_y=True)
    trial = 100
    forest = RandomForestRegressor(trial, n_jobs=1, random_state=0).fit(features, target)
    trees = max(1, round(trial * ONE_ROW_MS / _predict_ms(forest, features[:1])))
    forest = RandomForestRegressor(trees, n_jobs=1, random_state=0).fit(features, target)
    return Trained(
        model=forest,
        rows=features.tolist(),
        answers=forest.predict(features).tolist(),
        trees=trees,
        one_row_ms=_predict_ms(forest, features[:1]),
        hundred_rows_ms=_predict_ms(forest, features[:100]),
    )


def _predict_ms(forest: Any, rows: Any) -> float:
    """The median time of a call, in milliseconds."""
    times_ms = []
    for _ in range(15):
        start = time.perf_counter()
        forest.predict(rows)
        times_ms.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times_ms)
