"""``python -m wheels``: wheels for every Linux, built on one."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from rdknotify.errors import RdNotifyError
from vendor.recipe import BuildError
from wheels import bare, inspection, listing, making, page, trial
from wheels.commands import heed_sigterm
from wheels.extension import ROOT
from wheels.patterns import only
from wheels.targets import VARIANTS, Variant

DIST = ROOT / "dist"


@click.group()
def main() -> None:
    """Build wheels, look into them, and try them on the Pythons that they are for."""


@main.command()
@only
@click.option("--dist", type=click.Path(path_type=Path, file_okay=False), default=DIST, show_default="dist")
def build(only: list[Variant] | None, dist: Path) -> None:
    """Build wheels; what is wrong with one ends it, and nothing is left in the folder."""
    if lacking := making.missing():
        sys.exit(f"wheels: to be installed first: {'; '.join(lacking)}")
    making.make(only or list(VARIANTS), dist)


@main.command()
@click.argument("wheels", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--again", is_flag=True, help="Build them again elsewhere, too, and compare the bytes.")
def check(wheels: tuple[Path, ...], again: bool) -> None:
    """Look into wheels: symbols, libraries, tags, licences, size. Exit status 1: something is wrong with one."""
    paths = list(wheels) or sorted(DIST.glob("*.whl"))
    if not paths:
        sys.exit(f"wheels: there are none in {DIST}: make wheels")
    found = [fault for path in paths for fault in inspection.faults(path)]
    if again:
        found += [f"{name}: another build of the same commit has other bytes" for name in making.differences(paths)]
    if found:
        sys.exit("\n".join(found))
    click.echo(f"{len(paths)} wheels: nothing is wrong with them" + (", and built again they are the same" * again))


@main.command("list")
@click.option("--dist", type=click.Path(path_type=Path, exists=True, file_okay=False), default=DIST)
def list_(dist: Path) -> None:
    """Write SHA256SUMS, wheels.md and wheels.json of what is in the folder."""
    listing.write(dist)


main.add_command(bare.command)
main.add_command(page.command)
main.add_command(trial.command)

if __name__ == "__main__":
    heed_sigterm()
    try:
        main()
    except (BuildError, RdNotifyError) as error:
        sys.exit(f"wheels: {error}")
