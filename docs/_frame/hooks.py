"""What the site shows of the repository outside docs/: a few pages, and the files that pages link to.

GitHub follows a link to ``../examples/hybrid/``; here it leads to a page that shows these files.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
BROUGHT = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
    "vendor/README.md": "vendor.md",
    "vendor/LICENSES.md": "licences.md",
}
"""Pages from outside docs/ with their place in the site."""
ELSEWHERE = {"README.md": "index.md", "docs/README.md": "index.md"}
LANGUAGES = {".py": "python", ".conf": "ini", ".yml": "yaml", ".yaml": "yaml", ".json": "json", ".service": "ini"}

_CODE_IN_TABLE = re.compile(r"(?m)(?<=[^`])`[^`\n]*\\\|[^`\n]*`(?=.*\|$)")
_LINK = re.compile(r"(\]\()(?!\w+:|#)([^)#\s]+)((?:#[^)\s]*)?\))")
_origins: dict[str, str] = {}
"""Of each page that is made here, the file in the repository that its links are relative to."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that come from outside, and one for each file that a page links to."""
    for path, uri in BROUGHT.items():
        _add(files, config, uri, path, (ROOT / path).read_text())
    pages = [(file.src_uri, file.content_string) for file in files.documentation_pages()]
    for uri, text in pages:
        for target in _targets(uri, text):
            shown = _place(target)
            if shown.startswith("source/") and files.get_file_from_path(shown) is None and (ROOT / target).exists():
                _add(files, config, shown, target, _source_page(target))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to where the site has what they name."""
    here = page.file.src_uri

    def moved(link: re.Match[str]) -> str:
        target = _repository_path(here, link[2])
        if target.startswith("docs/") and here not in _origins:
            return link[0]
        return f"{link[1]}{posixpath.relpath(_place(target), posixpath.dirname(here) or '.')}{link[3]}"

    if here.startswith("source/"):
        return markdown
    # In a table GitHub wants a bar escaped in code too, the site shows the backslash.
    return _CODE_IN_TABLE.sub(lambda code: code[0].replace(r"\|", "|"), _LINK.sub(moved, markdown))


def _add(files: Files, config: MkDocsConfig, uri: str, path: str, text: str) -> None:
    _origins[uri] = path
    files.append(File.generated(config, uri, content=text))


def _targets(uri: str, text: str) -> Iterator[str]:
    yield from (_repository_path(uri, link[2]) for link in _LINK.finditer(text))


def _repository_path(uri: str, link: str) -> str:
    """The file in the repository that a link of a page means."""
    origin = _origins.get(uri, f"docs/{uri}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))


def _place(target: str) -> str:
    """Where the site has a file of the repository."""
    if target in ELSEWHERE:
        return ELSEWHERE[target]
    return target.removeprefix("docs/") if target.startswith("docs/") else BROUGHT.get(target, f"source/{target}.md")


def _source_page(target: str) -> str:
    path = ROOT / target
    found = [Path(folder) / name for folder, _, names in os.walk(path) for name in names] if path.is_dir() else [path]
    shown = sorted(file for file in found if "__pycache__" not in file.parts)
    return f"# {target}\n\n" + "\n".join(_shown(file, path) for file in shown)


def _shown(file: Path, top: Path) -> str:
    heading = "" if file == top else f"## {file.relative_to(top)}\n\n"
    return f"{heading}````{LANGUAGES.get(file.suffix, 'text')}\n{file.read_text()}````\n"


def on_config(config: MkDocsConfig, **_: Any) -> MkDocsConfig:
    """Begin anew, for a server that builds again and again."""
    _origins.clear()
    return config
