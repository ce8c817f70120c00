"""Builds the extension module; all metadata is in pyproject.toml.

Environment variables, for development builds:

    AB_DEBUG=1      no optimisation, debug information, assertions on
    AB_SANITIZE=..  -fsanitize=.. (address,undefined or thread); implies debug information
    AB_COVERAGE=1   gcov counters
    AB_WERROR=1     a compiler warning is an error
"""

from __future__ import annotations

import os
import subprocess
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


def wanted(name: str) -> bool:
    return os.environ.get(name, "0") not in ("", "0")


def hardening(command: list[str]) -> tuple[list[str], list[str]]:
    """What distributions harden with, and the compiler and CFLAGS do not by themselves.

    Asked of the compiler: a second value of _FORTIFY_SOURCE is a warning, a lower one a loss.
    """
    asked = [*command, "-O2", "-dM", "-E", "-x", "c", os.devnull]
    known = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    if "__OPTIMIZE__" not in known:
        return [], []
    flags = ["-Wformat", "-Werror=format-security"]
    if "_FORTIFY_SOURCE" not in known:
        flags += ["-D_FORTIFY_SOURCE=2"]
    if "__SSP_" not in known and "-fno-stack-protector" not in command:
        flags += ["-fstack-protector-strong"]
    if "__linux__" not in known:
        return flags, []
    flags += ["-fstack-clash-protection"]
    if "__x86_64__" in known:
        flags += ["-fcf-protection"]
    return flags, ["-Wl,-z,relro", "-Wl,-z,now"]


def msvc_flags() -> tuple[list[str], list[str]]:
    compile_args = ["/std:c11", "/experimental:c11atomics", "/W3"]
    if wanted("AB_DEBUG"):
        compile_args += ["/Od", "/Zi", "/UNDEBUG", "/DAB_DEBUG"]
    if wanted("AB_WERROR"):
        compile_args += ["/WX"]
    return compile_args, []


def unix_flags(command: list[str]) -> tuple[list[str], list[str]]:
    compile_args = ["-std=c11", "-Wall", "-Wextra", "-Wshadow", "-fvisibility=hidden", "-pthread"]
    link_args = ["-pthread"]
    sanitizers = os.environ.get("AB_SANITIZE", "")
    if wanted("AB_DEBUG"):
        compile_args += ["-O0", "-g", "-UNDEBUG", "-DAB_DEBUG"]
    elif sanitizers:
        compile_args += ["-O1", "-g"]
    else:
        hard_compile_args, hard_link_args = hardening(command)
        compile_args += ["-O2", *hard_compile_args]
        link_args += hard_link_args
    if sanitizers:
        compile_args += [f"-fsanitize={sanitizers}", "-fno-omit-frame-pointer"]
        link_args += [f"-fsanitize={sanitizers}"]
    if wanted("AB_COVERAGE"):
        compile_args += ["--coverage", "-fprofile-update=atomic"]
        link_args += ["--coverage"]
    if wanted("AB_WERROR"):
        compile_args += ["-Werror"]
    return compile_args, link_args


class BuildExt(build_ext):
    """Chooses the flags once the compiler is known, and rebuilds when they differ."""

    def build_extension(self, ext: Extension) -> None:
        is_msvc = self.compiler.compiler_type == "msvc"
        flags = msvc_flags() if is_msvc else unix_flags(self.compiler.compiler_so)
        ext.extra_compile_args, ext.extra_link_args = flags
        ext.depends.append(self.record_of(flags))
        super().build_extension(ext)

    def record_of(self, flags: tuple[list[str], list[str]]) -> str:
        """A file that changes only when the flags do."""
        path = Path(self.build_temp, "flags.txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != repr(flags):
            path.write_text(repr(flags), encoding="utf-8")
        return str(path)


setup(
    ext_modules=[
        Extension(
            "async_batcher._core",
            sources=sorted(glob("src/core/*.c") + glob("src/binding/*.c")),
            depends=sorted(glob("src/**/*.h", recursive=True)),
            include_dirs=["src"],
        )
    ],
    cmdclass={"build_ext": BuildExt},
)
