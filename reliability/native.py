"""The extension under sanitizers and under valgrind: built apart, run with the tests that need no broker.

``python -m reliability asan`` (AddressSanitizer with LeakSanitizer, and UndefinedBehaviorSanitizer, over librdkafka
and the extension), ``valgrind``, ``tsan`` (ThreadSanitizer). Each is first shown what it must find. Any report fails,
one of a child process too: all go to files.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import click

ROOT = Path(__file__).parent.parent
SUPPRESSIONS = Path(__file__).parent / "suppressions"
SOURCES = ("setup.py", "vendor/*.py", "vendor/*.json", "src/*.pyx", "src/*.pxd", "src/core/*.pxi")

# What runs other programs with the tool in their way hangs or is slow: ps waits for ever under libasan. So Python takes
# the tool out of its own environment, and starts other Pythons through the wrapper that puts it there.
CUSTOMIZE = "import os, sys\nos.environ.pop('LD_PRELOAD', None)\nsys.executable = os.environ['RDKNOTIFY_UNDER']\n"

PYTEST = ("-m", "pytest", "-p", "no:cacheprovider", "-q", "-m", "not broker")
SEEDED_C = """
int shifted(int by) { return 1 << by; }
long counted;
void count(void) { for (int i = 0; i < 1000000; i++) counted++; }
"""
OVERFLOW = """
import ctypes
from rdknotify import _rdknotify as core
take = ctypes.CDLL(None).malloc
take.restype = ctypes.c_void_p
beyond = (ctypes.c_char * 64).from_address(take(8))
producer = core.Producer({"bootstrap.servers": "127.0.0.1:1"})
producer.send("topic", memoryview(beyond))
"""
LEAK = """
import ctypes
from rdknotify import _rdknotify as core
ctypes.pythonapi.Py_IncRef(ctypes.py_object(core.compose(("p", "e", "INFO"), {}, b"{}" * 5000, {}, b"{}")[1]))
"""
RACE = """
import ctypes, sys, threading
count = ctypes.CDLL(sys.argv[1]).count
threads = [threading.Thread(target=count) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
UNDEFINED = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).shifted(40)"


# The core's tests, and of the others what parses strangers' bytes: the rest is Python (and greenlets' switching of
# stacks no sanitizer follows).
LEFT_OUT = {
    "test_fork.py",  # a forked child's threads get stacks that its parent's had marked
    "test_signals.py",  # Ctrl-C is about time
}
TESTS = tuple(
    str(path.relative_to(ROOT))
    for path in [ROOT / "tests/engine/test_hostile.py", *sorted((ROOT / "tests/core").glob("test_*.py"))]
    if path.name not in LEFT_OUT
)
OURS = re.compile(r"_rdknotify\.|\(rd\w*\.c:")
"""In the stack of what is ours: where a daemon thread was, objects of Python's own are left over."""


@dataclass(frozen=True)
class Tool:
    """How the extension is built for a tool, how Python is run under it, and what it must find when shown.

    ``{here}`` stands for the tool's folder in build/, ``{suppressions}`` for the folder with what is not ours.
    """

    name: str
    flags: str
    link_flags: str = ""
    runtime: str = ""
    command: str = ""
    options: dict[str, str] = field(default_factory=dict)
    seeds: dict[str, str] = field(default_factory=dict)
    tests: tuple[str, ...] = TESTS
    skip: str = "test_memory_is_bounded"  # a tool takes memory of its own

    @property
    def here(self) -> Path:
        return ROOT / "build" / self.name

    def filled(self, text: str) -> str:
        return text.format(here=self.here, suppressions=SUPPRESSIONS)


TOOLS = {
    "asan": Tool(
        "asan",
        "-fsanitize=address,undefined",
        # A static runtime, for the dynamic one takes libasan's log for its own.
        link_flags="-static-libubsan -Wl,--exclude-libs,ALL",
        runtime="libasan.so",
        options={
            # Python has no frame pointers: only the slow way comes from its allocators to who called them.
            "ASAN_OPTIONS": "detect_leaks=1:fast_unwind_on_malloc=0:malloc_context_size=10"
            ":log_path={here}/reports/asan:stack_trace_format='    #%n %f %S %m'",
            "LSAN_OPTIONS": "exitcode=0",  # the interpreter leaks at its end, see OURS
            "UBSAN_OPTIONS": "print_stacktrace=1:log_path={here}/reports/ubsan"
            ":suppressions={suppressions}/undefined.txt",
        },
        seeds={
            "heap-buffer-overflow": OVERFLOW,
            "Direct leak": LEAK,
            "shift exponent 40 is too large": UNDEFINED,
        },
    ),
    "tsan": Tool(
        "tsan",
        "-fsanitize=thread",
        runtime="libtsan.so",
        command="setarch --addr-no-randomize",  # gcc 12's runtime does not know where newer kernels put things
        options={"TSAN_OPTIONS": "exitcode=0:suppressions={suppressions}/thread.txt:log_path={here}/reports/tsan"},
        seeds={"data race": RACE},
    ),
    "valgrind": Tool(
        "valgrind",
        "",
        command="valgrind --quiet --undef-value-errors=no --leak-check=full --show-leak-kinds=definite "
        "--log-file={here}/reports/valgrind.%p",
        seeds={"Invalid read": OVERFLOW, "definitely lost": LEAK},
        tests=tuple(f"tests/core/test_{what}.py" for what in ("send", "poll", "partitioning", "compose")),
        skip="test_byte_by_byte",  # it gives up where it cannot make inputs quickly
    ),
}


