from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plans.edits import put
from plans.make import mutated
from plans.valid import VALID
from runtime.toy_bundle import TOKENIZER, inputs, played, seal, write_bundle

from keepstep.runtime import BackendError, Bundle, BundleError, InputError, Player
from keepstep.runtime.format.plan import Call


def assert_played(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name].dtype == expected[name].dtype
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)


def test_a_player_gives_what_numpy_gives(player: Player) -> None:
    assert_played(player.run(inputs()), played(**inputs()))


def test_runs_leave_no_trace(player: Player) -> None:
    first = player.run(inputs(1))
    player.run({name: array * 100 for name, array in inputs(2).items()} | inputs(2))
    again = player.run(inputs(1))
    for name in first:
        assert np.array_equal(first[name], again[name])


def test_outputs_are_copies(player: Player) -> None:
    first = player.run(inputs(1))
    kept = {name: array.copy() for name, array in first.items()}
    player.run(inputs(2))
    for name in first:
        assert np.array_equal(first[name], kept[name])


def test_inputs_feeds_and_outputs_are_listed_with_types(player: Player) -> None:
    assert {name: (t.dtype, t.shape) for name, t in player.inputs.items()} == {
        "token_ids": ("int64", (1, 4)),
        "noise": ("float32", (1, 4)),
    }
    assert {name: t.shape for name, t in player.feeds.items()} == {"prompt_embeds": (1, 4)}
    assert {name: t.dtype for name, t in player.outputs.items()} == {
        "latents": "float32",
        "image": "uint8",
    }


def test_golden_inputs_give_golden_outputs(bundle: Bundle, player: Player) -> None:
    golden = bundle.golden("toy")
    found = player.run({name: golden[name] for name in player.inputs})
    assert_played(found, {name: golden[name] for name in player.outputs})


def test_two_players_of_one_bundle_do_not_disturb_each_other(bundle: Bundle) -> None:
    with bundle.player("toy", threads=1) as one, bundle.player("toy", threads=1) as other:

        def between(done: int, total: int, call: Call) -> None:
            other.run(inputs(2))

        assert_played(one.run(inputs(1), between), played(**inputs(1)))
        assert_played(other.run(inputs(2)), played(**inputs(2)))


def test_a_fed_value_takes_the_place_of_its_calls(player: Player) -> None:
    embeds = np.array([[0.5, -1, 2, 0]], np.float32)
    noise = inputs()["noise"]
    seen: list[str] = []
    given = {"noise": noise, "prompt_embeds": embeds}
    found = player.run(given, lambda done, total, call: seen.append(call.stage))
    assert_played(found, played(noise, embeds=embeds))
    assert seen == ["full", "shallow", "final", "decode"]
    assert_played(player.run(inputs(1)), played(**inputs(1)))


def test_inputs_of_calls_left_out_may_still_be_given(player: Player) -> None:
    embeds = np.array([[0.5, -1, 2, 0]], np.float32)
    found = player.run({**inputs(), "prompt_embeds": embeds})
    assert_played(found, played(inputs()["noise"], embeds=embeds))


def test_a_part_of_what_one_call_computes_is_refused_as_a_feed(tmp_path: Path) -> None:
    row = {"dtype": "float32", "shape": [1, 4]}

    def two_feeds(plan: dict[str, Any]) -> None:
        plan["values"]["pooled"] = {"kind": "scratch", **row, "offset": 1792, "feed": True}
        plan["arena_bytes"] = 2048
        plan["stages"]["text"]["outputs"]["pooled"] = row
        plan["calls"][0]["writes"]["pooled"] = "pooled"

    folder = write_bundle(tmp_path / "toy", mutated(two_feeds))
    with Bundle.open(folder).player("toy", "null") as player:
        given = {"noise": inputs()["noise"], "prompt_embeds": np.zeros((1, 4), np.float32)}
        with pytest.raises(InputError, match="give 'pooled', too"):
            player.run(given)
        player.run({**given, "pooled": np.zeros((1, 4), np.float32)})


