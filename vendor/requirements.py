"""What rdknotify requires of a free-threaded CPython, which no marker in pyproject.toml can tell from another one."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["for_free_threaded"]

WITHOUT = {"orjson"}
"""They have no release for it; rdknotify.fast_json does without."""


def for_free_threaded(requirements: Iterable[str]) -> list[str]:
    """Those of the requirements ("orjson>=3.10") that can be met there."""
    return [line for line in requirements if re.split(r"[^\w.-]", line, maxsplit=1)[0] not in WITHOUT]
