"""Real notifications of OpenStack Nova, for demos, tests and benchmarks; their origin is in README.md beside this."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

__all__ = ["nova_notifications"]


@lru_cache(maxsize=1)
def nova_notifications() -> tuple[dict[str, Any], ...]:
    """140 dicts with ``priority``, ``publisher_id``, ``event_type`` and ``payload``, for all: do not change them."""
    text = files(__name__).joinpath("nova-notifications.jsonl").read_text(encoding="utf-8")
    return tuple(json.loads(line) for line in text.splitlines())
