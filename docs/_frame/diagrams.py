"""The diagrams of docs/concepts.md: `python docs/_frame/diagrams.py` writes docs/images/concepts/.

Each is as wide as a phone, and brings its ground and its colours for light and dark, so that it can be read wherever
it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "images" / "concepts"
WIDTH = 400
STYLE = """
  .ground { fill: #f6f8f9 } text { fill: #1d2b33; font: 13px system-ui, sans-serif } .small { font-size: 11.5px }
  .box { fill: #fff; stroke: #62757f } .ours { fill: #d5efec; stroke: #00796b } .bad { fill: #fde3dd; stroke: #b23c17 }
  .line { stroke: #62757f; fill: none; stroke-width: 1.4 } .head { fill: #62757f }
  .name, .word { font-weight: 600 } .word { font-size: 11px }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #252a33 } text { fill: #e4e9ec } .box { fill: #323945; stroke: #93a4ae }
    .ours { fill: #0f4f49; stroke: #4db6ac } .bad { fill: #5d2b1c; stroke: #ff8a65 }
    .line { stroke: #93a4ae } .head { fill: #93a4ae }
  }
"""


class Diagram:
    """Boxes, arrows and words on a ground; lengths are pixels at full size."""

    def __init__(self, height: int, title: str) -> None:
        self._head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">\n'
            f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n"
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto">'
            '<path class="head" d="M0 0 8 4 0 8z"/></marker></defs>\n'
            f'<rect class="ground" width="{WIDTH}" height="{height}" rx="8"/>\n'
        )
        self._parts: list[str] = []

    def box(
        self, x: int, y: int, width: int, height: int, lines: Sequence[str], kind: str = "box", first: str = "name"
    ) -> None:
        """A box with its lines in the middle, the first one bold unless it is empty."""
        self._parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="5"/>')
        shown = [(line, "small" if number else first) for number, line in enumerate(lines) if line]
        top = y + height / 2 - 8 * (len(shown) - 1) + 4.5
        for number, (line, style) in enumerate(shown):
            self.text(x + width / 2, top + 16 * number, line, style, "middle")

    def text(self, x: float, y: float, line: str, style: str = "small", anchor: str = "start") -> None:
        self._parts.append(f'<text class="{style}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(line)}</text>')

    def arrow(self, *points: tuple[int, int]) -> None:
        path = " ".join(f"{x},{y}" for x, y in points)
        self._parts.append(f'<polyline class="line" points="{path}" marker-end="url(#head)"/>')

    def svg(self) -> str:
        return self._head + "\n".join(self._parts) + "\n</svg>\n"


def topics() -> Diagram:
    it = Diagram(300, "A notification's topic and priority make the topic's name; a topic is a few logs")
    it.box(100, 14, 200, 44, ["Notifier", 'topics=["notifications"]'], "ours")
    it.arrow((150, 58), (105, 106))
    it.arrow((250, 58), (295, 106))
    it.text(44, 82, "info(...)")
    it.text(290, 82, "error(...)")
    for x, name in ((14, "notifications.info"), (206, "notifications.error")):
        it.box(x, 108, 180, 146, [])
        it.text(x + 90, 128, name, "name", "middle")
        for partition in range(3):
            y = 140 + 36 * partition
            it.text(x + 10, y + 18, str(partition))
            for record in range(5 - (partition + (x > 100)) % 3):
                it.box(x + 26 + 28 * record, y, 25, 26, [])
    it.text(200, 280, "partitions 0, 1, 2: each a log with an order of its own", anchor="middle")
    return it


def groups() -> Diagram:
    it = Diagram(330, "Each pool gets every notification; the members of a pool share the partitions")
    it.box(14, 14, 372, 84, [])
    it.text(200, 34, "notifications.info", "name", "middle")
    centres = []
    for partition in range(4):
        x = 30 + 88 * partition
        it.box(x, 46, 76, 40, ["", f"partition {partition}"])
        centres.append(x + 38)
    it.box(14, 200, 226, 96, [])
    it.text(127, 286, 'pool="billing"', "name", "middle")
    it.box(26, 212, 96, 50, ["member 1", "0 and 1"], "ours")
    it.box(132, 212, 96, 50, ["member 2", "2 and 3"], "ours")
    it.box(252, 200, 134, 96, [])
    it.text(319, 286, 'pool="audit"', "name", "middle")
    it.box(264, 212, 110, 50, ["member", "0, 1, 2 and 3"], "ours")
    for number, x in enumerate(centres):
        it.arrow((x, 86), ((46, 92, 160, 200)[number], 210))
        it.arrow((x, 86), ((286, 306, 330, 356)[number], 210))
    it.text(200, 316, "each pool has its own place in each partition", anchor="middle")
    return it


def outcomes() -> Diagram:
    it = Diagram(314, "Every record ends in one of three outcomes")
    it.box(110, 14, 180, 32, ["send, notify_batch"], "ours")
    it.arrow((200, 46), (200, 74))
    it.box(60, 76, 280, 44, ["in flight", "tried again for delivery_timeout, no twins"])
    it.arrow((76, 120), (58, 178))
    it.arrow((170, 120), (170, 178))
    it.arrow((300, 120), (314, 178))
    it.text(74, 154, "acknowledged", anchor="start")
    it.text(178, 154, "never arrived")
    it.text(318, 154, "no answer")
    it.box(8, 180, 94, 58, ["DELIVERED", "on the log"], "ours", "word")
    it.box(110, 180, 120, 58, ["NOT_PERSISTED", "not on the log"], first="word")
    it.box(238, 180, 154, 58, ["POSSIBLY_PERSISTED", "perhaps on the log"], "bad", "word")
    for x, lines in (
        (55, ("done",)),
        (170, ("safe to", "send again")),
        (315, ("sent again it may be twice:", "drop the twin by its id")),
    ):
        it.arrow((x, 238), (x, 264))
        for number, line in enumerate(lines):
            it.text(x, 282 + 16 * number, line, anchor="middle")
    return it


def settle() -> Diagram:
    it = Diagram(344, "When the offset is committed decides what a crash means")
    rows = (
        (14, 'settle="before"', ("read", "commit", "endpoint"), 2, "a crash here: not seen again"),
        (118, 'settle="after"', ("read", "endpoint", "commit"), 1, "a crash here: seen again, nothing lost"),
        (222, "Persister", ("read", "rows + offset", "commit"), 1, "a crash here: neither, or both"),
    )
    for y, name, steps, crash, means in rows:
        it.text(14, y + 16, name, "name")
        for number, step in enumerate(steps):
            x = 14 + 130 * number
            kind = "bad" if number == crash else "ours" if step == "commit" else "box"
            it.box(x, y + 26, 112, 32, [step], kind)
            if number:
                it.arrow((x - 18, y + 42), (x - 2, y + 42))
        at = 14 + 130 * crash + 56
        it.text(386 if crash == 2 else at, y + 78, means, anchor="end" if crash == 2 else "middle")
    it.text(200, 330, "commit: of Kafka's offset; the Persister's only follows, for lag", anchor="middle")
    return it


DIAGRAMS = {"topics": topics, "groups": groups, "outcomes": outcomes, "settle": settle}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, draw in DIAGRAMS.items():
        (FOLDER / f"{name}.svg").write_text(draw().svg())
