"""Docstrings as the reference shows them: roles become links, literal blocks become programs."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|meth|func|attr|data|exc|mod):`(?:(?P<text>[^`<]+) <)?(?P<short>~?)(?P<path>[\w.]+)>?`")
_LITERAL = re.compile(r"(?m)^( *)::\n\n((?:\1    .*\n|\s*\n)+)")


class Docstrings(griffe.Extension):
    """Rewrites each docstring when it is found."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            text = _LITERAL.sub(_program, obj.docstring.value + "\n").rstrip("\n")
            obj.docstring.value = _ROLE.sub(_link, text)


def _program(found: re.Match[str]) -> str:
    indent, text = found.groups()
    lines = [line.removeprefix(f"{indent}    ") for line in text.rstrip().splitlines()]
    language = "text" if "──" in text else "python"
    return "\n".join([f"{indent}```{language}", *(f"{indent}{line}" for line in lines), f"{indent}```", ""])


def _link(found: re.Match[str]) -> str:
    """To where the reference has it, if it does."""
    path = found["path"]
    name = found["text"] or (path.rpartition(".")[2] if found["short"] else path)
    return f'<autoref identifier="{path}" optional><code>{name}</code></autoref>' if "." in path else f"`{name}`"
