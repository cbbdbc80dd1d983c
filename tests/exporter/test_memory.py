"""The memory planner against a simulation that owns every byte, call by call."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from keepstep.exporter.plan.memory import Arena, Lifetime, most_alive_at_once, plan_memory

# Mostly small sizes next to the alignment, where a mistake by one shows; some far apart.
SIZES = st.one_of(
    st.integers(1, 4), st.sampled_from([255, 256, 257, 512, 513]), st.integers(1, 3000)
)
SPANS = st.tuples(st.integers(-1, 8), st.integers(0, 6))
LIFETIMES = st.dictionaries(
    st.text("abcxyz", min_size=1, max_size=3),
    st.builds(lambda size, span: Lifetime(size, span[0], span[0] + span[1]), SIZES, SPANS),
    max_size=12,
)


def assert_nobody_shares_a_byte(lifetimes: dict[str, Lifetime], arena: Arena) -> None:
    for call in range(-1, 16):
        owner: dict[int, str] = {}
        for name, value in lifetimes.items():
            if value.first <= call <= value.last:
                for byte in range(arena.offsets[name], arena.offsets[name] + value.bytes):
                    assert byte not in owner, f"{name} and {owner[byte]} share byte {byte}"
                    owner[byte] = name


@settings(max_examples=150, deadline=None)  # a busy machine is no failure
@given(lifetimes=LIFETIMES)
def test_no_two_values_alive_in_the_same_call_share_a_byte(lifetimes: dict[str, Lifetime]) -> None:
    arena = plan_memory(lifetimes)
    assert set(arena.offsets) == set(lifetimes)
    assert all(offset >= 0 and offset % 256 == 0 for offset in arena.offsets.values())
    assert_nobody_shares_a_byte(lifetimes, arena)


@settings(deadline=None)
@given(lifetimes=LIFETIMES)
def test_the_arena_ends_with_its_last_value_and_lies_between_the_two_bounds(
    lifetimes: dict[str, Lifetime],
) -> None:
    arena = plan_memory(lifetimes)
    ends = [arena.offsets[name] + value.bytes for name, value in lifetimes.items()]
    assert arena.bytes == max(ends, default=0)
    assert arena.bytes >= most_alive_at_once(lifetimes)
    assert arena.bytes <= sum(-(-value.bytes // 256) * 256 for value in lifetimes.values())


@given(lifetimes=LIFETIMES)
def test_most_alive_at_once_is_the_fullest_call(lifetimes: dict[str, Lifetime]) -> None:
    loads = [
        sum(v.bytes for v in lifetimes.values() if v.first <= call <= v.last)
        for call in range(-1, 16)
    ]
    assert most_alive_at_once(lifetimes) == max(loads)


@given(lifetimes=LIFETIMES, seed=st.randoms(use_true_random=False))
def test_the_plan_does_not_depend_on_the_order_in_which_values_are_listed(
    lifetimes: dict[str, Lifetime], seed: object
) -> None:
    names = list(lifetimes)
    seed.shuffle(names)  # type: ignore[attr-defined]
    assert plan_memory({name: lifetimes[name] for name in names}) == plan_memory(lifetimes)


def test_values_that_are_never_alive_together_share_one_place() -> None:
    lifetimes = {f"v{i}": Lifetime(1000, 2 * i, 2 * i + 1) for i in range(9)}
    assert plan_memory(lifetimes).bytes == 1000


def test_a_value_that_dies_in_the_call_that_writes_another_keeps_its_bytes() -> None:
    """An engine may write an output before it has read every input."""
    arena = plan_memory({"read": Lifetime(256, 0, 1), "written": Lifetime(256, 1, 2)})
    assert arena.bytes == 512


def test_nothing_needs_no_memory() -> None:
    assert plan_memory({}) == Arena({}, 0)
    assert most_alive_at_once({}) == 0
