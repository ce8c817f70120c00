"""The extension is compiled and linked as distributions harden their libraries."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from support import IS_OTHER_BUILD

from async_batcher import _core

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the files are ELF on Linux"),
    pytest.mark.skipif(shutil.which("readelf") is None, reason="needs readelf"),
    pytest.mark.skipif(IS_OTHER_BUILD, reason="what is debugged is not optimised, nor hardened"),
]


def elf(*options: str) -> str:
    """Return what readelf says of the extension."""
    command = ["readelf", "--wide", *options, str(_core.__file__)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_addresses_of_functions_cannot_be_overwritten() -> None:
    assert "GNU_RELRO" in elf("--program-headers")
    assert "BIND_NOW" in elf("--dynamic")


def test_stack_cannot_be_executed() -> None:
    (stack,) = [line for line in elf("--program-headers").splitlines() if "GNU_STACK" in line]
    assert stack.split()[6] == "RW"


def test_overwritten_stack_is_noticed() -> None:
    assert "__stack_chk_fail" in elf("--dyn-syms")
