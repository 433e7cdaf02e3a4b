"""recipe.json, and how all of vendor/ says that something is missing or wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RECIPE: dict[str, Any] = json.loads((HERE / "recipe.json").read_text())
PARTS = [name for name, part in RECIPE.items() if isinstance(part, dict)]
BUILD = HERE.parent / "build"


class BuildError(Exception):
    """Something is missing or wrong; the text says what to do."""


@contextmanager
def one_line(program: str) -> Iterator[None]:
    """Where something is missing, the disk is full or Ctrl-C is hit, end the program with one line, not a traceback."""
    try:
        yield
    except (BuildError, OSError) as error:
        sys.exit(f"{program}: {error}")
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(130)


def move(source: Path, target: Path) -> None:
    """Put a finished folder in place; if another build was faster, its is as good."""
    try:
        source.rename(target)
    except OSError:
        if not target.exists():
            raise
