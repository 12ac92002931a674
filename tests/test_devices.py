from __future__ import annotations

import pytest

from optuna_propulate.devices import device_index
from optuna_propulate.devices import threads_for_rank


def test_ranks_take_the_gpus_in_turn() -> None:
    assert [device_index(rank, 6, 4) for rank in range(6)] == [0, 1, 2, 3, 0, 1]


def test_one_visible_gpu_is_number_0() -> None:
    assert [device_index(rank, 3, 1) for rank in range(3)] == [0, 0, 0]


def test_no_gpu_is_none() -> None:
    assert device_index(0, 1, 0) is None


@pytest.mark.parametrize("arguments", [(2, 2, 1), (-1, 2, 1), (0, 1, -1)])
def test_impossible_places_are_refused(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        device_index(*arguments)


def test_ranks_share_the_cores_that_they_may_all_use() -> None:
    everything = frozenset(range(8))
    assert threads_for_rank(0, [everything] * 3) == 2
    assert threads_for_rank(0, [everything] * 30) == 1
    assert threads_for_rank(0, [frozenset({0, 1}), frozenset({2, 3})]) == 2
