"""docs/platforms.md: what wheels there are, what is in them, on what they were run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import jinja2

from benchmarks.report.tables import markdown
from vendor.extension import DIRECTIVES
from wheels import bare
from wheels.extension import ROOT
from wheels.targets import PYTHONS

__all__ = ["PAGE", "command", "render"]

PAGE = ROOT / "docs" / "platforms.md"
WHEELS = ROOT / "dist" / "wheels.json"
TRIAL = ROOT / "build" / "wheels" / "trial.json"

HEAD = ("Python", "platform", "MB", "wheel", "run")
VARIABLES = {
    "RDKNOTIFY_BUNDLED": "`1`: OpenSSL, zlib and curl are built in too, as in wheels, from sources that cargo obtains",
    "RDKNOTIFY_WITHOUT": "features to be left out, with commas, as `ssl,zstd`; nothing is ever left out unasked",
    "RDKNOTIFY_LIBRDKAFKA_SRC": "a folder with librdkafka's source, in place of ours",
    "RDKNOTIFY_LIBRDKAFKA": "`system`: the librdkafka that pkg-config finds is linked",
    "RDKNOTIFY_CACHE": "the folder where what takes long to build or fetch is kept",
    "CC`, `AR`, `CFLAGS`, `CPPFLAGS`, `LDFLAGS": "the compiler, a cross compiler too, the archiver and their flags",
    "SOURCE_DATE_EPOCH": "the time that an sdist tells; wheels tell the commit's",
}


def render(wheels: list[dict[str, Any]], runs: dict[str, str], source: dict[str, Any] | None) -> str:
    """The page as Markdown, of the rows of wheels.json, what was run of each by its file's name, and of bare.json."""
    sizes = [row["bytes"] / 1e6 for row in wheels]
    table = [
        (row["python"], row["platform"], f"{size:.2f}", f"`{row['file']}`", runs.get(row["file"], "*only built*"))
        for row, size in zip(wheels, sizes, strict=True)
    ]
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    page = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return page.get_template("platforms.md.j2").render(
        wheels=markdown(HEAD, table) if wheels else "",
        count=len(wheels),
        smallest=f"{min(sizes, default=0):.2f}",
        largest=f"{max(sizes, default=0):.2f}",
        parts=", ".join(f"{name} {version}" for name, version in wheels[0]["parts"].items()) if wheels else "",
        features=", ".join(f"`{name}`" for name in wheels[0]["features"]) if wheels else "",
        pythons=", ".join(python.version for python in PYTHONS),
        limited=any(python.limited for python in PYTHONS),
        free_threaded=DIRECTIVES.get("freethreading_compatible", False),
        source=source,
        variables=VARIABLES,
    )


def _load(path: Path, otherwise: Any) -> Any:
    return json.loads(path.read_text()) if path.exists() else otherwise


@click.command("page")
def command() -> None:
    """Write docs/platforms.md from what was built and run."""
    PAGE.write_text(render(_load(WHEELS, []), _load(TRIAL, {}), _load(bare.RESULT, None)))
    click.echo(f"wrote {PAGE}")
