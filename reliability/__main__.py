"""``python -m reliability``: the long runs, and docs/reliability.md from what they and the tests have seen."""

from __future__ import annotations

import click

from reliability import endurance, fuzz, native, page, rolling, stress, threads
from reliability.chaos.command import command as chaos


@click.group()
def main() -> None:
    """Runs that try to break the promises; each writes build/reliability/NAME.json, exit status 1: a target missed."""


main.add_command(page.command)
main.add_command(chaos)
main.add_command(endurance.command)
main.add_command(stress.command)
main.add_command(rolling.command)
main.add_command(threads.command)
main.add_command(fuzz.command)
for tool in native.TOOLS:
    main.add_command(native.command, tool)

if __name__ == "__main__":
    main()
