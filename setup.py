"""Builds the one extension against the static librdkafka of vendor/; everything declarative is in pyproject.toml."""

import gzip
import os
import shlex
import sys
import sysconfig
import tarfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Distribution, Extension, setup
from setuptools.command.sdist import sdist

sys.path.insert(0, str(Path(__file__).parent))
from vendor.build import build
from vendor.extension import DIRECTIVES, MODULE, SOURCE, STABLE_ABI, compile_flags, link_flags
from vendor.recipe import one_line
from vendor.requirements import for_free_threaded
from vendor.sources import bundle

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


class ForThisPython(Distribution):
    """A wheel requires what its Python can have; an sdist is for all of them."""

    def parse_config_files(self, *args, **options):
        super().parse_config_files(*args, **options)
        if FREE_THREADED and "sdist" not in sys.argv:
            self.install_requires = self.metadata.install_requires = for_free_threaded(self.install_requires)


class SourceDistribution(sdist):
    """An sdist carries the sources of the C libraries, so that it builds without npm."""

    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        with one_line("rdknotify"):
            bundle(Path(base_dir) / "vendor" / "source")

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, owner=None, group=None):
        """The same bytes from the same files, whoever makes it, wherever and whenever."""
        if format != "gztar":
            return super().make_archive(base_name, format, root_dir, base_dir, owner, group)
        time = int(os.environ.get("SOURCE_DATE_EPOCH", 1_577_836_800))  # else that of 2020, which a zip can tell too

        def plain(member):
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime, member.mode = time, 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            return member

        path = Path(f"{base_name}.tar.gz")
        with (
            path.open("wb") as file,
            gzip.GzipFile("", "wb", 9, file, time) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            tar.add(Path(root_dir or ".", base_dir), base_dir, filter=plain)  # sorted
        return str(path)


def extension() -> Extension:
    # Who builds for a debugger, a sanitizer or a packager's debug symbols says so in CFLAGS.
    debug = "-g" in shlex.split(os.environ.get("CFLAGS", ""))
    prefix = build()
    return Extension(
        MODULE,
        [SOURCE],
        extra_compile_args=compile_flags(prefix, debug=debug, limited=limited()),
        extra_link_args=link_flags(prefix, debug=debug),
        py_limited_api=limited(),
    )


def limited() -> bool:
    """Whether one wheel is for many Pythons, as in ``make wheels``; one for this Python alone is a bit faster."""
    asked = os.environ.get("RDKNOTIFY_STABLE_ABI", "") not in ("", "0")
    return asked and sys.version_info >= STABLE_ABI and not FREE_THREADED


NEEDS_EXTENSION = not {"sdist", "egg_info", "dist_info"} & set(sys.argv)
with one_line("rdknotify"):
    extensions = cythonize([extension()], compiler_directives=DIRECTIVES) if NEEDS_EXTENSION else []
# By time stamps, an extension that was linked to another librdkafka in between would count as up to date.
options = {"build_ext": {"force": True}}
if limited():
    options["bdist_wheel"] = {"py_limited_api": "cp{}{}".format(*STABLE_ABI)}
setup(distclass=ForThisPython, ext_modules=extensions, cmdclass={"sdist": SourceDistribution}, options=options)
