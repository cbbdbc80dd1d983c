"""Whether a plan keeps the rules of docs/plan-format.md that can be told from the plan alone.

Each rule is a function that yields its findings, text by text, in the order of the plan; a plan is
refused for the first finding of the lowest rule. A rule may rely on those before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from keepstep.runtime.errors import BundleError
from keepstep.runtime.format.plan import Plan, TensorType
from keepstep.runtime.format.rules_calls import (
    rule_11_stages,
    rule_12_bindings,
    rule_13_read_only_values,
)
from keepstep.runtime.format.rules_memory import (
    rule_14_aliasing,
    rule_15_written_before_read,
    rule_16_no_trace,
    rule_17_liveness,
    rule_18_outputs,
)
from keepstep.runtime.format.rules_steps import rule_19_steps
from keepstep.runtime.format.rules_values import (
    rule_3_paths,
    rule_5_names,
    rule_6_enums,
    rule_7_sizes,
    rule_8_fields,
    rule_9_offsets,
    rule_10_constants,
)
from keepstep.runtime.quoting import quote

Constants = Callable[[str, str], TensorType | None]
"""(file, tensor) → the tensor's type, or None when there is no such file or tensor."""

Rule = Callable[[Plan], Iterator[str]]


def check_plan(plan: Plan, constants: Constants | None = None, *, where: str | None = None) -> None:
    """Raise `BundleError` with the number of the first rule that `plan` breaks.

    Rule 10 is checked when `constants` is given, rules 1, 2 and 4 where files are read.
    `where` names the plan's file in the message.
    """
    rules: dict[int, Rule] = {
        3: rule_3_paths,
        5: rule_5_names,
        6: rule_6_enums,
        7: rule_7_sizes,
        8: rule_8_fields,
        9: rule_9_offsets,
        11: rule_11_stages,
        12: rule_12_bindings,
        13: rule_13_read_only_values,
        14: rule_14_aliasing,
        15: rule_15_written_before_read,
        16: rule_16_no_trace,
        17: rule_17_liveness,
        18: rule_18_outputs,
        19: rule_19_steps,
    }
    if constants is not None:
        types = constants
        rules[10] = lambda plan: rule_10_constants(plan, types)
    for number, rule in sorted(rules.items()):
        for finding in rule(plan):
            raise BundleError(number, f"{where or 'plan ' + quote(plan.name)}: {finding}")
