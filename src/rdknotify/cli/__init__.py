"""The command line: one module a command, each loaded when it is called for.

A command's module has its name (``-`` as ``_``) and a click command named ``command``. What commands share:
``connection`` (which broker) and ``output`` (what is printed where, exit statuses). Engines, sinks and databases are
imported inside the functions that need them, so that ``--help`` and ``version`` need none.
"""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, NoReturn

try:
    import click
    import rich.console  # noqa: F401  # the other half of the extra
except ImportError:
    raise SystemExit("the command line needs click and rich: pip install 'rdknotify[cli]'") from None

from rdknotify.cli import output
from rdknotify.cli.output import Exit
from rdknotify.errors import RdNotifyError

__all__ = ["commands", "main"]

COMMANDS = (
    "send",
    "listen",
    "persist",
    "lag",
    "topics",
    "dead-letter",
    "doctor",
    "demo",
    "bench",
    "version",
    "completion",
    "man",
)


class _ReaderGone(Exception):
    """Whoever read our output has enough; by another name, as click has an exit status of its own for that."""


@contextmanager
def _naming_closed_pipes() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise _ReaderGone from None


class _Commands(click.Group):
    """Finds the module of a command by its name."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _naming_closed_pipes():  # of --help
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _naming_closed_pipes():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"rdknotify.cli.{cmd_name.replace('-', '_')}").command
        return command


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=f"Exit status: {output.exit_statuses()}",
)
def commands() -> None:
    """A notification bus over Apache Kafka: send, listen, store, and see where it is stuck."""


def main() -> NoReturn:
    """Run the command of ``sys.argv`` and exit with one of :class:`output.Exit`."""
    output.open_closed_streams()
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as rdknotify.__main__ leaves it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    warnings.showwarning = output.show_warning
    try:
        status = commands.main(prog_name="rdknotify", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        with suppress(OSError):
            error.show()
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        status = Exit.INTERRUPTED
    except (_ReaderGone, BrokenPipeError):
        status = output.reader_gone()
    except (RdNotifyError, OSError) as error:
        output.tell(output.with_next_step(error))
        status = Exit.FAILED
    except Exception as error:
        if "--verbose" in sys.argv:
            raise
        kind = type(error).__name__
        output.tell(f"{kind}: {error}: this is a defect of rdknotify; --verbose shows where, please report that")
        status = Exit.FAILED
    sys.exit(status or 0)


def _terminate(number: int, frame: object) -> NoReturn:
    raise SystemExit(Exit.TERMINATED)
