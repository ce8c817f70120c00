"""What is a record of a DynamicBatcher, what it may offer, and what is called with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

RecordT = TypeVar("RecordT")
ResultT = TypeVar("ResultT")

ProcessFn = Callable[[list[RecordT]], Awaitable[Sequence[ResultT]] | Sequence[ResultT]]
"""A coroutine function, or a plain one, of a list of records."""
InferenceFn = ProcessFn[RecordT, ResultT]
"""The same, where it is a model that is asked."""
CostEstimatorFn = Callable[[RecordT], int]
"""A function that gives the cost of a record."""
TokenEstimatorFn = CostEstimatorFn[RecordT]
"""A function that gives the number of tokens of a record."""


@runtime_checkable
class CostEstimator(Protocol):
    """A record that knows what it costs.

    Example:
        >>> class Query:
        ...     def estimate_cost(self) -> int:
        ...         return 3
        >>> isinstance(Query(), CostEstimator)
        True
    """

    def estimate_cost(self) -> int:
        """Give the cost, an int from 0 to 2**63-1.

        Example:
            >>> class Query:
            ...     def estimate_cost(self) -> int:
            ...         return 3
            >>> Query().estimate_cost()
            3
        """
        ...


@runtime_checkable
class TokenEstimator(Protocol):
    """A record that knows how many tokens it has.

    Example:
        >>> isinstance(Prompt("Why?"), TokenEstimator)
        True
    """

    def estimate_tokens(self) -> int:
        """Give the number of tokens, an int from 0 to 2**63-1.

        Example:
            >>> Prompt("Why?").estimate_tokens()
            2
        """
        ...


@dataclass
class Prompt:
    """A text for a language model.

    Attributes:
        text: What is asked.
    """

    text: str

    def estimate_tokens(self) -> int:
        """Guess the number of tokens: one for four characters, and one more.

        Returns:
            ``len(text) // 4 + 1``.

        Example:
            >>> Prompt("What is 2+2?").estimate_tokens()
            4
        """
        return len(self.text) // 4 + 1
