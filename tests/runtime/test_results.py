from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from plans.toy import toy
from runtime.toy_bundle import NODES, inputs, seal, write_bundle, write_engine

from keepstep.runtime import Bundle, KeepstepError, Player, ResultError
from keepstep.runtime.floats import count_not_finite
from keepstep.runtime.format.plan import Call

STEEP = [*NODES["shallow"][:-1], ("Abs", ["sum"], "size"), ("Exp", ["size"], "prediction")]
GOOD = inputs()
BAD = {**inputs(), "noise": np.full((1, 4), 1e4, np.float32)}  # e^89 is beyond float32


@pytest.fixture(scope="module")
def steep(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The toy with an exponential in its shallow stage, which is soon beyond float32."""
    folder = write_bundle(tmp_path_factory.mktemp("steep") / "toy")
    write_engine(folder / "stages/shallow-00.onnx", toy()["stages"]["shallow"], STEEP)
    seal(folder)
    return Bundle.open(folder)


@pytest.fixture
def player(steep: Bundle) -> Iterator[Player]:
    with steep.player("toy", threads=1) as player:
        yield player


def ignored(done: int, total: int, call: Call) -> None:
    """Progress that nobody looks at."""


def lent(player: Player, given: dict[str, Any]) -> None:
    with player.lend(given):
        pass


@pytest.mark.parametrize("play", [Player.run, lambda p, x: p.run(x, ignored), Player.profile, lent])
def test_a_result_that_means_nothing_names_the_first_stage(player: Player, play: Any) -> None:
    good = player.run(GOOD)
    assert np.isfinite(good["latents"]).all()
    with pytest.raises(ResultError) as caught:
        play(player, BAD)
    text = str(caught.value)
    assert "elements of the output 'latents' are NaN or infinite" in text
    assert "the first stage to give such numbers is 'shallow' (calls[2], 'prediction')" in text
    assert "--dtype bfloat16" in text
    again = player.run(GOOD)
    assert np.array_equal(good["latents"], again["latents"])


def test_calls_that_a_feed_leaves_out_are_not_blamed(player: Player) -> None:
    given = {"noise": BAD["noise"], "prompt_embeds": np.zeros((1, 4), np.float32)}
    with pytest.raises(ResultError, match=r"is 'shallow' .calls.2."):
        player.run(given)


def test_it_is_something_that_a_user_can_mend() -> None:
    assert issubclass(ResultError, KeepstepError)


def test_what_cannot_be_seen_twice_is_said(player: Player, monkeypatch: Any) -> None:
    session: Any = player._session
    right, wrong = session.read, [np.full((1, 4), np.inf, np.float32)]
    monkeypatch.setattr(session, "read", lambda name: wrong.pop() if wrong else right(name))
    with pytest.raises(ResultError, match=r"4 of 4 .* played once more, no stage gave"):
        player.run(GOOD)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_numbers_that_are_not_finite_are_counted(dtype: str) -> None:
    array = np.array([0, -1, np.nan, np.inf, -np.inf, np.finfo(dtype).max], dtype)
    assert count_not_finite(array, dtype) == 3


def test_bits_of_bfloat16_and_ints_are_told_apart() -> None:
    bits = np.array([0x7F80, 0xFF80, 0x7FC1, 0x7F7F, 0], np.uint16)
    assert count_not_finite(bits, "bfloat16") == 3
    assert count_not_finite(np.array([0x7F80], np.int32), "int32") == 0
