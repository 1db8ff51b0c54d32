"""Draws the rooms of the package and which needs which, from the imports as they are: docs/assets/rooms.svg.

A room stands below every room that imports it. An arrow that follows from two others is left out, so what is drawn is
the least from which all of them can be read. `python scripts/draw_rooms.py` writes the picture; the tests hold it up to
date.
"""

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "fewstep"
PICTURE = ROOT / "docs" / "assets" / "rooms.svg"
WIDTH, ROW, BOX_W, BOX_H = 900, 84, 118, 44
IDEAS = {
    "runtime": "devices, ranks, files",
    "flow": "equations",
    "lora": "low-rank updates",
    "pages": "HTML and charts",
    "endpoint": "any chat endpoint",
    "data": "cases, prompts",
    "backbones": "model families",
    "objective": "the losses",
    "encode": "conditioning store",
    "roles": "student, critic, teachers",
    "bench": "judges, metrics",
    "sample": "pictures, server",
    "train": "the iteration",
    "export": "student folders",
    "pocket": "the bundled world",
    "run": "one run, its plan",
    "study": "many runs",
    "cli": "what prints",
}


def needs() -> dict[str, set[str]]:
    """Room -> rooms that it imports, imports inside functions counted."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0]
        if room.endswith(".py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                parts = name.split(".")
                if parts[0] == "fewstep" and len(parts) > 1 and parts[1] != room:
                    found[room].add(parts[1])
        found[room] |= set()
    return dict(found)


def floors(graph: dict[str, set[str]]) -> dict[str, int]:
    """Room -> the length of its longest way down."""
    known: dict[str, int] = {}

    def floor(room: str) -> int:
        if room not in known:
            known[room] = 1 + max((floor(other) for other in graph.get(room, ())), default=-1)
        return known[room]

    for room in graph:
        floor(room)
    return known


def reduced(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The arrows that do not follow from others."""

    @cache
    def below(room: str) -> set[str]:
        return graph.get(room, set()).union(*(below(other) for other in graph.get(room, ())))

    return sorted(
        (room, other)
        for room, others in graph.items()
        for other in others
        if not any(other in below(between) for between in others if between != other)
    )


def drawing() -> str:
    """The picture, as SVG that is readable on light and dark pages."""
    graph = needs()
    level = floors(graph)
    rows: dict[int, list[str]] = defaultdict(list)
    for room in sorted(graph, key=lambda name: (level[name], name)):
        rows[level[room]].append(room)
    top = max(rows)
    middle = {}
    for floor, names in rows.items():
        for n, room in enumerate(names):
            middle[room] = (WIDTH * (n + 1) / (len(names) + 1), ROW * (top - floor) + 40)
    lines = [_arrow(middle[one], middle[other]) for one, other in reduced(graph)]
    boxes = [_box(room, *place) for room, place in sorted(middle.items())]
    size = f'viewBox="0 0 {WIDTH} {ROW * (top + 1)}" width="{WIDTH}" height="{ROW * (top + 1)}"'
    style = "text{font:13px sans-serif;text-anchor:middle;fill:#123}.i{font-size:10px;fill:#456}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{style}</style>'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *lines, *boxes, "</svg>", ""])


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x0, y0), (x1, y1) = start, end
    y0, y1 = y0 + BOX_H / 2, y1 - BOX_H / 2
    bend = (y1 - y0) / 2
    path = f"M{x0:.0f} {y0:.0f}C{x0:.0f} {y0 + bend:.0f} {x1:.0f} {y1 - bend:.0f} {x1:.0f} {y1:.0f}"
    line = f'<path d="{path}" fill="none" stroke="#9ab" stroke-width="1.2"/>'
    return line + f'<circle cx="{x1:.0f}" cy="{y1:.0f}" r="2.5" fill="#789"/>'


def _box(room: str, x: float, y: float) -> str:
    left, upper = x - BOX_W / 2, y - BOX_H / 2
    size = f'width="{BOX_W}" height="{BOX_H}" rx="6"'
    return "".join(
        (
            f'<rect x="{left:.0f}" y="{upper:.0f}" {size} fill="#e8f0f8" stroke="#68a"/>',
            f'<text x="{x:.0f}" y="{y - 3:.0f}">{room}</text>',
            f'<text class="i" x="{x:.0f}" y="{y + 13:.0f}">{IDEAS[room]}</text>',
        )
    )


if __name__ == "__main__":
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(drawing())
    print(PICTURE)
