"""The shape of the project: who may import whom, how long a file may be, what the extension shows to the world.

The layers are read out of the table in docs/design.md, so that the page cannot lie.
"""

from __future__ import annotations

import ast
import inspect
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
HOSTS = {
    *("127.0.0.1", "localhost", "host"),
    *("github.com", "maven.apache.org", "semver.org", "www.apache.org", "www.w3.org"),
}
"""The addresses that our pages and programs mention. A mirror or a registry of one machine is not among them."""


def layers() -> dict[str, float]:
    """The layer of each module and sub-package of rdknotify, by the table in docs/design.md."""
    rows = re.findall(r"^\| (\d?) ?\| (`.+?) \|", (ROOT / "docs" / "design.md").read_text(), re.MULTILINE)
    return {
        name.rstrip("/"): float(layer) if layer else CORE_LAYER
        for layer, names in rows
        for name in re.findall(r"`([\w/]+)`", names)
    }


def python_modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Dotted name below rdknotify -> file. The package itself is left out: it loads the public names on first use."""
    paths = {path.relative_to(package): path for path in package.rglob("*.py")}
    names = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    return {name: paths[path] for name, path in names.items() if name not in ("__init__", "__main__")}


def imports(path: Path, modules: set[str]) -> Iterator[str]:
    """Those of rdknotify's modules that a file imports, wherever in the file."""
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


def import_graph(package: Path = PACKAGE) -> dict[str, set[str]]:
    modules = python_modules(package)
    return {name: set(imports(path, {*modules, CORE})) - {name} for name, path in modules.items()}


def upward(graph: dict[str, set[str]], layer: dict[str, float]) -> list[str]:
    """The imports that go from a lower layer to a higher one."""

    def height(module: str) -> float:
        return layer[module.partition(".")[0]]

    return [
        f"{module} (layer {height(module):g}) imports {imported} (layer {height(imported):g})"
        for module, below in graph.items()
        for imported in sorted(below)
        if height(imported) > height(module)
    ]


def core_imports(source: Path = ROOT / "src") -> set[str]:
    """The modules of rdknotify that the core imports, wherever in its parts."""
    parts = [*source.glob("*.pyx"), *source.glob("core/*.pxi")]
    found = (re.findall(r"^\s*(?:from|import) rdknotify\.(\w+)", path.read_text(), re.MULTILINE) for path in parts)
    return {name for names in found for name in names}


def test_the_table_of_layers_names_exactly_the_modules_that_exist() -> None:
    assert set(layers()) == {*(name.partition(".")[0] for name in python_modules()), CORE}


def test_no_module_imports_from_a_higher_layer() -> None:
    assert upward(import_graph(), layers()) == []


def test_the_core_knows_only_the_words_that_everybody_shares() -> None:
    found = core_imports()
    assert "errors" in found
    assert {name for name in found if layers()[name] > 0} == set()


def test_imports_go_in_no_circle() -> None:
    TopologicalSorter(import_graph()).prepare()  # raises CycleError, naming the circle


def test_a_wrong_import_would_be_seen(tmp_path: Path) -> None:
    planted = {
        "errors.py": "import rdknotify.sinks.sqlite",
        "url.py": "from rdknotify import _rdknotify, errors",
        "client.py": "def late():\n    from rdknotify.url import TransportURL",
        "cli.py": "import json, os.path",
        "sinks/__init__.py": "",
        "sinks/sqlite.py": "from rdknotify.cli import main",
    }
    for name, text in planted.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    graph = import_graph(tmp_path)
    assert graph["client"] == {"url"}
    assert graph["cli"] == set()
    assert sorted(upward(graph, layers())) == [
        "errors (layer 0) imports sinks.sqlite (layer 3)",
        "sinks.sqlite (layer 3) imports cli (layer 4)",
        "url (layer 1) imports _rdknotify (layer 1.5)",
    ]
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "part.pxi").write_text("cdef int f():\n    from rdknotify.options import resolve\n")
    assert core_imports(tmp_path) == {"options"}


def written_files() -> list[Path]:
    """Every file that somebody wrote, in a checkout or in an sdist."""
    folders = ("src", "tests", "vendor", "wheels", "benchmarks", "reliability", "docs", "examples", ".ci", ".github")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    made = (ROOT / "vendor" / "source", ROOT / "src" / "_rdknotify.c", ROOT / "src" / "rdknotify.egg-info")
    ours = [path for path in files if not any(path.is_relative_to(folder) for folder in made)]
    return [path for path in ours if path.suffix not in (".so", ".pyc")]


def type_checked_names() -> list[str]:
    """The names that the package imports for type checkers only."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    return [alias.name for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names]


def too_long(paths: list[Path]) -> dict[str, int]:
    lengths = {path: len(path.read_text().splitlines()) for path in paths if path.suffix in CEILINGS}
    return {path.name: length for path, length in lengths.items() if length > CEILINGS[path.suffix]}


def test_no_file_is_too_long(tmp_path: Path) -> None:
    files = written_files()
    assert len(files) > 50
    assert too_long(files) == {}

    planted = [tmp_path / "core.pyx", tmp_path / "part.pxi", tmp_path / "long.py"]
    for path in planted:
        path.write_text("\n" * 601)
    assert too_long(planted) == {"part.pxi": 601, "long.py": 601}


def test_only_well_known_hosts_are_mentioned() -> None:
    texts = {path: path.read_text() for path in written_files() if path.suffix not in (".jsonl", ".png")}
    address = re.compile(r"https?://(?:\w+:\w+@)?([\w.-]+)")
    hosts = {(host, path.name) for path, text in texts.items() for host in address.findall(text)}
    assert {(host, name) for host, name in hosts if host not in HOSTS} == set()


@pytest.fixture
def extension() -> Path:
    return Path(pytest.importorskip("rdknotify._rdknotify").__file__)


def exported(library: Path) -> list[str]:
    """The dynamic symbols that a shared library defines."""
    assert shutil.which("nm"), "nm is missing: install binutils"
    command = ["nm", "-D", "--defined-only", "--format=posix", str(library)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted(line.split()[0] for line in lines)


@pytest.mark.usefixtures("extension")
class TestTheExtension:
    def test_it_exports_its_init_function_and_nothing_else(self, extension: Path, tmp_path: Path) -> None:
        assert exported(extension) == ["PyInit__rdknotify"]

        (tmp_path / "leak.c").write_text("int PyInit_leak(void) { return 0; }\nint rd_kafka_leaked;\n")
        command = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-nostdlib", "leak.c", "-o", "leak.so"]
        subprocess.run(command, cwd=tmp_path, check=True)
        assert set(exported(tmp_path / "leak.so")) >= {"PyInit_leak", "rd_kafka_leaked"}

    def test_all_public_names_load_and_say_what_they_are(self) -> None:
        import rdknotify

        assert sorted(rdknotify.__all__) == sorted(type_checked_names())
        assert set(rdknotify._HOME_OF) <= set(rdknotify.__all__) <= set(dir(rdknotify))
        for name in rdknotify.__all__:
            documented = inspect.getdoc(getattr(rdknotify, name))
            assert documented, f"rdknotify.{name} has no docstring"
            # What dataclass and NamedTuple write where there is none.
            assert not documented.startswith(f"{name}("), f"rdknotify.{name} has no docstring of its own"
        with pytest.raises(AttributeError, match="no_such_name"):
            rdknotify.no_such_name  # noqa: B018

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
