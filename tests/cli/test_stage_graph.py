"""The graph of a stage as text and as a picture."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from keepstep.exporter.check.lone_stage import lone_stage
from keepstep.output import graph_picture
from keepstep.output.graph_picture import graph_picture as drawn
from keepstep.output.stage_graph import graph_text, macs_of
from keepstep.runtime import Bundle

SVG = "{http://www.w3.org/2000/svg}"
PLAN = "dato-coco"


@pytest.mark.parametrize("stage", ["text", "full-dato0.4", "decode"])
def test_the_operations_of_the_text_are_those_of_the_plan(bundle: Path, stage: str) -> None:
    """The plan's were counted in the traced network, these are in its ONNX code."""
    opened = Bundle.open(bundle)
    model = lone_stage(opened, PLAN, stage).model
    counted = sum(macs_of(node) for node in model.graph)
    assert counted == opened.plan(PLAN).stages[stage].macs
    lines = graph_text(model, "it").splitlines()
    assert lines[0].startswith(f"# it: {len(model.graph)} operations, ")
    assert sum(" = " in line for line in lines) == len(model.graph)
    for node in model.graph:
        assert any(f"{node.outputs[0].name}: " in line and node.op_type in line for line in lines)


def test_a_heading_says_which_module_an_operation_comes_from(bundle: Path) -> None:
    lines = graph_text(lone_stage(Bundle.open(bundle), PLAN, "decode").model, "it").splitlines()
    last = max(i for i, line in enumerate(lines) if "vae.decoder.conv_out.weight" in line)
    assert [line for line in lines[:last] if line.startswith("# ")][-1] == "# vae.decoder.conv_out"


def numbers(model: ir.Model) -> tuple[list[str], set[tuple[int, int]]]:
    """The names of the boxes, and from which line to which an arc goes."""
    root = ElementTree.fromstring(drawn(model, "a <b>"))
    title = root.find(f"{SVG}title")
    assert title is not None
    assert title.text == "a <b>"
    names = [group[1].text or "" for group in root.iter(f"{SVG}g")]
    ends = [re.findall(r"[\d.]+", path.attrib["d"]) for path in root.iter(f"{SVG}path")]
    top = 3 * graph_picture.LINE
    arcs = {tuple((float(y) - top) / graph_picture.LINE for y in (e[1], e[-1])) for e in ends}
    return names, {(round(a), round(b)) for a, b in arcs}


def model_of(nodes: list[onnx.NodeProto], weights: tuple[str, ...]) -> ir.Model:
    def typed(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2])

    made = [name for node in nodes for name in node.output]
    initial = [helper.make_tensor(name, TensorProto.FLOAT, [2, 2], [0] * 4) for name in weights]
    graph = helper.make_graph(
        nodes, "g", [typed("x")], [typed(made[-1])], initial, value_info=[*map(typed, made[:-1])]
    )
    return ir.from_proto(helper.make_model(graph))


def test_a_picture_has_a_box_a_module_and_an_arc_a_short_cut() -> None:
    weights = ("a.weight", "b.weight", "c.weight")
    nodes = [
        helper.make_node("MatMul", ["x", "a.weight"], ["one"]),
        helper.make_node("Relu", ["one"], ["two"]),
        helper.make_node("MatMul", ["two", "b.weight"], ["three"]),
        helper.make_node("MatMul", ["three", "c.weight"], ["four"]),
        helper.make_node("Add", ["four", "two"], ["five"]),  # from a to c, over b
        helper.make_node("Add", ["five", "x"], ["six"]),  # from outside
    ]
    names, arcs = numbers(model_of(nodes, weights))
    assert names == ["a", "b", "c"]
    assert arcs == {(0, 2), (-1, 2)}


def test_a_picture_of_many_modules_cuts_their_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tuple(f"net.{block}.{part}.weight" for block in "ab" for part in "xyz")
    values = ["x", *(f"v{i}" for i in range(6))]
    nodes = [
        helper.make_node("MatMul", [values[i], weight], [values[i + 1]])
        for i, weight in enumerate(weights)
    ]
    model = model_of(nodes, weights)
    assert numbers(model)[0] == [weight.removesuffix(".weight") for weight in weights]
    monkeypatch.setattr(graph_picture, "MOST_BOXES", 5)
    assert numbers(model)[0] == ["net.a", "net.b"]
    monkeypatch.setattr(graph_picture, "MOST_BOXES", 1)
    assert numbers(model)[0] == ["net"]


def test_what_has_no_shape_is_shown_without_one() -> None:
    model = model_of([helper.make_node("MatMul", ["x", "a.weight"], ["y"])], ("a.weight",))
    model.graph.outputs[0].shape = None
    assert "y: float32[?] = MatMul(x, a.weight)" in graph_text(model, "it")
    assert macs_of(model.graph.node(0)) == 0
