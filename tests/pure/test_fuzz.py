"""Bytes of strangers end in typed errors, readers that agree and bounded memory: the targets of ``make fuzz``."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.figures import Figures
from support.mutation import variations

from rdknotify.envelope import decode, decode_flat
from rdknotify.errors import EnvelopeError
from reliability.fuzz import NEED_EXTENSION, TARGETS, corpus

EXAMPLES = 150
HERE = [name for name in TARGETS if name not in NEED_EXTENSION or find_spec("rdknotify._rdknotify")]


@pytest.mark.parametrize("name", HERE)
def test_what_is_kept(name: str) -> None:
    for data in corpus(name):
        TARGETS[name](data)


@pytest.mark.parametrize("name", HERE)
def test_what_is_like_it(name: str, figure: Figures) -> None:
    tried = 0

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
    @given(variations(corpus(name)) | st.binary(max_size=200))
    def check(data: bytes) -> None:
        nonlocal tried
        tried += 1
        TARGETS[name](data)

    check()
    figure("S", f"inputs varied for {name}, none breaks it", tried, at_least=EXAMPLES)


@pytest.mark.parametrize(
    "depth", [100, 253, 254, 255, 500, 900, 960, 980, 990, 1000, 1023, 1024, 1025, 5000, 1_000_000]
)
@pytest.mark.parametrize("form", ["[{}]", '{{"a":{}}}'])
def test_depth_is_an_envelope_or_poison(depth: int, form: str) -> None:
    left, right = form.format("\0").replace("{{", "{").replace("}}", "}").split("\0")
    text = json.dumps({"message_id": "m", "publisher_id": "p", "event_type": "e", "priority": "i", "timestamp": "t"})
    inner = text[:-1] + ',"payload":' + left * depth + "1" + right * depth + "}"
    TARGETS["envelope"](json.dumps({"oslo.version": "2.0", "oslo.message": inner}).encode())
    TARGETS["rows"](inner.encode())


TEN_MB = 10_000_000
GIANTS = {
    "one text": b'"' + b"x" * TEN_MB + b'"',
    "one number": b"9" * TEN_MB,
    "brackets": b"[" * TEN_MB,
    "numbers": b"[" + b"1," * (TEN_MB // 2) + b"1]",
    "objects": b"[" + b"{}," * (TEN_MB // 3) + b"{}]",
    "names": b"{" + b",".join(b'"%d":0' % number for number in range(TEN_MB // 12)) + b"}",
    "backslashes": b'"' + b"\\n" * (TEN_MB // 2) + b'"',
}


@pytest.mark.parametrize("name", GIANTS)
def test_memory_is_bounded_by_what_was_sent(name: str, figure: Figures) -> None:
    head = b'{"message_id":"m","publisher_id":"p","event_type":"e","priority":"i","timestamp":"t","payload":'
    inner = json.dumps((head + GIANTS[name] + b"}").decode()).encode()
    value = b'{"oslo.version":"2.0","oslo.message":' + inner + b"}"
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _memory("VmRSS")
    for read in (decode, decode_flat):
        with suppress(EnvelopeError):
            read(value)
    grown = (_memory("VmHWM") - before) / len(value)
    figure("S", f"memory for each byte of a hostile envelope: {name}", grown, "bytes", at_most=50)


def _memory(which: str) -> int:
    found = re.search(rf"^{which}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024
