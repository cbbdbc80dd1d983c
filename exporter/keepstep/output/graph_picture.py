"""A stage as a picture: its modules from top to bottom in the order in which they run, and an arc
for whatever a module takes from another than the one before it.

Skip connections of a UNet are arcs inside each other, residuals are short ones, and an arc from
the top is something that the stage is given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

import onnx_ir as ir

from .stage_graph import Operation, operations, type_of

MOST_BOXES = 80
LINE, BOX, GAP = 26, 20, 6  # pixels: from box to box, a box, text from its edge
NAMES, BAR, ARCS = 470, 90, 730  # pixels: where boxes begin, how wide one is, where arcs begin
FONT = "12px ui-sans-serif, system-ui, sans-serif"


@dataclass
class Box:
    """Operations that follow each other and come from one module."""

    module: str
    kinds: Counter[str] = field(default_factory=Counter)
    macs: int = 0
    gives: str = ""  # the type of what is last made


def graph_picture(model: ir.Model, title: str) -> str:
    """An SVG file that needs nothing else."""
    found = operations(model)
    depth = _depth([operation.module for operation in found])
    boxes, of_value = _boxes(found, depth)
    arcs = _arcs(model, found, of_value)
    height = LINE * (len(boxes) + 4)
    reach = max((end - start for start, end in arcs), default=0)
    width = max(900, ARCS + min(9 * reach, 400))
    most = max((box.macs for box in boxes), default=0) or 1
    total = sum(box.macs for box in boxes) or 1
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" style="font: {FONT}; background: #fff">',
        f"<title>{escape(title)}</title>",
        f'<text x="12" y="22" font-size="15" font-weight="600">{escape(title)}</text>',
        f'<text x="12" y="42" fill="#666">{len(found)} operations, {total / 1e6:.4g} million '
        "multiply–accumulate operations: the share of each module. Arcs: what it takes from "
        "another than the one before it; grey, of what the stage is given.</text>",
    ]
    for start, end in sorted(arcs, key=lambda arc: arc[1] - arc[0], reverse=True):
        lines.append(_arc(start, end))
    for i, box in enumerate(boxes):
        lines += _drawn(box, _middle(i), box.macs / most, box.macs / total)
    return "\n".join([*lines, "</svg>", ""])


def _depth(modules: Sequence[str]) -> int:
    """How many parts of a path name a box: as many as leave no more than MOST_BOXES."""
    deepest = max((module.count(".") + 1 for module in modules), default=1)
    for depth in range(deepest, 1, -1):
        cut = [_cut(module, depth) for module in modules]
        if 1 + sum(a != b for a, b in pairwise(cut)) <= MOST_BOXES:
            return depth
    return 1


def _cut(module: str, depth: int) -> str:
    return ".".join(module.split(".")[:depth])


def _boxes(found: Sequence[Operation], depth: int) -> tuple[list[Box], dict[str, int]]:
    """The boxes, and which of them makes each value."""
    boxes: list[Box] = []
    of_value: dict[str, int] = {}
    for operation in found:
        module = _cut(operation.module, depth)
        if not boxes or boxes[-1].module != module:
            boxes.append(Box(module))
        box = boxes[-1]
        box.kinds[operation.node.op_type] += 1
        box.macs += operation.macs
        box.gives = type_of(operation.node.outputs[0])
        of_value |= {str(value.name): len(boxes) - 1 for value in operation.node.outputs}
    return boxes, of_value


def _arcs(
    model: ir.Model, found: Sequence[Operation], of_value: dict[str, int]
) -> set[tuple[int, int]]:
    """From which box to which; -1 is what the stage is given. Neighbours need no arc."""
    given = {str(i.name) for i in model.graph.inputs} - set(model.graph.initializers)
    arcs = set()
    for operation in found:
        end = of_value[str(operation.node.outputs[0].name)]
        for value in operation.node.inputs:
            name = "" if value is None else str(value.name)
            start = of_value.get(name, -1 if name in given else end)
            if end - start > 1:
                arcs.add((start, end))
    return arcs


def _middle(i: int) -> float:
    return LINE * (i + 3.0)


def _arc(start: int, end: int) -> str:
    x, top, bottom = ARCS, _middle(start), _middle(end)
    bow = x + min(12 * (end - start), 530) ** 0.93
    colour = "#999" if start < 0 else "#1f5fbf"
    return (
        f'<path d="M{x} {top:g} C{bow:.0f} {top:g} {bow:.0f} {bottom:g} {x} {bottom:g}" '
        f'fill="none" stroke="{colour}" stroke-opacity="{0.35 if start < 0 else 0.7}"/>'
    )


def _drawn(box: Box, y: float, dark: float, share: float) -> list[str]:
    kinds = ", ".join(f"{n} {kind}" if n > 1 else kind for kind, n in box.kinds.most_common())
    part = f"{share:.1%}" if share >= 0.0005 else ""
    text = "#fff" if dark > 0.55 else "#000"
    return [
        f"<g><title>{escape(f'{box.module}: {kinds}')}</title>",
        f'<text x="{NAMES - GAP}" y="{y + 4:g}" text-anchor="end">{escape(box.module)}</text>',
        f'<rect x="{NAMES}" y="{y - BOX / 2:g}" width="{BAR}" height="{BOX}" rx="3" '
        f'fill="#1f5fbf" fill-opacity="{0.08 + 0.92 * dark:.2f}"/>',
        f'<text x="{NAMES + BAR / 2:g}" y="{y + 4:g}" text-anchor="middle" fill="{text}">{part}'
        "</text>",
        f'<text x="{NAMES + BAR + GAP}" y="{y + 4:g}" fill="#666">{escape(box.gives)}</text></g>',
    ]
