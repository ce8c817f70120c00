"""TokenBatcher: the words of language models, and which of two words wins."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import pytest
from dynamics import busy, own, running
from support import LONG, finished, outcome

from async_batcher import CostEstimator, DynamicBatcher, Prompt, TokenBatcher, TokenEstimator

DEFAULTS: dict[str, Any] = {
    "inference_fn": None,
    "process_fn": None,
    "token_estimator": None,
    "cost_estimator": None,
    "target_batch_tokens": None,
    "target_batch_cost": 32_000,
    "default_token_estimate": None,
    "default_cost": 1,
    "max_batch_size": 256,
    "min_batch_size": 1,
    "batch_timeout_s": 0.05,
    "max_queue_size": 5_000,
    "prefetch_batches": 2,
}
WRONG_TOKENS: list[Any] = [-1, 1.5, float("nan"), "3", True, 2**63, 2**70]
WRONG: list[tuple[str, Any]] = [
    *(("target_batch_tokens", value) for value in (0, -2, 1.5, "8", True, 2**63)),
    *(("default_token_estimate", value) for value in (-1, 1.5, "8", True, 2**63)),
    *(("token_estimator", value) for value in (3, "len", object())),
    *(("cost_estimator", value) for value in (3, "len", object())),
    *(("target_batch_cost", value) for value in (0, 1.5)),
    *(("default_cost", value) for value in (-1, "8")),
    *(("min_batch_size", value) for value in (0, 257)),
    *(("max_queue_size", value) for value in (-2, 1.5)),
    *(("inference_fn", value) for value in (3, "list", object())),
    *(("process_fn", value) for value in (3, "list", object())),
]


async def echo(batch: list[Any]) -> list[Any]:
    return batch


@dataclass
class Both:
    """A record that knows its tokens and its cost."""

    tokens: Any
    cost: Any

    def estimate_tokens(self) -> Any:
        return self.tokens

    def estimate_cost(self) -> Any:
        return self.cost


class Costly:
    """A record that knows its cost alone."""

    def estimate_cost(self) -> int:
        return 6


async def tokens_of(batcher: Any, record: Any, **given: Any) -> int:
    """Return what `record` cost, by what `stats` counts."""
    before = batcher.stats.total_batch_cost
    await (await batcher.submit(record, **given))
    return int(batcher.stats.total_batch_cost - before)


def test_it_is_a_dynamic_batcher() -> None:
    assert isinstance(TokenBatcher(echo), DynamicBatcher)


def test_parameters_and_defaults_are_those_of_flyte() -> None:
    parameters = inspect.signature(TokenBatcher).parameters
    assert {name: parameter.default for name, parameter in parameters.items()} == DEFAULTS


def test_only_the_function_may_be_positional() -> None:
    with pytest.raises(TypeError):
        TokenBatcher(echo, echo)  # type: ignore[call-arg]


def test_without_a_function_it_says_what_it_requires() -> None:
    with pytest.raises(TypeError, match="requires either 'inference_fn' or 'process_fn'"):
        TokenBatcher()


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_wrong_argument_is_refused_by_name_and_value(name: str, value: Any) -> None:
    """Scenario 11. Trap 28."""
    functions = {} if name.endswith("_fn") else {"inference_fn": echo}
    options: dict[str, Any] = {**functions, name: value}
    with pytest.raises((TypeError, ValueError)) as caught:
        TokenBatcher(**options)
    assert str(caught.value).startswith(name)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("name", ["inference_fn", "process_fn"])
async def test_either_function_is_used(name: str) -> None:
    options: dict[str, Any] = {name: echo}
    async with TokenBatcher(**options, batch_timeout_s=0) as batcher:
        assert await (await batcher.submit(1)) == 1


async def test_inference_fn_wins() -> None:
    async def refuse(batch: list[Any]) -> list[Any]:
        raise AssertionError("process_fn was called")

    async with TokenBatcher(echo, process_fn=refuse, batch_timeout_s=0) as batcher:
        assert await (await batcher.submit(1)) == 1


async def test_tokens_of_the_call_win_over_its_cost() -> None:
    async with running(maker=TokenBatcher) as (batcher, _):
        assert await tokens_of(batcher, "x", estimated_tokens=3, estimated_cost=9) == 3


async def test_zero_tokens_of_the_call_win_as_well() -> None:
    """Trap 17."""
    async with running(maker=TokenBatcher) as (batcher, _):
        assert await tokens_of(batcher, "x", estimated_tokens=0, estimated_cost=9) == 0


async def test_cost_of_the_call_is_a_number_of_tokens() -> None:
    async with running(maker=TokenBatcher) as (batcher, _):
        assert await tokens_of(batcher, Prompt("why?"), estimated_cost=9) == 9


async def test_call_wins_over_the_estimator() -> None:
    async with running(maker=TokenBatcher, token_estimator=lambda record: 5) as (batcher, _):
        assert await tokens_of(batcher, "x", estimated_tokens=3) == 3


async def test_token_estimator_wins_over_the_cost_estimator() -> None:
    async with running(
        maker=TokenBatcher, token_estimator=lambda record: 3, cost_estimator=lambda record: 9
    ) as (batcher, _):
        assert await tokens_of(batcher, Prompt("why?")) == 3


async def test_cost_estimator_wins_over_the_record() -> None:
    async with running(maker=TokenBatcher, cost_estimator=lambda record: 9) as (batcher, _):
        assert await tokens_of(batcher, Both(tokens=2, cost=3)) == 9


async def test_tokens_of_the_record_win_over_its_cost() -> None:
    async with running(maker=TokenBatcher) as (batcher, _):
        assert await tokens_of(batcher, Both(tokens=2, cost=3)) == 2


async def test_cost_of_the_record_wins_over_the_default() -> None:
    async with running(maker=TokenBatcher, default_token_estimate=4) as (batcher, _):
        assert await tokens_of(batcher, Costly()) == 6


async def test_default_of_tokens_wins_over_that_of_cost() -> None:
    async with running(maker=TokenBatcher, default_token_estimate=0, default_cost=8) as (
        batcher,
        _,
    ):
        assert await tokens_of(batcher, "x") == 0


async def test_default_cost_is_a_number_of_tokens() -> None:
    async with running(maker=TokenBatcher, default_cost=8) as (batcher, _):
        assert await tokens_of(batcher, "x") == 8


async def test_dynamic_batcher_does_not_ask_for_tokens() -> None:
    async with running() as (batcher, _):
        assert await tokens_of(batcher, Both(tokens=2, cost=3)) == 3


async def test_target_of_tokens_wins_over_that_of_cost() -> None:
    """Trap 21."""
    async with running(
        maker=TokenBatcher, target_batch_tokens=4, target_batch_cost=100, batch_timeout_s=LONG
    ) as (batcher, work):
        records = [Prompt("12345678"), Prompt(""), Prompt("1234"), Prompt("1234")]
        assert await finished(*await batcher.submit_batch(records)) == records
        assert work.seen == [records[:2], records[2:]]


async def test_target_of_cost_is_a_number_of_tokens() -> None:
    """Trap 21."""
    async with running(maker=TokenBatcher, target_batch_cost=4, token_estimator=own) as (
        batcher,
        work,
    ):
        held = await busy(batcher, work)
        futures = await batcher.submit_batch([3, 2, 2])
        work.release()
        await finished(held, *futures)
        assert work.seen == [["held"], [3], [2, 2]]


@pytest.mark.parametrize("value", WRONG_TOKENS, ids=repr)
async def test_nonsense_is_refused_by_the_name_it_came_by(value: Any) -> None:
    """Trap 17. Scenario 14."""
    async with running(maker=TokenBatcher) as (batcher, work):
        for name, call in {
            "estimated_tokens": lambda: batcher.submit(1, estimated_tokens=value),
            "estimated_cost": lambda: batcher.submit(1, estimated_cost=value),
            "estimate_tokens": lambda: batcher.submit(Both(tokens=value, cost=1)),
        }.items():
            error = await outcome(call)
            assert isinstance(error, (TypeError, ValueError))
            assert str(error).startswith(name)
        assert (work.seen, batcher.stats.total_submitted) == ([], 0)


@pytest.mark.parametrize("name", ["token_estimator", "cost_estimator"])
async def test_nonsense_of_an_estimator_is_refused_by_its_name(name: str) -> None:
    """Trap 17. Scenario 14."""
    options: dict[str, Any] = {name: lambda record: -1}
    async with running(maker=TokenBatcher, **options) as (batcher, _):
        with pytest.raises(ValueError, match=name):
            await batcher.submit(1)


@pytest.mark.parametrize("call", ["submit", "start"])
async def test_errors_of_state_name_the_class_that_is_used(call: str) -> None:
    batcher: TokenBatcher[Any, Any] = TokenBatcher(echo)
    if call == "submit":
        with pytest.raises(RuntimeError, match="TokenBatcher is not running"):
            await batcher.submit(1)
    else:
        async with batcher:
            with pytest.raises(RuntimeError, match="TokenBatcher is already running"):
                await batcher.start()


# ---- Prompt and the protocols ----


@pytest.mark.parametrize(("text", "tokens"), [("", 1), ("abc", 1), ("abcd", 2), ("x" * 400, 101)])
def test_prompt_guesses_a_token_for_four_characters_and_one_more(text: str, tokens: int) -> None:
    assert Prompt(text).estimate_tokens() == tokens


def test_prompts_of_the_same_text_are_equal() -> None:
    assert Prompt(text="why?") == Prompt("why?") != Prompt("how?")


def test_prompt_is_a_token_estimator_and_no_cost_estimator() -> None:
    assert isinstance(Prompt(""), TokenEstimator)
    assert not isinstance(Prompt(""), CostEstimator)


def test_other_records_are_no_token_estimators() -> None:
    assert not isinstance("text", TokenEstimator)
    assert not isinstance(Costly(), TokenEstimator)
