"""docs/platforms.md: what wheels there are, what is in them, on what they were run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import jinja2

from benchmarks.report.tables import markdown
from vendor.extension import DIRECTIVES
from vendor.recipe import PARTS, RECIPE, BuildError
from wheels import bare, trial
from wheels.extension import ROOT
from wheels.targets import PYTHONS, VARIANTS, Variant

__all__ = ["PAGE", "command", "render"]

PAGE = ROOT / "docs" / "platforms.md"
WHEELS = ROOT / "dist" / "wheels.json"

HEAD = ("CPython", "wheel", "MB", "run")
VARIABLES = {
    "RDKNOTIFY_BUNDLED": "`1`: OpenSSL, zlib and curl are built in too, as in wheels, from sources that cargo obtains",
    "RDKNOTIFY_STABLE_ABI": "`1`: one wheel for CPython 3.11 and all newer ones, not the one that builds it alone",
    "RDKNOTIFY_WITHOUT": "features to be left out, with commas, as `ssl,zstd`; nothing is ever left out unasked",
    "RDKNOTIFY_LIBRDKAFKA_SRC": "a folder with librdkafka's source, in place of ours",
    "RDKNOTIFY_LIBRDKAFKA": "`system`: the librdkafka that pkg-config finds is linked",
    "RDKNOTIFY_CACHE": "the folder where what takes long to build or fetch is kept",
    "CC`, `AR`, `CFLAGS`, `CPPFLAGS`, `LDFLAGS": "the compiler, a cross compiler too, the archiver and their flags",
    "SOURCE_DATE_EPOCH": "the time that an sdist tells; wheels tell the commit's",
}


def render(wheels: list[dict[str, Any]], runs: dict[str, str], source: dict[str, Any] | None) -> str:
    """The page as Markdown, of the rows of wheels.json, what was run of each by its file's name, and of bare.json.

    Raises BuildError where the wheels have other parts than the recipe.
    """
    parts = {name: RECIPE[name]["version"] for name in PARTS}
    if other := [row["file"] for row in wheels if row["parts"] != parts]:
        raise BuildError(f"{', '.join(other)}: its parts are not those of vendor/recipe.json: make wheels")
    built = {variant: row for row in wheels for variant in VARIANTS if row["file"].endswith(f"-{variant.name}.whl")}
    sizes = [row["bytes"] / 1e6 for row in built.values()]
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    page = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return page.get_template("platforms.md.j2").render(
        table=markdown(HEAD, [_line(variant, built.get(variant), runs) for variant in VARIANTS]),
        sizes=f", {min(sizes):.2f} to {max(sizes):.2f} MB" if sizes else "",
        count=len(built),
        parts=", ".join(f"{name} {version}" for name, version in parts.items()),
        features=", ".join(f"`{name}`" for name in next(iter(wheels), {}).get("features", ())),
        limited=any(python.limited for python in PYTHONS),
        free_threaded=DIRECTIVES.get("freethreading_compatible", False),
        source=source,
        variables=VARIABLES,
    )


def _line(variant: Variant, built: dict[str, Any] | None, runs: dict[str, str]) -> tuple[str, ...]:
    python = f"{variant.python.version}{' and newer' if variant.python.limited else ''}"
    if not built:
        return python, f"`{variant.name}`", "", "*not built*"
    return python, f"`{variant.name}`", f"{built['bytes'] / 1e6:.2f}", runs.get(built["file"], "*only built*")


def _load(path: Path, otherwise: Any) -> Any:
    return json.loads(path.read_text()) if path.exists() else otherwise


@click.command("page")
def command() -> None:
    """Write docs/platforms.md from what was built and run."""
    runs = {name: trial.summary(each).replace("|", "\\|") for name, each in trial.recorded().items()}
    PAGE.write_text(render(_load(WHEELS, []), runs, _load(bare.RESULT, None)))
    click.echo(f"wrote {PAGE}")
