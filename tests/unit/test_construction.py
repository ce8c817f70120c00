"""The constructor: what it takes, what it refuses in which words, and that it starts nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support import AsyncRecorder, SyncRecorder, both, counts_threads, os_threads, run

from async_batcher import AsyncBatcher

WRONG_SIZES: list[Any] = [0, -3, 2.5, "8", True, None, 2**63]
WRONG_TIMES: list[Any] = [float("nan"), float("inf"), -1, -0.5, 1e300, "1", None, True]
WRONG_CONCURRENCY: list[Any] = [0, -2, 1.5, "4", False, None, 2**63]
LIMITS: list[tuple[str, Any]] = [
    *(("max_batch_size", value) for value in WRONG_SIZES),
    *(("max_queue_size", value) for value in WRONG_SIZES),
    *(("max_batch_cost", value) for value in WRONG_SIZES),
    *(("max_queue_cost", value) for value in WRONG_SIZES),
    *(("max_queue_time", value) for value in WRONG_TIMES),
    *(("concurrency", value) for value in WRONG_CONCURRENCY),
]
DEFAULTS = {
    "max_batch_size": -1,
    "max_queue_time": 0.01,
    "concurrency": 1,
    "max_queue_size": -1,
    "max_batch_cost": -1,
    "max_queue_cost": -1,
}
GOOD: list[tuple[str, Any]] = [
    ("max_batch_size", 1),
    ("max_batch_size", 2**31),
    ("max_queue_time", 0),
    ("max_queue_time", 0.0002),
    ("max_queue_time", 1),
    ("max_queue_time", 2**31),
    ("concurrency", -1),
    ("concurrency", 7),
    ("max_queue_size", 1),
    ("max_queue_size", 10**6),
    ("max_batch_cost", 100),
    ("max_queue_cost", 10**12),
]


def natural(value: Any) -> tuple[type[Exception], ...]:
    """Return the errors a wrong `value` may give: by its type, or by what it says."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return (TypeError,)
    if value == 2**63 or isinstance(value, float):
        return (TypeError, ValueError, OverflowError)
    return (ValueError,)


