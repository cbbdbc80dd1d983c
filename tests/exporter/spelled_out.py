"""One attention as PyTorch's converter spells it out, and what its formula gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from exporter.small_stages import Types, stage
from onnx import NodeProto, helper

from keepstep.exporter.engines import OnnxStage
from keepstep.runtime.format.plan import TensorType


@dataclass(frozen=True)
class Attention:
    """Sizes of an attention, and how its code looks.

    apart     which of query, key and value come with their heads apart, as from another stage
    mask      what is added to the scores, if anything is
    guarded   whether queries that see no key get zeros
    also      values that others use, too: they are outputs
    """

    batch: int = 2
    heads: int = 3
    queries: int = 5
    keys: int = 4
    features: int = 8
    value_features: int = 8
    scales: tuple[float, float] = (0.5, 0.7)
    apart: tuple[bool, bool, bool] = (False, False, False)
    mask: np.ndarray | None = None
    guarded: bool = False
    dtype: str = "float32"
    also: tuple[str, ...] = ()

    def shapes(self) -> dict[str, tuple[int, int, int, int]]:
        """With heads apart."""
        b, n = self.batch, self.heads
        return {
            "query": (b, n, self.queries, self.features),
            "key": (b, n, self.keys, self.features),
            "value": (b, n, self.keys, self.value_features),
        }

    def stage(self) -> OnnxStage:
        b, n, q, k, f = self.batch, self.heads, self.queries, self.keys, self.features
        inputs: Types = {}
        nodes: list[NodeProto] = []
        constants = {
            "flat_shape": np.array([-1, k, f]),
            "across_shape": np.array([b, n, f, k]),
            "result_shape": np.array([b, -1, n * self.value_features]),
            "query_scale": np.array([self.scales[0]], self.dtype),
            "key_scale": np.array(self.scales[1], self.dtype),
            "zero": np.array(0, self.dtype),
        }

        def node(op: str, sources: list[str], output: str, **more: object) -> str:
            nodes.append(helper.make_node(op, sources, [output], **more))
            return output

        for (name, shape), apart in zip(self.shapes().items(), self.apart, strict=True):
            _, _, tokens, features = shape
            if apart:
                inputs[name] = TensorType(self.dtype, shape)
                continue
            inputs[f"{name}_tokens"] = TensorType(self.dtype, (b, tokens, n * features))
            constants[f"{name}_shape"] = np.array([b, -1, n, features])
            split = node("Reshape", [f"{name}_tokens", f"{name}_shape"], f"{name}_split")
            node("Transpose", [split], name, perm=[0, 2, 1, 3])
        node("Reshape", ["key", "flat_shape"], "flat")
        node("Transpose", ["flat"], "flat_across", perm=[0, 2, 1])
        node("Reshape", ["flat_across", "across_shape"], "across")
        node("Mul", ["query", "query_scale"], "scaled_query")
        node("Mul", ["across", "key_scale"], "scaled_key")
        scores = node("MatMul", ["scaled_query", "scaled_key"], "scores")
        if self.mask is not None:
            constants["mask"] = self.mask.astype(self.dtype)
            scores = node("Add", [scores, "mask"], "masked")
        weights = node("Softmax", [scores], "weights", axis=-1)
        if self.guarded:
            node("IsNaN", [weights], "is_nan")
            weights = node("Where", ["is_nan", "zero", weights], "guarded")
        node("MatMul", [weights, "value"], "attended")
        node("Transpose", ["attended"], "moved", perm=[0, 2, 1, 3])
        node("Reshape", ["moved", "result_shape"], "result")
        known = {"scores": (b, n, q, k), "across": (b, n, f, k)}
        outputs = {name: TensorType(self.dtype, known[name]) for name in self.also}
        outputs["result"] = TensorType(self.dtype, (b, q, n * self.value_features))
        made = stage(nodes, inputs, outputs, constants=constants)
        typed = onnx.shape_inference.infer_shapes(onnx.load_from_string(made.onnx))
        return replace(made, onnx=typed.SerializeToString())

    def values(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Query, key and value with their heads apart."""
        rng = np.random.default_rng(seed)
        return {name: rng.normal(size=s).astype(self.dtype) for name, s in self.shapes().items()}

    def given(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The same as the stage takes them."""
        return {
            name if apart else f"{name}_tokens": array if apart else side_by_side(array)
            for (name, array), apart in zip(values.items(), self.apart, strict=True)
        }

    def formula(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """softmax(q kᵀ · scale + mask) v in float64."""
        query, key, value = (array.astype(np.float64) for array in values.values())
        # The scales as the code has them.
        first, second = (float(np.array(scale, self.dtype)) for scale in self.scales)
        scores = query @ key.swapaxes(-1, -2) * first * second
        if self.mask is not None:
            scores += self.mask
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return side_by_side(weights @ value)


def side_by_side(apart: np.ndarray) -> np.ndarray:
    """(batch, heads, tokens, features) as (batch, tokens, heads × features)."""
    batch, heads, tokens, features = apart.shape
    return apart.transpose(0, 2, 1, 3).reshape(batch, tokens, heads * features)
