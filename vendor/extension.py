"""How the extension is compiled and linked against a prefix of vendor/build.py: by setup.py, and by wheels/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vendor.build import INFO
from vendor.recipe import HERE

MODULE = "rdknotify._rdknotify"
SOURCE = "src/_rdknotify.pyx"
STABLE_ABI = (3, 11)
"""The first CPython whose stable ABI has all that the core needs, which is buffers; free-threaded ones have none."""
# No pickling: these objects are handles. No signatures in docstrings: the stub has them.
DIRECTIVES = {"language_level": 3, "binding": True, "auto_pickle": False, "embedsignature": False}


def information(prefix: Path) -> dict[str, Any]:
    """What is in the library, and what is to be linked with it."""
    found: dict[str, Any] = json.loads((prefix / INFO).read_text())
    return found


def compile_flags(prefix: Path, *, debug: bool = False, limited: bool = False) -> list[str]:
    """For the C file that Cython makes; a debugger's, a sanitizer's or a packager's own flags come after them.

    ``limited``: by the stable ABI, for many Pythons.
    """
    parts = " ".join(f"{name}={version}" for name, version in information(prefix)["parts"].items())
    optimised = [] if debug else ["-O3", "-g0"]
    macros = ["-DPy_LIMITED_API=0x{:02x}{:02x}0000".format(*STABLE_ABI)] if limited else []
    return [*optimised, *macros, "-fvisibility=hidden", f"-I{prefix / 'include'}", f'-DRDKNOTIFY_PARTS="{parts}"']


def link_flags(prefix: Path, *, debug: bool = False) -> list[str]:
    """For the extension's object; they come after it, and a user's own LDFLAGS."""
    info = information(prefix)
    flags = [str(prefix / "lib" / archive) for archive in info["archives"]]
    flags += [f"-L{folder}" for folder in info["library_dirs"]]
    if "darwin" in info["target"]:
        frameworks = ("SystemConfiguration", "CoreFoundation")  # by which curl asks for proxies
        flags += [word for name in frameworks for word in ("-framework", name) if "curl" in info["parts"]]
        return [*flags, *(f"-l{name}" for name in info["libraries"]), "-Wl,-exported_symbol,_PyInit__rdknotify"]
    flags += ["-Wl,--as-needed", *(f"-l{name}" for name in info["libraries"])]
    # A version script, because it leaves one symbol whatever the archives' own visibility and the linker are.
    return [*flags, f"-Wl,--version-script={HERE / 'native' / 'exports.map'}", *([] if debug else ["-s"])]
