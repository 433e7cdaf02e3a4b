"""The command line, run in this very process: what it printed, and its exit status."""

from __future__ import annotations

import io
import logging
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import NamedTuple

import pytest

from rdknotify.cli import main


class Ran(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        """The lines of standard output as a pipe gets them, cut at tabs."""
        return [line.split("\t") for line in self.out.splitlines()]


def run(*arguments: object, stdin: str = "") -> Ran:
    """``rdknotify ARGUMENTS`` with its output in a pipe."""
    out, err = _pipe(), _pipe()
    with redirect_stdout(out), redirect_stderr(err), _undone(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["rdknotify", *map(str, arguments)])
        patch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main()
    ran = Ran(int(ended.value.code or 0), _written(out), _written(err))
    assert "Traceback" not in ran.err
    assert "defect of rdknotify" not in ran.err
    return ran


def _pipe() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)


def _written(pipe: io.TextIOWrapper) -> str:
    assert isinstance(pipe.buffer, io.BytesIO)
    return pipe.buffer.getvalue().decode()


@contextmanager
def _undone() -> Iterator[None]:
    """What a process of its own may change, as it was; warnings are shown, as there, and raise nothing."""
    logger = logging.getLogger("rdknotify")
    terminate, handlers, level = signal.getsignal(signal.SIGTERM), logger.handlers, logger.level
    with warnings.catch_warnings():  # puts showwarning back, too
        warnings.simplefilter("default")
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, terminate)
            logger.handlers = handlers
            logger.setLevel(level)
