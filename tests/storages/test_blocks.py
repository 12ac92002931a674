"""The numbers of a job's trials: open while it is alone, then in blocks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from optuna_propulate.storages.wire.blocks import SHARED
from optuna_propulate.storages.wire.blocks import Numbers


blocks_of = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 7)), max_size=20)


@given(st.integers(0, 9), st.integers(0, 9), blocks_of, st.randoms())
def test_each_index_has_a_number_of_its_own_in_whatever_order_blocks_come(
    base: int, n_alone: int, sizes: list[tuple[int, int]], random: object
) -> None:
    known, index, number = [], SHARED, base + n_alone
    for gap, n in sizes:
        number += gap  # what others have claimed in between
        known.append((index, number, n))
        index, number = index + n, number + n
    shuffled = known + known[::2]  # some are told twice
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    numbers = Numbers(base, shuffled)
    assert numbers.end == index
    assert numbers.number_of(index) is None
    indices = [*range(n_alone), *range(SHARED, index)]
    mapped = [numbers.number_of(i) for i in indices]
    assert len(set(mapped)) == len(mapped)
    assert [numbers.index_of(n) for n in mapped if n is not None] == indices
    ours = [n for n in range(number + 5) if numbers.holds(n, n_alone)]
    assert ours == mapped


@given(st.lists(st.integers(1, 5), max_size=30))
def test_blocks_that_follow_one_another_are_one(sizes: list[int]) -> None:
    numbers, index = Numbers(3), SHARED
    for n in sizes:
        numbers.add(index, index - SHARED + 10, n)
        index += n
    assert len(numbers.blocks) == min(1, len(sizes))
    assert numbers.end == index
