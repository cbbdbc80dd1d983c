from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from runtime.test_player import assert_played
from runtime.toy_bundle import inputs, played

from keepstep.runtime import Bundle, InputError, Player
from keepstep.runtime.player.lent import Lent

TAKERS: list[Callable[[Any], np.ndarray]] = [np.asarray, np.from_dlpack]


@pytest.mark.parametrize("take", TAKERS)
def test_outputs_are_lent_without_a_copy(player: Player, take: Callable[[Any], np.ndarray]) -> None:
    with player.lend(inputs(1)) as lent:
        first = {name: take(array) for name, array in lent.items()}
        assert_played(first, played(**inputs(1)))
        with pytest.raises(InputError, match="playing already"):
            player.run(inputs())
    player.run(inputs(3))
    assert_played(first, played(**inputs(3)))  # the player's own memory, seen by the borrower


@pytest.mark.parametrize("take", TAKERS)
def test_what_is_lent_is_to_be_read_only(player: Player, take: Callable[[Any], np.ndarray]) -> None:
    if take is np.from_dlpack and np.lib.NumpyVersion(np.__version__) < "2.1.0":
        pytest.skip("before numpy 2.1 DLPack cannot say that memory is read-only")
    with player.lend(inputs()) as lent:
        array = take(lent["latents"])
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1


def test_what_a_borrower_writes_all_the_same_is_gone_with_the_next_run(player: Player) -> None:
    torch = pytest.importorskip("torch")  # knows no tensors that are read-only
    with player.lend(inputs(1)) as lent:
        torch.from_dlpack(lent["latents"]).fill_(7)
    assert_played(player.run(inputs(1)), played(**inputs(1)))


def test_a_library_of_before_dlpack_1_can_take_it(player: Player) -> None:
    with player.lend(inputs()) as lent:
        assert "dltensor" in repr(lent["latents"].__dlpack__())


@pytest.mark.parametrize("take", [*TAKERS, Lent.__dlpack_device__])
def test_what_is_no_longer_lent_cannot_be_taken(player: Player, take: Callable[[Any], Any]) -> None:
    with player.lend(inputs()) as lent:
        pass
    with pytest.raises(InputError, match="'latents' was lent until the end of its `with`"):
        take(lent["latents"])


def test_a_failure_of_the_borrower_ends_the_loan(player: Player) -> None:
    with pytest.raises(ZeroDivisionError), player.lend(inputs()) as lent:
        raise ZeroDivisionError
    with pytest.raises(InputError, match="was lent"):
        np.asarray(lent["latents"])
    assert_played(player.run(inputs()), played(**inputs()))


def test_a_player_cannot_be_closed_while_it_lends(player: Player) -> None:
    with player.lend(inputs(1)) as lent:
        with pytest.raises(InputError, match="playing already"):
            player.close()
        assert_played({n: np.asarray(a) for n, a in lent.items()}, played(**inputs(1)))


def test_what_was_taken_outlives_the_player(bundle: Bundle) -> None:
    with bundle.player("toy", threads=1) as player, player.lend(inputs(1)) as lent:
        taken = {name: np.from_dlpack(array) for name, array in lent.items()}
    del player, lent
    gc.collect()
    assert_played(taken, played(**inputs(1)))


def test_a_copy_or_another_dtype_can_be_asked_for(player: Player) -> None:
    with player.lend(inputs()) as lent:
        copied = np.array(lent["latents"])
        wide = np.asarray(lent["latents"], np.float64)
    assert copied.flags.writeable
    expected = played(**inputs())["latents"]
    np.testing.assert_allclose(copied, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(wide, expected, rtol=1e-5, atol=1e-6)


class OnAGpu:
    def __dlpack__(self, **options: Any) -> object:
        return ("capsule", options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0  # kDLCUDA, the first


def test_memory_of_a_gpu_is_lent_by_dlpack_alone() -> None:
    lent = Lent("latents", OnAGpu())
    assert lent.__dlpack__(stream=7) == ("capsule", {"stream": 7})
    assert lent.__dlpack_device__() == (2, 0)
    with pytest.raises(InputError, match="'latents' is lent on a GPU: take it by DLPack"):
        np.asarray(lent)
