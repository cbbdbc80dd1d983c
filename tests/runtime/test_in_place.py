"""A state that a stage changes in place, by a real engine, call after call."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from runtime.cache_bundle import CALLS, PLACES, START, WIDTH, played, rows, write_cache_bundle

from keepstep.runtime import Bundle, Player
from keepstep.runtime.memory.addresses import call_addresses
from keepstep.runtime.memory.constants import constant_parts


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(write_cache_bundle(tmp_path_factory.mktemp("cache") / "cache"))


@pytest.fixture
def player(cache: Bundle) -> Iterator[Player]:
    with cache.player("cache", threads=1) as player:
        yield player


def assert_played(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert np.array_equal(found["cache"], expected["cache"])
    np.testing.assert_allclose(found["seen"], expected["seen"], rtol=1e-5, atol=1e-6)


def test_calls_update_a_state_in_place(player: Player) -> None:
    start = np.random.default_rng(1).normal(size=(PLACES, WIDTH)).astype(np.float32)
    assert_played(player.run({"rows": rows(), "start": start}), played(rows(), start))


def test_nothing_remains_of_a_run_in_place(player: Player) -> None:
    player.run({"rows": rows(1), "start": np.full((PLACES, WIDTH), 9, np.float32)})
    assert_played(player.run({"rows": rows(2)}), played(rows(2)))


def test_a_run_call_by_call_and_a_profile_are_the_same_run(player: Player) -> None:
    whole = player.run({"rows": rows()})
    stepped = player.run({"rows": rows()}, progress=lambda done, total, call: None)
    profile = player.profile({"rows": rows()})
    for name, array in whole.items():
        assert np.array_equal(stepped[name], array)
        assert np.array_equal(profile.outputs[name], array)


def test_input_and_output_are_bound_to_one_address(cache: Bundle) -> None:
    plan = cache.plan("cache")
    addresses = call_addresses(plan, 0, dict.fromkeys(constant_parts(plan), 0))
    updates = [at for call, at in zip(plan.calls, addresses, strict=True) if call.stage == "update"]
    assert len(updates) == CALLS
    assert all(at["kv"] == at["kv_new"] == plan.values["kv"].offset for at in updates)


def test_a_plan_in_place_is_played_by_the_null_backend(cache: Bundle) -> None:
    with cache.player("cache", "null") as player:
        assert not player.run({"rows": rows()})["cache"].any()


def test_what_is_left_out_has_its_default(player: Player) -> None:
    start = np.tile(np.array(START, np.float32), (PLACES, 1))
    given = player.run({"rows": rows(), "start": start, "query": np.full((4, 1), 0.5, np.float32)})
    player.run({"rows": rows(), "query": np.full((4, 1), -1, np.float32), "start": start + 1})
    left_out = player.run({"rows": rows()})
    for name, array in given.items():
        assert np.array_equal(left_out[name], array)
