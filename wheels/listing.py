"""What lies beside the wheels: checksums, the bill of materials, and a table of what is in each."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from wheels.inspection import Wheel

__all__ = ["write"]


def write(dist: Path) -> None:
    """SHA256SUMS, wheels.json and wheels.md of all wheels that are in the folder, and of the sdist."""
    wheels = [Wheel(path) for path in sorted(dist.glob("*.whl"))]
    files = sorted([*dist.glob("*.whl"), *dist.glob("*.tar.gz"), *dist.glob("*.cdx.json")])
    (dist / "SHA256SUMS").write_text("".join(f"{_sha256(path)}  {path.name}\n" for path in files))
    rows = [_row(wheel) for wheel in wheels]
    (dist / "wheels.json").write_text(json.dumps(rows, indent=2) + "\n")
    (dist / "wheels.md").write_text(_table(rows))


def _row(wheel: Wheel) -> dict[str, Any]:
    python = wheel.variant.python
    return {
        "file": wheel.path.name,
        "bytes": wheel.path.stat().st_size,
        "sha256": _sha256(wheel.path),
        "python": f"{python.version} and newer" if python.limited else python.version,
        "platform": wheel.variant.target.name,
        "parts": wheel.bundled.parts,
        "features": wheel.bundled.features,
    }


def _table(rows: list[dict[str, Any]]) -> str:
    lines = ["| wheel | MB | Python | platform | parts | features |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        parts = ", ".join(f"{name} {version}" for name, version in row["parts"].items())
        cells = [f"`{row['file']}`", f"{row['bytes'] / 1e6:.2f}", row["python"], row["platform"]]
        lines.append(f"| {' | '.join([*cells, parts, ', '.join(row['features'])])} |")
    return "\n".join([*lines, ""])


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
