"""The site is built without a warning, nothing in it comes from elsewhere, its diagrams are those of their source."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import GetSetDescriptorType

import pytest

import rdknotify
from rdknotify.topics import PRIORITIES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="mkdocs-material needs Python 3.11")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "--quiet", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    loads = re.compile(r"<(?:script|img|iframe|source)[^>]* src=\"?(?:https?:)?//|<link[^>]* href=\"?(?:https?:)?//")
    assert [page.name for page in pages if loads.search(page.read_text())] == []
    assert [
        sheet.name for sheet in site.rglob("*.css") if re.search(r"url\([\"']?(?:https?:)?//", sheet.read_text())
    ] == []


def test_links_out_of_docs_lead_to_pages_of_the_site(site: Path) -> None:
    assert "source/examples/hybrid.html" in (site / "oslo.html").read_text()
    assert "oslo_messaging_notifications" in (site / "source" / "examples" / "hybrid.html").read_text()


def methods(kind: type) -> set[str]:
    """The public methods and properties of a class that are ours."""
    own = [base for base in kind.__mro__ if base.__module__.startswith("rdknotify")]
    found = {name: value for base in own for name, value in vars(base).items() if not name.startswith("_")}
    return {
        name for name, value in found.items() if callable(value) or isinstance(value, (property, GetSetDescriptorType))
    }


def test_the_reference_has_every_public_name(site: Path) -> None:
    pages = "".join(page.read_text() for page in (site / "reference").glob("*.html"))
    shown = {name.replace(".errors.", ".") for name in re.findall(r'id="(rdknotify\.[\w.]+)"', pages)}
    assert {f"rdknotify.{name}" for name in rdknotify.__all__} <= shown

    kinds = {name: value for name in rdknotify.__all__ if isinstance(value := getattr(rdknotify, name), type)}
    members = {f"rdknotify.{name}.{method}" for name, kind in kinds.items() for method in methods(kind)}
    internal = re.compile(hidden_names())
    assert {name for name in members - shown if not internal.match(name.rpartition(".")[2])} == set()


def hidden_names() -> str:
    """The expression for names that the reference leaves out, as mkdocs.yml has it; and what a class says in words."""
    (found,) = re.findall(r'- "!(\^\(.*)"$', (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    return found.replace("\\\\", "\\") + "|^(" + "|".join((*PRIORITIES, "args", "real", "imag")) + ")$"


def test_the_page_of_the_command_line_is_what_the_commands_say() -> None:
    from rdknotify.cli import pages

    page = (ROOT / "docs" / "command-line.md").read_text()
    assert page == "\n".join(pages.markdown()) + "\n", "python -m rdknotify.cli.pages > docs/command-line.md"


def test_the_diagrams_are_those_of_their_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs" / "_frame")
    from diagrams import DIAGRAMS, FOLDER

    for name, draw in DIAGRAMS.items():
        assert (FOLDER / f"{name}.svg").read_text() == draw().svg(), "python docs/_frame/diagrams.py"
