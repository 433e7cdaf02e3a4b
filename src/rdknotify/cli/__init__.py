"""The command line: one module a command, each loaded when it is called for.

A command's module has its name (``-`` as ``_``) and a click command named ``command``. What commands share:
``connection`` (which broker) and ``output`` (what is printed where, exit statuses). Engines, sinks and databases are
imported inside the functions that need them, so that ``--help`` and ``version`` need none.
"""

from __future__ import annotations

import signal
import sys
import warnings
from importlib import import_module
from typing import NoReturn

try:
    import click
    import rich.console  # noqa: F401  # the other half of the extra
except ImportError:
    raise SystemExit("the command line needs click and rich: pip install 'rdknotify[cli]'") from None

from rdknotify.cli import output
from rdknotify.cli.output import Exit
from rdknotify.errors import RdNotifyError

__all__ = ["commands", "main"]

COMMANDS = ("send", "listen", "persist", "lag", "topics", "dead-letter", "doctor", "demo", "version")


class _Commands(click.Group):
    """Finds the module of a command by its name."""

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
    signal.signal(signal.SIGTERM, _terminate)
    warnings.showwarning = output.show_warning
    try:
        status = commands.main(prog_name="rdknotify", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        status = Exit.INTERRUPTED
    except BrokenPipeError:
        status = output.reader_gone()
    except (RdNotifyError, OSError) as error:
        output.tell(str(error))
        status = Exit.FAILED
    sys.exit(status or 0)


def _terminate(number: int, frame: object) -> NoReturn:
    raise SystemExit(Exit.TERMINATED)
