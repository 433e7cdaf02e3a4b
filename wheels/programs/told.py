"""Run in the environment of a wheel: what this Python and the core of the wheel say of themselves, as JSON."""

import json
import os
import platform
import sys

from rdknotify import _rdknotify

gil = getattr(sys, "_is_gil_enabled", lambda: True)()
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
except (OSError, ValueError):
    libc = "musl"
told = {"core": _rdknotify.__file__, "parts": _rdknotify.parts(), "python": platform.python_version()}
print(json.dumps({**told, "machine": platform.machine(), "libc": libc, "gil": "on" if gil else "off"}))
