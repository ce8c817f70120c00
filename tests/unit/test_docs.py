"""The documentation: its examples run, what it names exists, and nothing public is without it."""

from __future__ import annotations

import ast
import asyncio
import doctest
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import PASSED, SKIPPED

import async_batcher
from async_batcher import AsyncBatcher

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TEST = re.compile(r"`(test_\w+)`")
LAST = {"Scenario": 99, "Trap": 52}
ROW = re.compile(r"^\| (\d+) \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)
TOOL = re.compile(r"`(?:AB_\w+=\w+ )?(?:make (\w+)[^`]*|(tests/[\w/.]+)|\.ci/run (\w+))`")


class Doubler(AsyncBatcher[int, int]):
    """What the examples of methods use."""

    async def process_batch(self, batch: list[int]) -> list[int]:
        return [2 * number for number in batch]


def public() -> dict[str, Any]:
    """Every public name, and every public attribute that a class of ours defines, by its path."""
    found: dict[str, Any] = {}
    for name in async_batcher.__all__:
        thing = found[name] = getattr(async_batcher, name)
        for base in inspect.getmro(thing) if inspect.isclass(thing) else ():
            if base.__module__.startswith("async_batcher"):
                for member in vars(base):
                    if not member.startswith("_"):
                        found.setdefault(f"{name}.{member}", inspect.getattr_static(thing, member))
    return found


def is_documented_by_type(thing: Any) -> bool:
    """Fields of a dataclass are described in the docstring of their class."""
    return not (callable(thing) or isinstance(thing, property))


PUBLIC = {name: thing for name, thing in public().items() if not is_documented_by_type(thing)}
CALLED = sorted(name for name, thing in PUBLIC.items() if inspect.isroutine(thing))


def blocks(path: Path) -> list[Any]:
    """The Python blocks of a page, each padded so that its errors name the page's lines."""
    text = path.read_text(encoding="utf-8")
    found = []
    for match in PYTHON.finditer(text):
        line = text.count("\n", 0, match.start(1))
        name = f"{path.relative_to(ROOT)}:{line}"
        found.append(pytest.param("\n" * line + match[1], id=name))
    return found


def links(path: Path) -> list[str]:
    """The relative links of a page, images too."""
    text = FENCED.sub("", path.read_text(encoding="utf-8"))
    targets = (target.partition("#")[0] for target in LINK.findall(text))
    return [target for target in targets if target and ":" not in target]


def by_path(paths: list[Path]) -> pytest.MarkDecorator:
    """Run the test for each of `paths`."""
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(ROOT)))


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_name_has_a_docstring(name: str) -> None:
    assert inspect.getdoc(PUBLIC[name])


@pytest.mark.parametrize("name", ["AsyncBatcher", *CALLED])
def test_what_is_called_has_an_example(name: str) -> None:
    """Exceptions and statistics are not made by users; they need none."""
    text = inspect.getdoc(PUBLIC[name]) or ""
    assert "Example:" in text
    assert ">>>" in text


@pytest.mark.thread_unsafe(reason="doctest catches the output of the process")
@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_examples_of_a_docstring_run(name: str) -> None:
    names = {**vars(async_batcher), "asyncio": asyncio, "Doubler": Doubler}
    text = inspect.getdoc(PUBLIC[name]) or ""
    example = doctest.DocTestParser().get_doctest(text, names, name, None, 0)
    told: list[str] = []
    doctest.DocTestRunner(verbose=False).run(example, out=told.append)
    assert not told, "".join(told)


@pytest.mark.parametrize("source", [block for path in GUIDES for block in blocks(path)])
def test_example_of_a_page_runs(source: str, tmp_path: Path) -> None:
    """In a file of its own, for a process pool imports it."""
    path = tmp_path / "example.py"
    path.write_text(source, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_in_the_api_page() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    names = {name.rpartition(".")[2] for name in public()}
    assert sorted(name for name in names if name not in text) == []


def guarantees(section: str = "") -> str:
    """The page of guarantees, or the rest of it from one of its sections on."""
    text = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    return text.partition(f"## {section} by")[2].partition("\n## ")[0] if section else text


def names_of_tests() -> dict[str, str]:
    """The docstring of every test, by its name; those of tests that share a name are joined."""
    found: dict[str, str] = {}
    for path in (ROOT / "tests").glob("*/test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            if is_function and node.name.startswith("test_"):
                found[node.name] = found.get(node.name, "") + (ast.get_docstring(node) or "")
    return found


def test_every_test_that_a_guarantee_names_exists() -> None:
    named = set(TEST.findall(guarantees()))
    assert named
    assert sorted(named - names_of_tests().keys()) == []


@pytest.mark.last
@pytest.mark.thread_unsafe(reason="judges the session once")
def test_every_test_that_a_guarantee_names_runs(request: pytest.FixtureRequest) -> None:
    """Skipped with a reason will do here; `AB_RAN_IN` has what passed in sessions elsewhere."""
    config = request.config
    ran = config.stash.get(PASSED, set()) | config.stash.get(SKIPPED, set())
    folder = os.environ.get("AB_RAN_IN")
    if folder is not None:
        ran = {name for path in Path(folder).iterdir() for name in path.read_text().split()}
    elif config.args_source is not pytest.Config.ArgsSource.TESTPATHS or config.option.keyword:
        pytest.skip("this is a part of the suite")
    assert ran
    assert sorted(set(TEST.findall(guarantees())) - ran - {request.node.originalname}) == []


def test_every_tool_that_a_guarantee_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    missing = []
    stages = set(re.findall(r'^    "(\w+)"\) ', (ROOT / ".ci" / "run").read_text(), re.MULTILINE))
    for target, path, stage in TOOL.findall(guarantees()):
        is_there = target in targets or stage in stages or (path and (ROOT / path).exists())
        if not is_there:
            missing.append(target or path or stage)
    assert missing == []


@pytest.mark.parametrize("word", list(LAST))
def test_every_scenario_is_mapped(word: str) -> None:
    rows = dict(ROW.findall(guarantees(word)))
    assert [int(number) for number in rows] == list(range(1, LAST[word] + 1))
    unsaid = [n for n, cell in rows.items() if not (re.search("`[^`]+`|not offered", cell))]
    assert unsaid == []


@pytest.mark.parametrize("word", list(LAST))
def test_every_test_on_the_map_says_which_scenario_it_shows(word: str) -> None:
    docstrings = names_of_tests()
    silent = [
        (number, name)
        for number, cell in ROW.findall(guarantees(word))
        for name in TEST.findall(cell)
        if not re.search(rf"\b{word} {number}\.", docstrings.get(name, ""))
    ]
    assert silent == []


@by_path(PAGES)
def test_every_relative_link_leads_to_a_file(path: Path) -> None:
    assert [target for target in links(path) if not (path.parent / target).exists()] == []


def test_every_source_file_is_on_the_map() -> None:
    text = (ROOT / "docs" / "design" / "README.md").read_text(encoding="utf-8")
    sources = [*(ROOT / "src").glob("*/*.[ch]"), *(ROOT / "async_batcher").glob("*.py*")]
    named = set(re.findall(r"[\w.{},]+", text))
    unfolded = {stem + end for each in named for stem, end in unfold(each)}
    assert sorted({path.name for path in sources} - unfolded) == []


def unfold(name: str) -> list[tuple[str, str]]:
    """`queue.{h,c}` is queue.h and queue.c."""
    stem, brace, ends = name.partition("{")
    return [(stem, end) for end in ends.partition("}")[0].split(",")] if brace else [(name, "")]
