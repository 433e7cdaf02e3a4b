"""What this installation is made of and runs on, for whoever is asked what is wrong with it."""

from __future__ import annotations

import platform
import sys
import sysconfig
from importlib import import_module, metadata
from typing import Any

from rdknotify import __version__, trust
from rdknotify import _rdknotify as core
from rdknotify.errors import ConfigError

__all__ = ["facts", "lines"]


def facts() -> dict[str, Any]:
    """Each by its name; all of it can be written as JSON."""
    return {
        "rdknotify": __version__,
        "wheel": _wheel(),
        "librdkafka": core.version(),
        "features": list(core.features()),
        "parts": core.parts(),
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "gil": _gil(),
        "platform": platform.platform(),
        "libc": _libc(),
        "certificates": _certificates(),
        "sqlite": _sqlite(),
        "requirements": {name: _requirement(name) for name in ("msgspec", "orjson")},
    }


def lines() -> list[str]:
    """The same to be read."""
    told = facts()
    parts = {name: version for name, version in told["parts"].items() if name != "librdkafka"}
    system = [name for name, version in parts.items() if version == "system"]
    built_in = [f"{name} {version}" for name, version in parts.items() if version != "system"]
    return [
        f"librdkafka {told['librdkafka']} ({', '.join(told['features'])})",
        f"built in: {', '.join(built_in) or 'nothing else'}; the system's: {', '.join(system) or 'none'}",
        f"wheel: {told['wheel']}",
        f"Python {told['python']}, GIL {told['gil']}",
        f"{told['platform']}, {told['libc']}",
        f"certificates: {told['certificates']}",
        ", ".join([f"SQLite {told['sqlite']}", *(f"{name} {its}" for name, its in told["requirements"].items())]),
    ]


def _wheel() -> str:
    """The tags of the wheel that was installed; linux_x86_64 is one that was built on a machine for itself."""
    try:
        found = metadata.distribution("rdknotify").read_text("WHEEL") or ""
    except metadata.PackageNotFoundError:
        found = ""
    tags = [line.removeprefix("Tag: ") for line in found.splitlines() if line.startswith("Tag: ")]
    return ", ".join(tags) or "none"


def _gil() -> str:
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "on"
    if sys._is_gil_enabled():  # type: ignore[attr-defined,unused-ignore]
        return "on in a free-threaded Python, because rdknotify relies on it"
    return "off (PYTHON_GIL=0), which rdknotify cannot bear with several threads"


def _libc() -> str:
    name, version = platform.libc_ver()
    if name:
        return f"{name} {version}"
    # platform tells glibc only, in most Pythons.
    return "musl" if "musl" in str(sysconfig.get_config_var("HOST_GNU_TYPE")) else "unknown"


def _certificates() -> str:
    """Whose are trusted where ``ssl_cafile`` is not set."""
    try:
        store = trust.find("ssl_cafile")
    except ConfigError as error:
        return f"none: {error}"
    return store.file or store.folder or "those that SSL_CERT_FILE and SSL_CERT_DIR name"


def _sqlite() -> str:
    """A CPython may have been compiled without."""
    try:
        return str(import_module("sqlite3").sqlite_version)
    except ImportError:
        return "missing"


def _requirement(name: str) -> str:
    try:
        return str(import_module(name).__version__)
    except ImportError:  # as in a free-threaded Python, for which some have no release
        return "missing"