def test_a_feed_of_two_calls_leaves_both_out(tmp_path: Path) -> None:
    plan = mutated(VALID["two-text-calls-feed-one-value"])
    with Bundle.open(write_bundle(tmp_path / "toy", plan)).player("toy", threads=1) as player:
        embeds = np.array([[1, 2, 3, 4], [0, 0, 0, 0]], np.float32)
        found = player.run({"noise": inputs()["noise"], "prompt_embeds": embeds})
        assert_played(found, played(inputs()["noise"], embeds=embeds[:1]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"niose": np.zeros(1)}, "no input 'niose' .did you mean 'noise'.*'prompt_embeds'"),
        ({"latents": np.zeros(1)}, "no input 'latents'"),
        ({"noise": np.zeros((1, 4))}, "expected float32.1, 4., found dtype float64; convert"),
        ({"noise": [[1, 2, 3, 4]]}, "found dtype int64"),
        ({"noise": np.zeros((1, 4), ">f4")}, "found dtype >f4"),
        ({"noise": np.zeros((4, 1), np.float32)}, r"found shape \[4, 1\]"),
        ({"noise": np.float32(1)}, r"found shape \[\]"),
        ({"noise": [[1, 2], [3]]}, "is no array"),
        ({"noise": None}, "found dtype object"),
        ({"noise": "noise"}, "found dtype <U5"),
        ({"token_ids": np.zeros((1, 4), np.int32)}, "expected int64.1, 4., found dtype int32"),
        ({"noise": np.full((1, 4), np.nan, np.float32)}, "4 of 4 elements are NaN or infinite"),
        ({"noise": np.array([[0, 0, np.inf, 0]], np.float32)}, "1 of 4 elements"),
        ({3: np.zeros(1)}, "no input 3"),
    ],
)
def test_what_does_not_fit_is_refused(player: Player, change: dict[Any, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        player.run({**inputs(), **change})
    assert_played(player.run(inputs()), played(**inputs()))


@pytest.mark.parametrize("id_", [-1, 7, 2**40])
def test_ids_that_the_model_does_not_know_are_refused(tmp_path: Path, id_: int) -> None:
    plan = mutated(put("values", "token_ids", "range", [0, 6]))
    with Bundle.open(write_bundle(tmp_path / "toy", plan)).player("toy", threads=1) as player:
        good = player.run(inputs())
        ids = inputs()["token_ids"].copy()
        ids[0, 2] = id_
        for play in (player.run, player.profile, lambda given: player.lend(given).__enter__()):
            with pytest.raises(InputError, match=rf"{id_} at \[0, 2\] .* range 0 to 6"):
                play({**inputs(), "token_ids": ids})
        assert_played(player.run(inputs()), good)


def test_a_missing_input_is_named_with_its_type(player: Player) -> None:
    with pytest.raises(InputError, match=r"needs the input token_ids int64\[1, 4\]"):
        player.run({"noise": inputs()["noise"]})


def test_inputs_that_are_no_mapping_are_refused(player: Player) -> None:
    with pytest.raises(InputError, match="expected a mapping"):
        player.run([1, 2])  # type: ignore[arg-type]


def test_progress_counts_the_calls(player: Player) -> None:
    seen: list[tuple[int, int, str]] = []
    player.run(inputs(), lambda done, total, call: seen.append((done, total, call.stage)))
    stages = ["text", "full", "shallow", "final", "decode"]
    assert seen == [(i, 5, stage) for i, stage in enumerate(stages, 1)]


def test_profile_times_every_call(player: Player) -> None:
    profile = player.profile(inputs())
    assert [(time.index, time.call.stage) for time in profile.calls] == list(
        enumerate(["text", "full", "shallow", "final", "decode"])
    )
    assert all(time.seconds > 0 for time in profile.calls)
    assert profile.seconds == pytest.approx(sum(time.seconds for time in profile.calls))
    assert_played(profile.outputs, played(**inputs()))


class OnlyDLPack:
    """An array of a library that numpy knows nothing of."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> object:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


class OnAGpu(OnlyDLPack):
    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0  # kDLCUDA, the first


def test_inputs_are_taken_by_dlpack(player: Player) -> None:
    given = {name: OnlyDLPack(np.asarray(array)) for name, array in inputs(2).items()}
    assert_played(player.run(given), played(**inputs(2)))


def test_an_input_on_a_gpu_is_refused_by_a_player_on_the_cpu(player: Player) -> None:
    given = {**inputs(), "noise": OnAGpu(inputs()["noise"])}
    with pytest.raises(InputError, match=r"'noise': lies on a GPU.*x\.cpu\(\)"):
        player.run(given)


def test_an_interrupted_player_plays_again(player: Player) -> None:
    def interrupt(done: int, total: int, call: Call) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        player.run(inputs(3), interrupt)
    assert_played(player.run(inputs(1)), played(**inputs(1)))


def test_a_playing_player_refuses_a_second_run(player: Player) -> None:
    refused: list[Exception] = []

    def meddle() -> None:
        try:
            player.run(inputs())
        except InputError as error:
            refused.append(error)

    def progress(done: int, total: int, call: Call) -> None:
        thread = threading.Thread(target=meddle)
        thread.start()
        thread.join()

    assert_played(player.run(inputs(1), progress), played(**inputs(1)))
    assert len(refused) == 5
    assert "second player" in str(refused[0])


def test_a_closed_player_says_so(bundle: Bundle) -> None:
    player = bundle.player("toy", threads=1)
    player.close()
    player.close()
    with pytest.raises(InputError, match="closed"):
        player.run(inputs())


def test_a_prompt_becomes_token_ids(player: Player) -> None:
    encoded = player.encode("a red")
    assert encoded.keys() == {"token_ids"}
    assert encoded["token_ids"].tolist() == [[0, 4, 5, 1]]
    player.run(encoded | {"noise": inputs()["noise"]})


def test_prompts_must_fit_the_plan(player: Player) -> None:
    with pytest.raises(InputError, match="takes no negative prompt"):
        player.encode("a red", "apple")
    with pytest.raises(InputError, match="expected 1 prompts, found 2"):
        player.encode(["a", "red"])
    with pytest.raises(InputError, match="expected a text"):
        player.encode([7])  # type: ignore[list-item]


def test_every_tokenizer_makes_its_own_inputs(tmp_path: Path) -> None:
    plan = mutated(lambda plan: None)
    for i, name in enumerate(("negative_token_ids", "token_ids_2", "negative_token_ids_2")):
        plan["values"][name] = {**plan["values"]["token_ids"], "offset": 1792 + 256 * i}
    plan["arena_bytes"] = 1792 + 256 * 3
    folder = write_bundle(tmp_path / "two", plan)
    seal(folder, tokenizers={"token_ids": TOKENIZER, "token_ids_2": {**TOKENIZER, "pad": 0}})
    with Bundle.open(folder).player("toy", "null") as player:
        encoded = player.encode("a", "red apple")
    assert {name: ids.tolist() for name, ids in encoded.items()} == {
        "token_ids": [[0, 4, 1, 2]],
        "negative_token_ids": [[0, 5, 6, 1]],
        "token_ids_2": [[0, 4, 1, 0]],
        "negative_token_ids_2": [[0, 5, 6, 1]],
    }


def test_the_null_backend_counts_launches_and_gives_zeros(bundle: Bundle) -> None:
    from keepstep.runtime.backends.null import NullSession

    with bundle.player("toy", "null") as player:
        found = player.run(inputs())
        assert not found["latents"].any()
        assert found["image"].dtype == np.uint8
        assert isinstance(player._session, NullSession)
        assert player._session.launches == dict.fromkeys(player.plan.stages, 1)


@pytest.mark.parametrize("threads", [0, -1, True, 1.5, "2", 1025, 10_000, 2**40])
def test_threads_are_a_count(bundle: Bundle, threads: Any) -> None:
    with pytest.raises(InputError, match="threads: expected an int from 1 to 1024"):
        bundle.player("toy", threads=threads)


def test_an_engine_that_fails_is_named(player: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def run_with_iobinding(self, binding: object) -> None:
            raise RuntimeError("indices out of bounds")

    session: Any = player._session
    launches = list(session._launches)
    launches[2] = (Broken(), launches[2][1])
    monkeypatch.setattr(session, "_launches", launches)
    with pytest.raises(BackendError, match=r"stage 'shallow' \(calls\[2\]\).*out of bounds"):
        player.run(inputs())
    monkeypatch.undo()
    assert_played(player.run(inputs(1)), played(**inputs(1)))


def test_a_tokenizer_that_does_not_fit_the_plan_is_refused(folder: Path) -> None:
    seal(folder, tokenizers={"token_ids": {**TOKENIZER, "length": 2**20}})
    with (
        Bundle.open(folder).player("toy", "null") as player,
        pytest.raises(BundleError, match=r"input token_ids is int64\[1, 4\], but"),
    ):
        player.encode("a")
