"""The shape of the project: who may import whom, how long a file may be, what the extension shows to the world.

The layers are read out of the table in docs/design.md, so that the page cannot lie.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "rdknotify"
CORE = "_rdknotify"
CORE_LAYER = 1.5
"""Above the pure modules, which therefore cannot import it. It knows the words of layer 0 only."""

CEILINGS = {".py": 600, ".pyi": 600, ".pxi": 600, ".pxd": 600, ".pyx": 1200, ".c": 600}
HOSTS = {"github.com", "host", "maven.apache.org", "semver.org", "www.apache.org"}
"""The addresses that our pages and programs mention. A mirror or a registry of one machine is not among them."""


def layers() -> dict[str, float]:
    """The layer of each module and sub-package of rdknotify, by the table in docs/design.md."""
    rows = re.findall(r"^\| (\d?) ?\| (`.+?) \|", (ROOT / "docs" / "design.md").read_text(), re.MULTILINE)
    return {
        name.rstrip("/"): float(layer) if layer else CORE_LAYER
        for layer, names in rows
        for name in re.findall(r"`([\w/]+)`", names)
    }


def python_modules() -> dict[str, Path]:
    """Dotted name below rdknotify -> file. The package itself is left out: it loads the public names on first use."""
    paths = {path.relative_to(PACKAGE): path for path in PACKAGE.rglob("*.py")}
    names = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    return {name: paths[path] for name, path in names.items() if name not in ("__init__", "__main__")}


def imports(path: Path) -> Iterator[str]:
    """The modules of rdknotify that a file imports, wherever in the file."""
    modules = {*python_modules(), CORE}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name} imports relatively; write the whole name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, inner = name.partition(".")
            while package == "rdknotify" and inner:
                if inner in modules:
                    yield inner
                    break
                inner = inner.rpartition(".")[0]


def core_imports() -> set[str]:
    parts = [ROOT / "src" / "_rdknotify.pyx", *(ROOT / "src" / "core").glob("*.pxi")]
    found = (re.findall(r"^\s*(?:from|import) rdknotify\.(\w+)", path.read_text(), re.MULTILINE) for path in parts)
    return {name for names in found for name in names}


def top(module: str) -> str:
    return module.partition(".")[0]


def test_the_table_of_layers_names_exactly_the_modules_that_exist() -> None:
    assert set(layers()) == {*map(top, python_modules()), CORE}


def test_no_module_imports_from_a_higher_layer() -> None:
    layer = layers()
    upward = [
        f"{module} (layer {layer[top(module)]:g}) imports {imported} (layer {layer[top(imported)]:g})"
        for module, path in python_modules().items()
        for imported in imports(path)
        if layer[top(imported)] > layer[top(module)]
    ]
    assert not upward


def test_the_core_knows_only_the_words_that_everybody_shares() -> None:
    found = core_imports()
    assert "errors" in found
    assert {name for name in found if layers()[name] > 0} == set()


def test_imports_go_in_no_circle() -> None:
    graph = {module: set(imports(path)) - {module} for module, path in python_modules().items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, naming the circle


def written_files() -> list[Path]:
    """Every file that somebody wrote, in a checkout or in an sdist."""
    folders = ("src", "tests", "vendor", "benchmarks", "docs", "examples", ".ci")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    made = (ROOT / "vendor" / "source", ROOT / "src" / "_rdknotify.c", ROOT / "src" / "rdknotify.egg-info")
    ours = [path for path in files if not any(path.is_relative_to(folder) for folder in made)]
    return [path for path in ours if path.suffix not in (".so", ".pyc")]


def test_no_file_is_too_long() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in written_files() if path.suffix in CEILINGS}
    assert len(lengths) > 50
    assert {
        str(path.relative_to(ROOT)): length for path, length in lengths.items() if length > CEILINGS[path.suffix]
    } == {}


def test_only_well_known_hosts_are_mentioned() -> None:
    texts = {path: path.read_text() for path in written_files() if path.suffix != ".jsonl"}
    hosts = {(host, path.name) for path, text in texts.items() for host in re.findall(r"https?://([\w.-]+)", text)}
    assert {(host, name) for host, name in hosts if host not in HOSTS} == set()


@pytest.fixture
def extension() -> Path:
    return Path(pytest.importorskip("rdknotify._rdknotify").__file__)


@pytest.mark.usefixtures("extension")
class TestTheExtension:
    def test_it_exports_its_init_function_and_nothing_else(self, extension: Path) -> None:
        assert shutil.which("nm"), "nm is missing: install binutils"
        command = ["nm", "-D", "--defined-only", "--format=posix", str(extension)]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        assert [line.split()[0] for line in lines] == ["PyInit__rdknotify"]

    def test_it_carries_the_librdkafka_of_the_recipe_with_all_features(self) -> None:
        import rdknotify
        from rdknotify import _rdknotify

        if chosen := {"RDKNOTIFY_LIBRDKAFKA", "RDKNOTIFY_LIBRDKAFKA_SRC", "RDKNOTIFY_WITHOUT"} & set(os.environ):
            pytest.skip(f"built with {', '.join(chosen)}")
        recipe = json.loads((ROOT / "vendor" / "recipe.json").read_text())
        assert _rdknotify.version() == recipe["librdkafka"]["version"]
        compression = {"gzip", "snappy", "lz4", "zstd"}
        security = {"ssl", "sasl", "sasl_plain", "sasl_scram", "sasl_oauthbearer"}
        assert compression | security <= set(rdknotify.features())
