from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optuna_propulate.islands import resolve_topology
from optuna_propulate.islands import settle_workers


@given(st.integers(1, 40), st.integers(0, 60))
def test_every_worker_lives_on_one_island_and_sizes_differ_by_one(n: int, more: int) -> None:
    archipelago = settle_workers(n, n + more)
    homes = [archipelago.island_of(worker) for worker in range(n + more)]
    assert homes == sorted(homes)
    assert set(homes) == set(range(n))
    assert max(archipelago.sizes) - min(archipelago.sizes) <= 1
    for island in range(n):
        assert all(homes[worker] == island for worker in archipelago.workers_of(island))


def test_sizes_may_be_given() -> None:
    assert settle_workers([3, 5], 8).sizes == (3, 5)


@pytest.mark.parametrize("islands", [0, -1, 5, [1, 2], [4, 0], [5, -1]])
def test_impossible_archipelagos_are_refused(islands: int | list[int]) -> None:
    with pytest.raises(ValueError, match=r"island"):
        settle_workers(islands, 4)


@pytest.mark.parametrize("islands", [True, 1.5, "2", [1.0, 3.0], None])
def test_islands_are_integers(islands: object) -> None:
    with pytest.raises(TypeError, match="islands"):
        settle_workers(islands, 4)  # type: ignore[arg-type]


def test_named_topologies_have_their_shapes() -> None:
    assert resolve_topology("fully_connected", 3).tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]
    assert resolve_topology("ring", 3).tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert resolve_topology("star", 3).tolist() == [[0, 1, 1], [1, 0, 0], [1, 0, 0]]
    assert resolve_topology("unconnected", 2).tolist() == [[0, 0], [0, 0]]
    assert resolve_topology("ring", 1).tolist() == [[0]]
    assert resolve_topology([[0, 2], [1, 0]], 2).tolist() == [[0, 2], [1, 0]]


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[0, 1]], "shape"),
        ([[0, -1], [1, 0]], r"topology\[0\]\[1\]"),
        ([[0, 1], [0.5, 0]], r"topology\[1\]\[0\]"),
        ([[0, 1], [1, 2]], r"topology\[1\]\[1\]"),
        ("moebius", "moebius"),
    ],
)
def test_wrong_topologies_are_refused(matrix: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_topology(matrix, 2)  # type: ignore[arg-type]
