"""JSON by orjson; by msgspec where there is no orjson, as for a free-threaded CPython. Either gives the same objects.

``dumps`` raises TypeError for what the standard library must write, ``loads`` ValueError for what it must read, or
what is no JSON. NaN and infinity become null. Compact, UTF-8; only exponents look different (``1e+16``, ``1e16``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

__all__ = ["PASS", "dumps", "loads"]

_PLAIN = frozenset({str, int, float, bool, type(None)})
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def plain_dumps(value: Any, default: Callable[[Any], Any] | None = None, option: int | None = None) -> bytes:
    """JSON of what has JSON's own types only; msgspec has forms of its own for the others, which are not ours."""
    try:
        if type(value) is not str and not _plain((value,)):
            raise TypeError("not of JSON's own types only")
        return _encode(value)
    except (RecursionError, UnicodeError) as error:  # too deep, or a lone surrogate
        raise TypeError(str(error)) from None


def plain_loads(text: bytes | bytearray | memoryview | str) -> Any:
    try:
        return _decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _plain(values: Iterable[Any]) -> bool:
    for value in values:
        kind = type(value)
        if kind in _PLAIN:
            continue
        if kind is dict:
            for key in value:
                if type(key) is not str:
                    return False
            if not _plain(value.values()):
                return False
        elif (kind is not list and kind is not tuple) or not _plain(value):
            return False
    return True


PASS = 0
"""The option by which ``dumps`` hands datetimes and dataclasses to ``default``, or refuses them."""
dumps: Callable[..., bytes] = plain_dumps
loads: Callable[[bytes | bytearray | memoryview | str], Any] = plain_loads

try:
    import orjson
except ImportError:
    pass
else:
    PASS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
    dumps, loads = orjson.dumps, orjson.loads
