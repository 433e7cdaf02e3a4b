"""Builds the one extension against the static librdkafka of vendor/; everything declarative is in pyproject.toml."""

import json
import os
import sys
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.sdist import sdist

sys.path.insert(0, str(Path(__file__).parent / "vendor"))
import build as librdkafka


class SourceDistribution(sdist):
    """An sdist carries the sources of the C libraries, so that it builds without npm."""

    def run(self):
        for name in ("librdkafka", "zstd"):
            librdkafka.fetch(name, librdkafka.HERE / "source")
        super().run()


def extension() -> Extension:
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        raise librdkafka.BuildError(
            "Python's headers are missing: install python3-dev (Debian, Ubuntu) or python3-devel (Fedora)"
        )
    prefix = librdkafka.build()
    info = json.loads((prefix / librdkafka.INFO).read_text())
    root = Path(__file__).parent
    archives = [os.path.relpath(archive, root) for archive in (prefix / "lib").glob("*.a")]
    return Extension(
        "rdknotify._rdknotify",
        ["src/_rdknotify.pyx"],
        include_dirs=[os.path.relpath(prefix / "include", root)],
        extra_objects=archives,
        libraries=info["libraries"],
        library_dirs=info["library_dirs"],
        extra_compile_args=["-O3", "-g0", "-fvisibility=hidden"],
        extra_link_args=["-Wl,--exclude-libs,ALL", "-s"] if sys.platform == "linux" else [],
        depends=[*archives, *(str(path.relative_to(root)) for path in (root / "src").glob("core/*.pxi"))],
    )


# No pickling: these objects are handles. No signatures in docstrings: the stub has them.
DIRECTIVES = {"language_level": 3, "binding": True, "auto_pickle": False, "embedsignature": False}
NEEDS_EXTENSION = not {"sdist", "egg_info", "dist_info"} & set(sys.argv)
try:
    extensions = cythonize([extension()], compiler_directives=DIRECTIVES) if NEEDS_EXTENSION else []
    setup(ext_modules=extensions, cmdclass={"sdist": SourceDistribution})
except librdkafka.BuildError as error:
    sys.exit(f"rdknotify: {error}")
