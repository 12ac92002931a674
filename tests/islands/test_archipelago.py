from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optuna_propulate.islands import Archipelago
from optuna_propulate.islands import assign_workers
from optuna_propulate.islands.archipelago import assign_process
from optuna_propulate.islands.archipelago import node_sizes


@given(st.integers(1, 40), st.integers(0, 60))
def test_every_worker_lives_on_one_island_and_sizes_differ_by_one(n: int, more: int) -> None:
    archipelago = assign_workers(n, n + more)
    homes = [archipelago.island_of(worker) for worker in range(n + more)]
    assert homes == sorted(homes)
    assert set(homes) == set(range(n))
    assert max(archipelago.sizes) - min(archipelago.sizes) <= 1
    for island in range(n):
        assert all(homes[worker] == island for worker in archipelago.islands[island])


def test_sizes_may_be_given() -> None:
    assert assign_workers([3, 5], 8).sizes == (3, 5)


@pytest.mark.parametrize("islands", [0, -1, 5, [1, 2], [4, 0], [5, -1]])
def test_impossible_archipelagos_are_refused(islands: int | list[int]) -> None:
    with pytest.raises(ValueError, match=r"island"):
        assign_workers(islands, 4)


@pytest.mark.parametrize("islands", [True, 1.5, "2", [1.0, 3.0], None])
def test_islands_are_integers(islands: object) -> None:
    with pytest.raises(TypeError, match="islands"):
        assign_workers(islands, 4)  # type: ignore[arg-type]


@pytest.mark.parametrize("islands", [[], [0, 4], "node"])
def test_what_is_no_archipelago_is_refused(islands: object) -> None:
    with pytest.raises((ValueError, TypeError), match="island"):
        assign_workers(islands, 4)  # type: ignore[arg-type]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_each_node_is_an_island_if_its_ranks_are_contiguous(sizes: list[int]) -> None:
    nodes = [100 - node for node, size in enumerate(sizes) for _ in range(size)]
    assert node_sizes(nodes) == sizes


def test_nodes_whose_ranks_are_scattered_are_refused() -> None:
    with pytest.raises(ValueError, match="contiguous"):
        node_sizes([0, 1, 0, 1])


def test_a_process_without_mpi_says_which_island_it_lives_on() -> None:
    assert assign_process(1, None, None) == (Archipelago((1,)), 0)
    assert assign_process([1], None, "7") == (Archipelago((1,)), 0)
    assert assign_process("node", None, None) == (Archipelago((1,)), 0)
    assert assign_process(3, 2, None) == (Archipelago((1, 1, 1)), 2)
    assert assign_process(3, None, "1") == (Archipelago((1, 1, 1)), 1)
    assert assign_process(3, 0, "1")[1] == 0


@pytest.mark.parametrize(
    ("islands", "island", "variable"),
    [(3, None, None), (3, 3, None), (3, -1, None), (3, None, "3"), (3, None, "x"), (3, 1.0, None),
     (1, 1, None), ([2, 3], 0, None), (0, None, None)],
)  # fmt: skip
def test_a_process_without_mpi_cannot_live_on_no_island(
    islands: int, island: int | None, variable: str | None
) -> None:
    with pytest.raises(ValueError, match="island"):
        assign_process(islands, island, variable)
