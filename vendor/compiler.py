"""The C compiler and the archiver, as CC, AR and the flags of the environment name them, and what they compile for.

Nothing is derived from the machine that compiles, and nothing that was compiled is run: cross compilers do.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vendor.recipe import RECIPE, BuildError


class Compiler:
    """The C compiler and the archiver, with the user's flags."""

    def __init__(self) -> None:
        self.command = words("CC", "cc")
        self.archiver = words("AR", "ar")
        self.flags = [*words("CPPFLAGS"), *words("CFLAGS")]
        self.link_flags = words("LDFLAGS")
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
        self._macros = self._predefined()
        done = subprocess.run([*self.command, "--version"], capture_output=True, text=True, check=False)
        # Not where the compiler is: the same one elsewhere compiles the same.
        program = [Path(self.command[0]).name, *self.command[1:]]
        named = [*done.stdout.splitlines()[:1], self._macros.get("__VERSION__", "")]
        self.identity = " ".join([shlex.join([*program, *self.flags]), *named])

    @property
    def machine(self) -> str:
        """The processor compiled for: x86_64, aarch64, or another that nothing here depends on."""
        return next((name for name in ("x86_64", "aarch64") if f"__{name}__" in self._macros), "other")

    @property
    def system(self) -> str:
        """The system compiled for: glibc, musl (Linux with any other C library), darwin, or other."""
        if "__APPLE__" in self._macros:
            return "darwin"
        if "__linux__" not in self._macros:
            return "other"
        return "glibc" if "__GLIBC__" in self._macros else "musl"

    @property
    def glibc(self) -> tuple[int, int]:
        """The version of glibc compiled for, (0, 0) where it is another C library."""
        major, minor = (self._macros.get(name, "0") for name in ("__GLIBC__", "__GLIBC_MINOR__"))
        return int(major), int(minor)

    @property
    def target(self) -> str:
        """What is compiled for, in a word: x86_64-glibc2.17, aarch64-musl."""
        return f"{self.machine}-{self.system}" + (f"{self.glibc[0]}.{self.glibc[1]}" if self.system == "glibc" else "")

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

    def _predefined(self) -> dict[str, str]:
        """The macros that the compiler and the C library define of themselves."""
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch) / "macros.c"
            source.write_text("#include <stdlib.h>\n")
            command = [*self.command, *self.flags, "-dM", "-E", str(source)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        return dict(re.findall(r"^#define (__\w+) (.*)$", done.stdout, re.MULTILINE))

    def compile_all(self, folder: Path, jobs: list[tuple[str, list[str]]], archive: Path) -> None:
        """Compile files of a folder, each with flags of its own, into one archive, which does not tell the folder."""
        objects = [folder / f"{number}-{Path(source).stem}.o" for number, (source, _) in enumerate(jobs)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda job, target: self.compile(folder, job[0], job[1], target), jobs, objects))
        archive.parent.mkdir(parents=True, exist_ok=True)
        # No time stamps either; Apple's archiver writes none when told so in the environment.
        modifiers = "rcs" if self.system == "darwin" else "rcsD"
        command = [*self.archiver, modifiers, str(archive), *map(str, objects)]
        run(command, f"{archive.name} cannot be made", ZERO_AR_DATE="1")

    def compile(self, folder: Path, source: str, flags: list[str], target: Path) -> None:
        newer = int(self._macros.get("__GNUC__", "0")) >= 8 or "__clang__" in self._macros
        nameless = [f"-ffile-prefix-map={folder}=."] if newer else []
        # The user's flags override ours, but their folders come last: another librdkafka must not lend its headers.
        arguments = [*RECIPE["cflags"], *nameless, *flags, *self.flags, "-c", str(folder / source), "-o", str(target)]
        run([*self.command, *arguments], f"{Path(source).name} does not compile")


def run(command: list[str], failure: str, folder: Path | None = None, **environment: str) -> None:
    """Run a program. Raises BuildError with its reason if it fails."""
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BuildError(f"{failure}: {_reason(done)}")


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """The line of a failed program that says why."""
    lines = done.stderr.splitlines() or ["no reason given"]
    return next((line for line in lines if "error" in line), lines[-1])


def words(variable: str, default: str = "") -> list[str]:
    """The words of an environment variable, quoted as in a shell; an empty variable counts as none."""
    return shlex.split(os.environ.get(variable) or default)
