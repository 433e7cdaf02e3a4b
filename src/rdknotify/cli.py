"""The command line: ``rdknotify version`` and ``rdknotify demo``."""

from __future__ import annotations

import json
import logging
import signal
import sys
from pathlib import Path
from typing import NoReturn

from rdknotify import __version__, about
from rdknotify.errors import RdNotifyError

try:
    import click
    import rich.console
except ImportError:
    raise SystemExit("the command line needs click and rich: pip install 'rdknotify[cli]'") from None

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """A notification bus over Apache Kafka."""


@commands.command()
@click.option("--verbose", is_flag=True, help="Also what it was built with and runs on.")
@click.option("--json", "as_json", is_flag=True, help="All of that, for a program.")
def version(verbose: bool, as_json: bool) -> None:
    """Print the version."""
    if as_json:
        click.echo(json.dumps(about.facts(), indent=2))
        return
    click.echo(f"rdknotify {__version__}")
    if verbose:
        click.echo("\n".join(about.lines()))


@commands.command()
@click.option("--kafka", metavar="HOST:PORT", help="A broker, or a transport URL; without it, the embedded broker.")
@click.option("--count", type=click.IntRange(min=1), default=100_000, show_default=True, help="Notifications to send.")
@click.option(
    "--keep", type=click.Path(dir_okay=False, path_type=Path), help="Keep the database here; it must not exist yet."
)
@click.option("--verbose", is_flag=True, help="Show the library's log too.")
@click.pass_context
def demo(context: click.Context, kafka: str | None, count: int, keep: Path | None, verbose: bool) -> None:
    """Send notifications through Kafka into SQLite, and check that each is there exactly once.

    The exit status is 0 only if the database holds exactly what was sent.
    """
    from rdknotify import demo as job

    signal.signal(signal.SIGTERM, _terminate)
    if not verbose:
        # What matters is told by the command; the library's log would tear the progress bars apart.
        logging.getLogger("rdknotify").addHandler(logging.NullHandler())
    context.exit(job.run(kafka, count, keep, rich.console.Console()))


def _terminate(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def main() -> NoReturn:
    """Run the command of ``sys.argv`` and exit: 0 success, 1 an error told in one line, 2 wrong usage, 130 Ctrl-C."""
    try:
        status = commands.main(prog_name="rdknotify", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except (RdNotifyError, OSError) as error:
        click.echo(f"rdknotify: {error}", err=True)
        sys.exit(1)
    sys.exit(status or 0)
