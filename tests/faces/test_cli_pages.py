"""The manual of the command line is what ``--help`` says; completion; and how any command ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.command import run

from rdknotify.cli import COMMANDS, pages

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"
RDKNOTIFY = [sys.executable, "-m", "rdknotify"]


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == "\n".join(pages.markdown()) + "\n", (
        "make it again: python -m rdknotify.cli.pages > docs/command-line.md"
    )


@pytest.mark.skipif(shutil.which("groff") is None, reason="no groff")
def test_man_shows_every_command_and_its_options() -> None:
    page = run("man").out
    command = ["groff", "-man", "-Tutf8", "-ww", "-P-cbou"]
    shown = subprocess.run(command, input=page, capture_output=True, text=True, timeout=30, check=True)
    assert shown.stderr == ""
    for name in COMMANDS:
        assert f"\n   {name}" in shown.stdout
    for expected in ("--from-line", "--filter NAME=REGEX", "EXIT STATUS", r"'event_type=compute\.instance\.'"):
        assert expected in shown.stdout.replace("‐", "-").replace("’", "'"), expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_read_what_completes_it(shell: str) -> None:
    if shell == "bash" and shutil.which("bash") is None:
        pytest.skip("no bash")
    ran = run("completion", shell)
    assert ran.status == 0, ran.err
    assert "_RDKNOTIFY_COMPLETE" in ran.out
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=ran.out, text=True, timeout=30, check=True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [("li", {"listen"}), ("send --priority ", {"audit", "error", "sample"}), ("send --also", {"--also-possible"})],
)
def test_words_are_completed(words: str, expected: set[str]) -> None:
    line = f"rdknotify {words}"
    environment = {"_RDKNOTIFY_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    done = subprocess.run(
        RDKNOTIFY, env={**os.environ, **environment}, capture_output=True, text=True, timeout=30, check=True
    )
    assert expected <= {each.partition(",")[2] for each in done.stdout.splitlines()}


# -- any command -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["man", "--help", "version --json", "listen --url mock:"])
def test_a_reader_that_has_enough_is_no_error(command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*RDKNOTIFY, *command.split()], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60,
                          check=False)  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", ["pipe", "file"])
def test_without_standard_error_the_status_still_tells(closed: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [*RDKNOTIFY, "send", "--url", "http://host", "event"]
    if closed == "file":
        command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writing, timeout=60, check=False)
    os.close(writing)
    assert (done.returncode, done.stdout) == (1, b"")


def test_ctrl_c_at_any_moment_ends_it_quietly() -> None:
    """Also while modules are loaded, and while nothing answers; before that it is the interpreter's."""
    code = "from rdknotify.__main__ import run; print(flush=True); run()"
    command = [sys.executable, "-c", code, "send", "--url", "127.0.0.1:1", "event"]
    for delay in (0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.4, 1.0):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        assert process.returncode in (130, -signal.SIGINT), (delay, err)
        assert (out, err.strip()) == ("", ""), delay  # click ends the line of ^C


def test_colours_are_for_terminals_that_want_them() -> None:
    import pty

    def shown(**environment: str) -> bytes:
        ours, theirs = pty.openpty()
        env = {**os.environ, "TERM": "xterm", **environment}
        command = [*RDKNOTIFY, "listen", "--url", "mock:", "--count", "1", "--timeout", "20"]
        with subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env=env) as process:
            os.close(theirs)
            text = b""
            while True:
                try:
                    part = os.read(ours, 65536)
                except OSError:  # Linux, at the end
                    break
                if not part:
                    break
                text += part
        os.close(ours)
        assert process.returncode == 0
        return text

    assert b"\x1b[3" in shown()
    assert b"\x1b[3" not in shown(NO_COLOR="1")


def test_warnings_are_one_line(tmp_path: Path) -> None:
    ran = run("send", "--url", "kafka://user:word@127.0.0.1:1", "-o", "connect_timeout=0.2", "event")
    assert ran.status == 1
    lines = ran.err.splitlines()
    assert [line for line in lines if not line.startswith("rdknotify: ")] == []
    assert any("warning: everyone on this machine can see the password" in line for line in lines)
    assert any("sends the password in the clear" in line for line in lines)
    assert "word@" not in ran.err
