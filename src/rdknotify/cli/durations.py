"""Times as people write them: durations as ``7d``, moments as ``10 minutes ago``."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import click

__all__ = ["DURATION", "MOMENT", "duration", "in_words", "moment"]

_SECONDS = {
    "ms": 0.001, "s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600,
    "d": 86400, "day": 86400, "w": 604800, "week": 604800,
}  # fmt: skip
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)[\s,]*")
_DURATION = "write it as 90s, 10 minutes, 2h or 7d"
_MOMENT = "write it as '10 minutes ago', 'yesterday', '14:30', '2026-11-22 14:30' or '2026-11-22T14:30:00Z'"


def duration(text: str) -> float:
    """Seconds. Raises ValueError that says how to write it."""
    left, seconds = text.strip().lower(), 0.0
    while left:
        part = _PART.match(left)
        unit = None if part is None else _SECONDS.get(part[2]) or _SECONDS.get(part[2].removesuffix("s"))
        if part is None or unit is None:
            raise ValueError(f"{text!r} is no duration: {_DURATION}")
        seconds += float(part[1]) * unit
        left = left[part.end() :]
    if not text.strip():
        raise ValueError(f"{text!r} is no duration: {_DURATION}")
    return seconds


def moment(text: str) -> float:
    """Seconds since the epoch; without a zone the local time is meant. Raises ValueError that says how to write it."""
    plain = text.strip().lower()
    today = datetime.now().replace(hour=0, minute=0, second=0, microsecond=0)
    days = {"now": datetime.now(), "today": today, "yesterday": today - timedelta(days=1)}
    if plain in days:
        return days[plain].timestamp()
    try:
        if plain.endswith("ago"):
            return time.time() - duration(plain.removesuffix("ago"))
        if clock := re.fullmatch(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", plain):
            return today.replace(hour=int(clock[1]), minute=int(clock[2]), second=int(clock[3] or 0)).timestamp()
        # fromisoformat knows Z since Python 3.11 only.
        return datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text.strip())).timestamp()
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{text!r} is no time: {_MOMENT}") from None


def in_words(seconds: float) -> str:
    """As a person would say it, by its two largest units: ``7 days``, ``1 h 5 min``, ``0.2 s``."""
    if seconds < 1:
        return f"{seconds:.2g} s"
    words, left = [], round(seconds)
    for size, unit, plural in ((86400, "day", "days"), (3600, "h", "h"), (60, "min", "min"), (1, "s", "s")):
        count, left = divmod(left, size)
        if count:
            words.append(f"{count:,} {unit if count == 1 else plural}")
        elif words:
            break  # the next one would be too fine
    return " ".join(words[:2])


class _Time(click.ParamType):  # type: ignore[type-arg]  # older clicks have no generic one
    """A parameter's type that reads with one of these."""

    def __init__(self, name: str, read: Callable[[str], float]) -> None:
        self.name, self._read = name, read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return value if isinstance(value, float) else self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = _Time("duration", duration)
"""For click: seconds."""
MOMENT = _Time("time", moment)
"""For click: seconds since the epoch."""