@pytest.mark.parametrize(("name", "value"), LIMITS)
def test_wrong_limit_is_refused_by_name_and_value(name: str, value: Any) -> None:
    """Scenario 11. Trap 28."""
    with pytest.raises(natural(value)) as caught:
        AsyncRecorder(**{name: value})
    assert isinstance(caught.value, (TypeError, ValueError))
    assert name in str(caught.value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(("name", "value"), GOOD)
def test_sensible_limit_is_kept_as_given(name: str, value: Any) -> None:
    """Scenario 11."""
    assert getattr(AsyncRecorder(**{name: value}), name) == pytest.approx(value, rel=1e-6)


def test_limits_have_the_documented_defaults() -> None:
    """Scenario 11."""
    batcher = AsyncRecorder()
    assert {name: getattr(batcher, name) for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize("value", [3, "pool", object(), ThreadPoolExecutor])
def test_executor_that_is_none_is_refused(value: Any) -> None:
    """Scenario 11."""
    with pytest.raises(TypeError, match="executor"):
        SyncRecorder(executor=value)


@pytest.mark.parametrize("value", [3, "len", object()])
def test_cost_that_cannot_be_called_is_refused(value: Any) -> None:
    """Scenario 11."""
    with pytest.raises(TypeError, match="cost"):
        AsyncRecorder(cost=value)


@pytest.mark.parametrize("name", ["max_size", "timeout", "max_batch_sise"])
def test_unknown_keyword_is_refused(name: str) -> None:
    """Scenario 11. Trap 28."""
    with pytest.raises(TypeError, match=name):
        AsyncRecorder(**{name: 1})


def test_options_are_keywords_only() -> None:
    """Scenario 11."""

    class Plain(AsyncBatcher[int, int]):
        def process_batch(self, batch: list[int]) -> list[int]:
            return batch

    with pytest.raises(TypeError):
        Plain(8)  # type: ignore[misc]


@counts_threads
@pytest.mark.thread_unsafe(reason="counts the threads of the process")
def test_refused_arguments_start_no_thread() -> None:
    """Scenario 11."""
    before = os_threads()
    for name, value in LIMITS:
        with pytest.raises((TypeError, ValueError)):
            SyncRecorder(**{name: value})
    assert os_threads() <= before


@counts_threads
@pytest.mark.thread_unsafe(reason="counts the threads of the process")
@both
def test_construction_starts_no_thread(kind: type[AsyncRecorder]) -> None:
    """Scenario 29."""
    before = os_threads()
    batchers = [kind() for _ in range(10)]
    assert os_threads() <= before
    assert len(batchers) == 10


def test_class_without_process_batch_is_abstract() -> None:
    """Scenario 12."""

    class Nothing(AsyncBatcher[int, int]):
        pass

    with pytest.raises(TypeError, match="process_batch"):
        Nothing()


def test_the_base_class_itself_is_abstract() -> None:
    """Scenario 12."""
    with pytest.raises(TypeError, match="process_batch"):
        AsyncBatcher()


class Forgetful(AsyncBatcher[int, int]):
    def __init__(self) -> None:
        self.ready = False

    async def process_batch(self, batch: list[int]) -> list[int]:
        return batch


async def test_missing_super_init_is_named_on_process() -> None:
    """Scenario 12."""
    with pytest.raises(TypeError, match=r"super\(\)\.__init__"):
        await Forgetful().process(1)


@pytest.mark.parametrize("name", ["call", "submit"])
async def test_missing_super_init_is_named_by_coroutines(name: str) -> None:
    """Scenario 12."""
    with pytest.raises(TypeError, match=r"super\(\)\.__init__"):
        await getattr(Forgetful(), name)(1)


async def test_missing_super_init_is_named_by_process_many() -> None:
    """Scenario 12."""
    with pytest.raises(TypeError, match=r"super\(\)\.__init__"):
        await Forgetful().process_many([1])


@pytest.mark.parametrize(
    "use",
    [
        lambda batcher: batcher.stats,
        lambda batcher: batcher.flush(),
        lambda batcher: batcher.start(),
        lambda batcher: batcher.max_batch_size,
        lambda batcher: setattr(batcher, "concurrency", 2),
        lambda batcher: batcher.process_threadsafe(1).result(1),
    ],
    ids=["stats", "flush", "start", "limit", "setter", "process_threadsafe"],
)
def test_missing_super_init_is_named_by_everything_else(use: Any) -> None:
    """Scenario 12."""
    with pytest.raises(TypeError, match=r"super\(\)\.__init__"):
        use(Forgetful())


async def test_object_made_by_new_alone_is_refused_when_used() -> None:
    """Scenario 12."""
    with pytest.raises(TypeError, match=r"super\(\)\.__init__"):
        await AsyncRecorder.__new__(AsyncRecorder).process(1)


async def test_second_init_is_refused_and_the_batcher_lives_on() -> None:
    """Scenario 12."""
    async with AsyncRecorder() as batcher:
        pending = batcher.process(1)
        with pytest.raises(TypeError):
            AsyncBatcher.__init__(batcher)
        assert await pending == 1
        assert await batcher.process(2) == 2


def test_type_of_none_makes_no_batcher() -> None:
    """Scenario 12."""
    with pytest.raises(TypeError):
        type(AsyncRecorder())(None, None)


@pytest.mark.parametrize("old", ["batch_size", "sleep_time", "buffering_time"])
def test_old_keyword_works_with_a_warning(old: str) -> None:
    """Scenario 11."""
    with pytest.warns(DeprecationWarning, match=old):
        batcher = AsyncRecorder(**{old: 3})

    async def main() -> int:
        async with batcher:
            batcher.process(1).add_done_callback(lambda future: future.exception())
            last = batcher.process(2)
            batcher.flush()
            return await last

    assert run(main()) == 2


def test_batch_size_is_the_old_name_of_max_batch_size() -> None:
    """Scenario 11."""
    with pytest.warns(DeprecationWarning, match="max_batch_size"):
        assert AsyncRecorder(batch_size=5).max_batch_size == 5


@pytest.mark.parametrize("value", [0, "8", True])
def test_old_keyword_is_checked_like_the_new(value: Any) -> None:
    """Scenario 11."""
    with (
        pytest.warns(DeprecationWarning, match="batch_size"),
        pytest.raises((TypeError, ValueError)),
    ):
        AsyncRecorder(batch_size=value)


def test_old_import_path_gives_the_same_class() -> None:
    """Scenario 11."""
    from async_batcher import batcher

    assert batcher.AsyncBatcher is AsyncBatcher


def test_class_takes_its_type_parameters() -> None:
    """Scenario 12."""
    assert AsyncBatcher[int, str] is not None


@pytest.mark.parametrize("name", ["_drain", "_check", "_limits", "_submit"])
def test_subclass_that_takes_a_name_of_ours_is_refused_and_names_it(name: str) -> None:
    mixin = type("Mixin", (), {name: None})
    for bases in [(AsyncRecorder,), (mixin, AsyncRecorder)]:
        with pytest.raises(TypeError, match=f"Other cannot have '{name}'"):
            type("Other", bases, {name: None} if len(bases) == 1 else {})


async def test_subclass_keeps_what_it_likes_in_attributes_of_its_own() -> None:
    async with AsyncRecorder(max_queue_time=0) as batcher:
        for name in ("_cost", "_executor", "_runners", "_make_stats", "_batch"):
            setattr(batcher, name, "mine")
        batcher.max_batch_cost = 3
        assert await batcher.process(1) == 1
        assert (batcher.cost, batcher.executor, batcher.stats.completed) == (None, None, 1)
