"""Results that are tables: rows go to the items by position, whatever the labels are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from support import LONG, Recorder, both, finished

if TYPE_CHECKING:
    from collections.abc import Sequence


class Series:
    """Indexed by label, as that of pandas is."""

    def __init__(self, labels: Sequence[Any], values: Sequence[Any]) -> None:
        self.rows = dict(zip(labels, values, strict=True))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, label: Any) -> Any:
        return self.rows[label]

    def to_numpy(self) -> np.ndarray[Any, Any]:
        """Return the values in the order of the rows."""
        return np.array(list(self.rows.values()))


@both
async def test_rows_of_a_shuffled_series_go_by_position(kind: type[Recorder]) -> None:
    """Scenario 4. Trap 12."""

    def function(batch: list[int]) -> Series:
        return Series([2, 0, 1], batch)

    async with kind(function, max_batch_size=3, max_queue_time=LONG) as batcher:
        assert await finished(*map(batcher.process, [10, 11, 12])) == [10, 11, 12]


@both
async def test_rows_of_a_table_without_numeric_labels_go_by_position(
    kind: type[Recorder],
) -> None:
    """Scenario 4. Trap 12."""

    def function(batch: list[int]) -> Series:
        return Series("abc", [[item, -item] for item in batch])

    async with kind(function, max_batch_size=3, max_queue_time=LONG) as batcher:
        rows = await finished(*map(batcher.process, [10, 11, 12]))
        assert [list(row) for row in rows] == [[10, -10], [11, -11], [12, -12]]
