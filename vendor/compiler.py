"""The C compiler and the archiver, as CC, AR and the flags of the environment name them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from vendor.recipe import RECIPE, BuildError


class Compiler:
    """The C compiler and the archiver, with the user's flags."""

    def __init__(self) -> None:
        self.command = _words("CC", "cc")
        self.archiver = _words("AR", "ar")
        self.flags = [*_words("CPPFLAGS"), *_words("CFLAGS")]
        self.link_flags = _words("LDFLAGS")
        if not shutil.which(self.command[0]):
            raise BuildError(
                f"there is no C compiler ({self.command[0]}): install gcc (Debian, Ubuntu: build-essential) or set CC"
            )
        if not shutil.which(self.archiver[0]):
            raise BuildError(f"there is no archiver ({self.archiver[0]}): install binutils or set AR")
        smallest = self._probe("#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }", [])
        if smallest.returncode:
            raise BuildError(
                f"{shlex.join(self.command)} cannot make the smallest program ({_reason(smallest)}): install the C "
                "library's headers (Debian, Ubuntu: build-essential; Fedora: glibc-devel), or look at CC and CFLAGS"
            )
        done = subprocess.run([*self.command, "--version"], capture_output=True, text=True, check=False)
        self.identity = shlex.join([*self.command, *self.flags]) + done.stdout

    def links(self, program: str, libraries: list[str]) -> bool:
        """Whether a small program compiles and links."""
        return self._probe(program, libraries).returncode == 0

    def _probe(self, program: str, libraries: list[str]) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch) / "probe.c"
            source.write_text(program)
            arguments = [*self.flags, str(source), "-o", str(source.with_suffix(""))]
            arguments += [*self.link_flags, *(f"-l{name}" for name in libraries)]
            return subprocess.run([*self.command, *arguments], capture_output=True, text=True, check=False)

    def compile(self, source: Path, target: Path, flags: list[str]) -> None:
        # The user's flags override ours, but their folders come last: another librdkafka must not lend its headers.
        arguments = [*RECIPE["cflags"], *flags, *self.flags, "-c", str(source), "-o", str(target)]
        self._run([*self.command, *arguments], f"{source.name} does not compile")

    def archive(self, objects: list[Path], target: Path) -> None:
        self._run([*self.archiver, "rcs", str(target), *map(str, objects)], f"{target.name} cannot be made")

    def _run(self, command: list[str], failure: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"{failure}: {_reason(done)}")


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """The line of a failed compiler that says why."""
    lines = done.stderr.splitlines() or ["no reason given"]
    return next((line for line in lines if "error" in line), lines[-1])


def _words(variable: str, default: str = "") -> list[str]:
    """The words of an environment variable, quoted as in a shell; an empty variable counts as none."""
    return shlex.split(os.environ.get(variable) or default)
