"""What is printed where, and the exit statuses: results on standard output, everything else on standard error."""

from __future__ import annotations

import enum
import logging
import os
import sys
from contextlib import suppress
from typing import TextIO

from rich.console import Console
from rich.markup import escape

from rdknotify.errors import AuthenticationError, KafkaError

__all__ = [
    "Exit",
    "err",
    "exit_statuses",
    "open_closed_streams",
    "out",
    "reader_gone",
    "show_log",
    "show_warning",
    "tell",
    "with_next_step",
]


class Exit(enum.IntEnum):
    """What the process says at its end."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PARTLY = 3
    INTERRUPTED = 130
    TERMINATED = 143


_MEANINGS = {
    Exit.DONE: "done",
    Exit.FAILED: "not done, the last line says why",
    Exit.USAGE: "wrong usage",
    Exit.PARTLY: "done in part, or trouble was found",
    Exit.INTERRUPTED: "Ctrl-C",
    Exit.TERMINATED: "SIGTERM",
}


class _Console(Console):
    """One that leaves closed pipes to us."""

    def on_broken_pipe(self) -> None:
        if not self.stderr:
            raise BrokenPipeError
        self.quiet = True  # nobody listens; the work goes on


# Colours only where somebody looks, and never against NO_COLOR: rich sees to both.
out = _Console(soft_wrap=True)
"""Results, for people; programs get lines through ``click.echo``."""
err = _Console(stderr=True, soft_wrap=True)
"""Progress, closing lines, warnings, errors."""

_UNREACHED = frozenset({"_TIMED_OUT", "_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE", "_SSL", "_AUTHENTICATION"})
"""Errors of which a doctor knows more."""


def exit_statuses() -> str:
    """All of them with their meaning, in one line."""
    return ", ".join(f"{status.value} {meaning}" for status, meaning in _MEANINGS.items())


def tell(text: str, style: str = "") -> None:
    """One line to standard error, with the name of the program before it."""
    line = escape(f"rdknotify: {text}")
    with suppress(BrokenPipeError):  # a rich without on_broken_pipe
        err.print(f"[{style}]{line}[/]" if style else line, highlight=False)


def with_next_step(error: Exception) -> str:
    """The text of an error; of one that has to do with the way to the brokers, with the command that looks at it."""
    text = str(error)
    if isinstance(error, AuthenticationError) or (isinstance(error, KafkaError) and error.name in _UNREACHED):
        text += "; rdknotify doctor, with the same --url or --config-file, shows where it stops"
    return text


def open_closed_streams() -> None:
    """Where standard output or error were closed by the caller, what is printed goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # until the exit


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning of the library is for whoever typed the command: without the line of code that it stands in."""
    tell(f"warning: {message}", "yellow")


class _ToConsole(logging.Handler):
    """Through the console, which keeps progress bars whole."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tell(f"{record.levelname.lower()}: {record.getMessage()}", "yellow")
        except Exception:
            self.handleError(record)


def show_log(level: int | None) -> None:
    """Show the library's log from this level on; None: nothing of it, not even what logging prints by itself."""
    logger = logging.getLogger("rdknotify")
    logger.handlers = [_ToConsole() if level is not None else logging.NullHandler()]
    if level is not None:
        logger.setLevel(level)


def reader_gone() -> Exit:
    """Whoever read our output has enough, as ``head`` does: that is no error."""
    # Python flushes standard output at its exit, and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.DONE