def build(tool: Tool) -> None:
    """The package with the extension for this tool in ``build/NAME/lib``; the extension only if something changed."""
    flags = f"{tool.flags} -fno-omit-frame-pointer -O1 -g"
    environment = os.environ | {"CFLAGS": flags, "LDFLAGS": f"{tool.flags} {tool.link_flags}"}
    parts = [path.read_bytes() for pattern in SOURCES for path in sorted(ROOT.glob(pattern))]
    key = hashlib.sha256(
        b"\0".join([flags.encode(), tool.link_flags.encode(), sys.version.encode(), *parts])
    ).hexdigest()
    stamp = tool.here / "built"
    if not stamp.exists() or stamp.read_text() != key:
        began = time.monotonic()
        _setup(environment, "build_ext", "--build-lib", tool.here / "ext", "--build-temp", tool.here / "temp")
        stamp.write_text(key)
        click.echo(f"built for {tool.name} in {time.monotonic() - began:.0f} s")
    shutil.rmtree(tool.here / "lib", ignore_errors=True)
    _setup(environment, "build_py", "--build-lib", tool.here / "lib")
    for extension in (tool.here / "ext/rdknotify").glob("*.so"):
        (tool.here / "lib/rdknotify" / extension.name).symlink_to(extension)
    (tool.here / "lib/sitecustomize.py").write_text(CUSTOMIZE)
    preload = f"env LD_PRELOAD={_runtime(tool.runtime)}" if tool.runtime else ""
    wrapper = tool.here / "python"
    python = shlex.quote(sys.executable)
    wrapper.write_text(f'#!/bin/sh\nexec {tool.filled(tool.command)} {preload} {python} "$@"\n')
    wrapper.chmod(0o755)


def _runtime(library: str) -> str:
    found = subprocess.run(["gcc", f"-print-file-name={library}"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def _setup(environment: dict[str, str], *arguments: str | Path) -> None:
    command = [sys.executable, "setup.py", "--quiet", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{shlex.join(command)}: {done.stdout}{done.stderr}")


def run(tool: Tool, *arguments: str) -> int:
    """Python under the tool; its exit status. What the tool says of it and its children is added to what was told."""
    (tool.here / "reports").mkdir(exist_ok=True)
    environment = os.environ | {name: tool.filled(value) for name, value in tool.options.items()}
    environment |= {
        "PYTHONPATH": str(tool.here / "lib"),
        "PYTHONMALLOC": "malloc",
        "RDKNOTIFY_UNDER": str(tool.here / "python"),
    }
    return subprocess.run([str(tool.here / "python"), *arguments], cwd=ROOT, env=environment, check=False).returncode


def told(tool: Tool) -> str:
    """What the tool has reported since its folder of reports was removed."""
    reports = sorted((tool.here / "reports").iterdir())
    return "\n".join(_ours(path.read_text(errors="replace")) for path in reports).strip()


def _ours(report: str) -> str:
    """The report without what has nothing to do with us; empty if nothing else is in it."""
    if "ERROR: AddressSanitizer" in report or "runtime error" in report or "ThreadSanitizer" in report:
        return report
    blocks = re.sub(r"^==\d+== ?", "", report, flags=re.MULTILINE).split("\n\n")
    return "\n\n".join(block for block in blocks if OURS.search(block) and "__ubsan_handle" not in block)


def show_seeds(tool: Tool) -> None:
    """Defects on purpose, by way of the extension: a tool that does not find them would find nothing else."""
    seeded = tool.here / "seeded.so"
    (tool.here / "seeded.c").write_text(SEEDED_C)
    flags = shlex.split(f"{tool.flags} {tool.link_flags}")
    subprocess.run(["gcc", *flags, "-shared", "-fPIC", "-o", seeded, tool.here / "seeded.c"], check=True)
    for expected, script in tool.seeds.items():
        shutil.rmtree(tool.here / "reports", ignore_errors=True)
        run(tool, "-c", script, str(seeded))
        if expected not in (reports := told(tool)):
            raise click.ClickException(f"{tool.name} does not find a seeded defect ({expected}); it says: {reports}")
        click.echo(f"{tool.name} finds a seeded defect: {expected}")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Tests under ASan, LSan and UBSan (asan), valgrind or ThreadSanitizer; ARGUMENTS: pytest's, in place of ours."""
    tool = TOOLS[str(context.info_name)]
    if tool.command and not shutil.which(shlex.split(tool.command)[0]):
        raise click.ClickException(f"{tool.name} is missing: install {tool.name} (Debian, Ubuntu, Fedora)")
    tool.here.mkdir(parents=True, exist_ok=True)
    build(tool)
    show_seeds(tool)
    shutil.rmtree(tool.here / "reports", ignore_errors=True)
    # Two at once, for most of the time is spent waiting.
    parts = [arguments] if arguments else [tool.tests[0::2], tool.tests[1::2]]
    with ThreadPoolExecutor(len(parts)) as pool:
        runs = [pool.submit(run, tool, *PYTEST, "-k", f"not {tool.skip}", *part) for part in parts]
        statuses = [each.result() for each in runs]
    status, reports = max(statuses), told(tool)
    if reports:
        click.echo(reports[:20_000])
    click.echo(f"{tool.name}: pytest ended with {status}, {'REPORTS above' if reports else 'no report'}")
    sys.exit(1 if status or reports else 0)
