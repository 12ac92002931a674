from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optuna_propulate.islands import resolve_topology
from optuna_propulate.islands.topology import TOPOLOGIES
from optuna_propulate.islands.topology import in_words
from optuna_propulate.islands.topology import random_regular
from optuna_propulate.islands.topology import ring
from optuna_propulate.islands.topology import torus


def test_named_topologies_have_their_shapes() -> None:
    assert resolve_topology("fully_connected", 3).tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]
    assert resolve_topology("ring", 3).tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert ring(4, two_way=True).tolist() == [
        [0, 1, 0, 1],
        [1, 0, 1, 0],
        [0, 1, 0, 1],
        [1, 0, 1, 0],
    ]
    assert resolve_topology("star", 3).tolist() == [[0, 1, 1], [1, 0, 0], [1, 0, 0]]
    assert resolve_topology("unconnected", 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("name", TOPOLOGIES)
@given(n_islands=st.integers(1, 40))
def test_every_named_topology_is_one_for_any_number_of_islands(name: str, n_islands: int) -> None:
    matrix = resolve_topology(name, n_islands)
    assert matrix.shape == (n_islands, n_islands)
    assert set(matrix.ravel().tolist()) <= {0, 1}
    assert not matrix.diagonal().any()


@given(st.integers(1, 60))
def test_on_a_torus_everybody_has_the_same_two_to_four_neighbours(n_islands: int) -> None:
    matrix = torus(n_islands)
    assert (matrix == matrix.T).all()
    assert len(set(matrix.sum(axis=0).tolist())) == 1
    assert matrix.sum(axis=0)[0] == {1: 0, 2: 1, 3: 2, 4: 2}.get(n_islands, matrix.sum(axis=0)[0])
    assert matrix.sum(axis=0)[0] <= 4


def test_a_torus_of_twelve_is_three_rows_of_four() -> None:
    assert np.flatnonzero(torus(12)[0]).tolist() == [1, 3, 4, 8]
    assert np.flatnonzero(torus(12)[5]).tolist() == [1, 4, 6, 9]


@given(st.integers(2, 30), st.data())
def test_random_neighbours_are_as_many_as_asked_for_and_all_islands_are_connected(
    n_islands: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(0, n_islands - 1).filter(lambda k: k * n_islands % 2 == 0))
    matrix = resolve_topology(random_regular(k, seed=3), n_islands)
    assert (matrix == matrix.T).all()
    assert (matrix.sum(axis=0) == k).all()
    if k >= 2:
        reached = np.linalg.matrix_power(matrix + np.eye(n_islands, dtype=int) > 0, n_islands)
        assert reached.all()
    assert (matrix == random_regular(k, seed=3)(n_islands)).all()


@pytest.mark.parametrize(("k", "n_islands"), [(3, 5), (4, 4), (-1, 4)])
def test_impossible_numbers_of_neighbours_are_refused(k: int, n_islands: int) -> None:
    with pytest.raises(ValueError, match=f"k={k} and {n_islands} islands"):
        resolve_topology(random_regular(k, seed=0), n_islands)


def test_a_topology_of_ones_own_is_a_matrix_or_makes_one() -> None:
    assert resolve_topology([[0, 2], [1, 0]], 2).tolist() == [[0, 2], [1, 0]]
    assert resolve_topology(lambda n: 3 * (1 - np.eye(n)), 2).tolist() == [[0, 3], [3, 0]]


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[0, 1]], "shape"),
        ([[0, 1], [1]], "rows differ"),
        ([[0, -1], [1, 0]], r"topology\[0\]\[1\] must be 0 or more, but got -1"),
        ([[0, 1], [0.5, 0]], r"topology\[1\]\[0\] must be an integer, but got 0.5"),
        ([[0, float("nan")], [1, 0]], r"topology\[0\]\[1\]"),
        ([[0, float("inf")], [1, 0]], r"topology\[0\]\[1\]"),
        ([[0, "a"], [1, 0]], r"topology\[0\]\[0\]"),
        ([[0, 1], [1, 2]], r"topology\[1\]\[1\]"),
        (lambda n: np.ones((n, n)), r"topology\[0\]\[0\]"),
        ("moebius", "moebius"),
    ],
)
def test_wrong_topologies_are_refused(matrix: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_topology(matrix, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("topology", [3, None, lambda n: None, lambda n: "ring"])
def test_what_is_no_topology_is_refused(topology: object) -> None:
    with pytest.raises(TypeError, match="topology"):
        resolve_topology(topology, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("topology", "n", "words"),
    [
        ("fully_connected", 2, "each sends one to the other"),
        ("fully_connected", 4, "each sends one to every other"),
        ("ring", 3, "each sends one to the next"),
        ("torus", 6, "each sends one to its neighbours on a torus"),
        ("unconnected", 3, "nobody travels"),
        ([[0, 2, 0], [0, 0, 0], [1, 3, 0]], 3, "0 sends 2 to 1; 2 sends 1 to 0, 3 to 1"),
        (lambda n: 3 * np.eye(n, k=1, dtype=int), 9, "8 ways, up to 3 at a time"),
    ],
)
def test_a_topology_is_told_in_words(topology: object, n: int, words: str) -> None:
    assert in_words(resolve_topology(topology, n)) == words  # type: ignore[arg-type]
