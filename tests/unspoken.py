"""What no log and no exception of ours may quote, and the demand that it does not."""

from __future__ import annotations

from typing import Any

ITEM = "item-nobody-may-read"
RESULT = "result-nobody-may-read"
TEXT = "text-of-the-error"


def assert_silent(text: str) -> None:
    """Demand that `text` is there and tells nothing of what is the user's."""
    assert text
    assert [secret for secret in (ITEM, RESULT, TEXT) if secret in text] == []


class Uncopied(Exception):
    """Cannot be built again, and says so by quoting itself."""

    is_there = False

    def __new__(cls, *arguments: Any) -> Uncopied:
        if cls.is_there:
            raise TypeError(f"cannot copy {arguments}")
        return super().__new__(cls, *arguments)

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot copy {self}")
