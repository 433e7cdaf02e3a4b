"""Strategies that vary kept inputs as a fuzzer does: cut, double, overwrite, insert what has broken parsers before."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

TOKENS = (
    b"\0", b"\xff", b"\xed\xa0\x80", b'"', b"\\", b"\\ud800", b"\\u0000", b"{", b"}", b"[" * 50, b"]" * 50, b",", b":",
    b"null", b"NaN", b"-Infinity", b"1e999", b"9" * 40, b"-0", b"0.1", b"true", b"%", b"%00", b"%ff", b"@", b"/", b"?",
    b"#", b"&", b"=", b"[::1]", b":0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff",
    b"\x80\0\0\0", "\u0661é\U0001f600".encode(),
)  # fmt: skip
Edit = tuple[str, int, int, bytes]

_EDITS = st.lists(
    st.tuples(
        st.sampled_from(("cut", "double", "overwrite", "insert")),
        st.integers(0, 1 << 16),
        st.integers(0, 64),
        st.sampled_from(TOKENS) | st.binary(max_size=8),
    ),
    max_size=6,
)


def _edited(data: bytes, edits: Sequence[Edit]) -> bytes:
    for kind, where, length, token in edits:
        at = where % (len(data) + 1)
        piece = data[at : at + length]
        rest = data[at + (len(token) if kind == "overwrite" else 0) :]
        if kind == "cut":
            data = data[:at] + data[at + length :]
        elif kind == "double":
            data = data[:at] + piece + data[at:]
        else:
            data = data[:at] + token + rest
    return data


def variations(corpus: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """The kept inputs, each with up to six edits; also two of them joined."""
    edited = st.builds(_edited, st.sampled_from(corpus), _EDITS)
    return edited | st.builds(lambda one, other: one[: len(one) // 2] + other, edited, edited)
