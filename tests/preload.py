"""Shared libraries whose functions stand before those of the C library, in scripts."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

CC = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
needed = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which(CC[0]) is None,
    reason="needs LD_PRELOAD and a C compiler",
)


def library(folder: Path, source: str) -> Path:
    """Compile `source` to a shared library in `folder`."""
    (folder / "shim.c").write_text(source)
    command = [*CC, "-shared", "-fPIC", "shim.c", "-o", "shim.so", "-ldl"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "shim.so"


def environment(shim: Path) -> dict[str, str]:
    """Return what a script needs to load `shim` first, after a sanitizer that wants to be first."""
    return {
        "LD_PRELOAD": " ".join(filter(None, [os.environ.get("LD_PRELOAD"), str(shim)])),
        "AB_SHIM": str(shim),
    }
