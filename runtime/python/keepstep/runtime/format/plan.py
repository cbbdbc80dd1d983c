"""The plan as frozen data: the same words and fields as docs/plan-format.md, nothing more.

Reading is in `plan_json.py`, writing in `plan_text.py`, the numbered rules in `validate.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Literal

FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)
ALIGNMENT = 256  # bytes; every offset in the arena is a multiple of it

ITEM_BYTES: Mapping[str, int] = {
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "uint8": 1,
    "bool": 1,
}
VALUE_KINDS = ("constant", "input", "output", "scratch", "state")

ValueKind = Literal["constant", "input", "output", "scratch", "state"]
Default = float | bool | tuple[float | bool, ...]


@dataclass(frozen=True)
class TensorType:
    """Element type and static shape of a tensor of a stage, or of a value."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Size without padding; a scalar (shape `()`) has one element."""
        return ITEM_BYTES[self.dtype] * self.size

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True)
class Value:
    """A named static buffer."""

    kind: ValueKind
    type: TensorType
    offset: int | None = None  # in the arena, bytes; None for constants
    file: str | None = None  # of a constant
    tensor: str | None = None  # of a constant: its name in the file
    feed: bool = False  # a scratch value that the caller may give
    range: tuple[float, float] | None = None  # of an input: lowest and highest that it may hold
    default: Default | None = None  # of an input that need not be given; a tuple is its last axis


@dataclass(frozen=True)
class Binding:
    """A value, or the rows of it that begin at `row` of its first axis."""

    value: str
    row: int | None = None


@dataclass(frozen=True)
class Stage:
    """A static-shape subgraph and the engines built from it."""

    inputs: Mapping[str, TensorType]
    outputs: Mapping[str, TensorType]
    engines: Mapping[str, str]  # backend → path in the bundle
    weights: Mapping[str, str] = field(default_factory=dict)  # tensor → constant value
    macs: int = 0  # multiply–accumulate operations of one launch
    in_place: Mapping[str, str] = field(default_factory=dict)  # output → input in its memory


@dataclass(frozen=True)
class Call:
    """One launch of one stage."""

    stage: str
    reads: Mapping[str, Binding]
    writes: Mapping[str, Binding]
    step: int | None = None  # index into `Plan.steps`


@dataclass(frozen=True)
class Step:
    """One call of the sampler, and what it was turned into; without a launch, it costs nothing."""

    label: str  # free text, for people; in format 1 the kind: full, shallow or skip
    timestep: float
    kept: int | None = None  # tokens kept by the pruned self-attention; None: nothing pruned


@dataclass(frozen=True)
class Plan:
    """One denoising run as a straight-line program."""

    name: str
    values: Mapping[str, Value]
    stages: Mapping[str, Stage]
    calls: tuple[Call, ...]
    steps: tuple[Step, ...]
    arena_bytes: int
    version: int = FORMAT_VERSION


@dataclass(frozen=True)
class Tokenizer:
    """How prompts become the token ids of one input."""

    file: str  # path of a tokenizer.json
    length: int  # ids a prompt, padded and cut
    pad: int  # the id that fills a prompt up


@dataclass(frozen=True)
class FileEntry:
    """What a bundle says of one of its files."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The content of bundle.json."""

    producer: str
    model: Mapping[str, str]
    plans: tuple[str, ...]
    files: Mapping[str, FileEntry]
    tokenizers: Mapping[str, Tokenizer] = field(default_factory=dict)  # by input
    version: int = FORMAT_VERSION


def begin_in_value(value: Value, binding: Binding) -> int:
    """Bytes of `value` that lie before what `binding` means."""
    if binding.row is None:
        return 0
    return binding.row * (value.type.bytes // value.type.shape[0])
