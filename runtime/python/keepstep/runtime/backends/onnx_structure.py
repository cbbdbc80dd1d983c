"""Rule 20: whether an ONNX file is the code of a stage and no more, before ONNX Runtime sees it.

ONNX Runtime computes at load whatever depends on constants alone, and a network of a few bytes can
ask for terabytes or for years. So every operator is one of a list whose outputs follow from the
shapes of inputs and from constants, every tensor has a declared type that is not out of proportion,
and what is computed at load is bounded. That the types declared are the true ones is checked by
ONNX Runtime, which infers them itself (`session.strict_shape_type_inference`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from keepstep.runtime.backends.onnx_model import OnnxModel, OnnxNode, read_onnx
from keepstep.runtime.backends.onnx_operators import (
    MATRIX_PRODUCTS,
    OF_SHAPES,
    OPERATORS,
    SHAPED_BY_ALL_NUMBERS,
    SHAPED_BY_OTHER_NUMBERS,
    WINDOWED,
)
from keepstep.runtime.backends.onnx_wire import OnnxError
from keepstep.runtime.format.plan import Stage, TensorType
from keepstep.runtime.format.rules_values import type_text
from keepstep.runtime.quoting import quote, quote_names

OLDEST_OPSET = 20  # which the exporter writes; before 18 some shapes came another way
_DOMAINS = ("", "com.microsoft")

# A tensor within a network may be this much larger than the largest that the stage takes, gives or
# holds. Scores of all tokens for all tokens are the worst case: 2^28 elements in SDXL's decoder,
# whose history has 2^23.
_PROPORTION = 4096
_FLOOR = 2**30  # bytes that any tensor may have
# Elements written and read by what is computed at load, beside four times those of all constants;
# and multiplications. The exporter leaves rows of a table of positions, and a mask.
_MOST_FOLDED = 2**26
_MOST_MULTIPLIED = 2**32


def check_onnx(data: bytes, stage: Stage, weights: Mapping[str, TensorType]) -> None:
    """Raise `OnnxError` unless `data` is the code of `stage`, which is handed `weights`."""
    model = read_onnx(data)
    _check_opsets(model.opsets)
    _check_types("inputs", model.inputs, stage.inputs)
    _check_types("outputs", model.outputs, stage.outputs)
    _check_types("weights", model.handed_over, weights)
    types = _declared(model)
    largest = max(type_.bytes for type_ in (*types.values(), *model.outputs.values()))
    _check_nodes(model, types, max(_FLOOR, _PROPORTION * largest))


def _check_opsets(opsets: Mapping[str, int]) -> None:
    for domain, version in opsets.items():
        if domain not in _DOMAINS:
            raise OnnxError(f"operators of {quote(domain)} are imported, which no engine has")
        if not domain and version < OLDEST_OPSET:
            raise OnnxError(f"opset {version}, expected {OLDEST_OPSET} or later")
    if "" not in opsets:
        raise OnnxError("no opset is imported")


def _check_types(
    what: str, found: Mapping[str, TensorType], expected: Mapping[str, TensorType]
) -> None:
    if found.keys() != expected.keys():
        raise OnnxError(
            f"the plan's {what} are {quote_names(sorted(expected))}, the engine's "
            f"{quote_names(sorted(found))}"
        )
    for name, type_ in expected.items():
        if found[name] != type_:
            raise OnnxError(
                f"{what}.{name}: the plan has {type_text(type_)}, the engine "
                f"{type_text(found[name])}"
            )


def _declared(model: OnnxModel) -> dict[str, TensorType]:
    """The types of all that is there before the first node."""
    types: dict[str, TensorType] = {}
    for tensors in (model.inputs, model.constants, model.handed_over):
        for name, type_ in tensors.items():
            if not name or name in types:
                raise OnnxError(f"the tensor {quote(name)} is given twice, or has no name")
            if model.within.get(name, type_) != type_:
                raise OnnxError(f"the tensor {quote(name)} is declared as another one")
            types[name] = type_
    return types


def _check_nodes(model: OnnxModel, types: dict[str, TensorType], most: int) -> None:
    """Walk through the nodes in order; `types` learns what each gives.

    most   bytes of a tensor
    """
    numbers = set(model.constants)  # whose elements are in the file
    constant = numbers | model.handed_over.keys()  # or follow from what is
    folded, multiplied = -4 * sum(types[name].size for name in constant), 0
    for node in model.nodes:
        place = f"{node.operator} node {quote(node.name)}"
        if node.operator not in OPERATORS:
            raise OnnxError(f"{place}: no engine has this operator")
        if node.operator.rpartition(".")[0] not in model.opsets:
            raise OnnxError(f"{place}: the operators of its domain are not imported")
        given = [name for name in node.inputs if name]
        if missing := [name for name in given if name not in types]:
            raise OnnxError(f"{place}: the input {quote(missing[0])} is given by nothing before it")
        for name in _that_say_shapes(node):
            if name not in numbers:
                raise OnnxError(f"{place}: the input {quote(name)} is no constant of the file")
        made = [name for name in node.outputs if name]
        for name in made:
            types[name] = _type_of(place, name, model, types, most)
        if node.operator == "Constant":
            numbers.update(made)
        if node.operator in OF_SHAPES or constant.issuperset(given):
            constant.update(made)
            folded += sum(types[name].size for name in (*given, *made))
            multiplied += _multiplications(node, types, given, made)
            if folded > _MOST_FOLDED or multiplied > _MOST_MULTIPLIED:
                raise OnnxError(f"{place}: what constants alone give is out of all proportion")
    if missing := [name for name in model.outputs if name not in types]:
        raise OnnxError(f"the output {quote(missing[0])} is given by no node")


def _type_of(
    place: str, name: str, model: OnnxModel, before: Mapping[str, TensorType], most: int
) -> TensorType:
    """The declared type of what a node gives."""
    if name in before:
        raise OnnxError(f"{place}: the output {quote(name)} is given before")
    type_ = model.outputs.get(name) or model.within.get(name)
    if type_ is None:
        raise OnnxError(f"{place}: the output {quote(name)} has no declared type")
    if type_.bytes > most:
        raise OnnxError(
            f"{place}: the output {quote(name)} is {type_text(type_)}, {type_.bytes} bytes, out "
            f"of proportion to a stage whose tensors justify {most}"
        )
    return type_


def _that_say_shapes(node: OnnxNode) -> list[str]:
    """The inputs whose elements are to be known before the node is played."""
    said: tuple[str, ...] = ()
    if node.operator in SHAPED_BY_ALL_NUMBERS:
        said = node.inputs
    elif node.operator in SHAPED_BY_OTHER_NUMBERS:
        said = node.inputs[1:]
    return [name for name in said if name]


def _multiplications(
    node: OnnxNode, types: Mapping[str, TensorType], given: Sequence[str], made: Sequence[str]
) -> int:
    """No fewer than the node takes."""
    size = sum(types[name].size for name in made)
    if node.operator in MATRIX_PRODUCTS and given:
        return size * max(types[given[0]].shape, default=1)
    if node.operator in WINDOWED and given:
        return size * prod(types[given[:2][-1]].shape)
    return 0
