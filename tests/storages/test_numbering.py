from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from optuna_propulate.storages.writer.numbering import Numbering


class Table:
    """The rows of a study as a database keeps them: an id and a number each."""

    def __init__(self, n_rows: int) -> None:
        self.numbers = {identity: identity for identity in range(n_rows)}
        self.ours: dict[int, int] = {}
        self.n_ids = n_rows

    def insert(self, number: int) -> int:
        self.numbers[self.n_ids] = number
        self.n_ids += 1
        return self.n_ids - 1

    def check(self) -> None:
        assert sorted(self.numbers.values()) == list(range(len(self.numbers)))


events = st.lists(st.sampled_from(["claim", "tell", "foreign", "answer", "write"]), max_size=60)


@given(st.integers(0, 3), events, st.randoms())
def test_numbers_are_dense_and_unique_whatever_comes_in_between(
    n_rows: int, happening: list[str], random: object
) -> None:
    table, numbering = Table(n_rows), Numbering(n_rows)
    counter = n_rows
    untold: list[int] = []  # claimed by workers, not told to the writer
    told: list[int] = []
    asked: list[int] = []  # claimed for floating rows, the writer does not know yet
    foreign, settled, seen = set(), {}, n_rows

    def write() -> None:
        nonlocal seen
        for identity in range(seen, table.n_ids):
            if identity in foreign:
                numbering.found(identity)
        plan = numbering.plan(told)
        for number in plan.deleted:
            del table.numbers[table.ours.pop(number)]
        for number in plan.inserted:
            table.ours[number] = table.insert(number)
        table.numbers.update(plan.renumbered)
        assert not settled.keys() & plan.settled.keys()
        settled.update(plan.settled)
        seen = table.n_ids
        told.clear()
        table.check()
        assert numbering.n_rows == len(table.numbers)
        assert all(table.numbers[identity] == number for identity, number in settled.items())

    for what in [*happening, "tell", "write", "answer", "write"]:
        if what == "claim":
            untold.append(counter)
            counter += 1
        elif what == "tell" and untold:
            random.shuffle(untold)  # type: ignore[attr-defined]
            told.append(untold.pop())
        elif what == "foreign":
            foreign.add(table.insert(len(table.numbers)))
            table.check()
        elif what == "answer":
            numbering.claimed(asked)
            asked.clear()
        elif what == "write":
            write()
            n = numbering.n_unclaimed - len(asked)
            asked += range(counter, counter + n)
            counter += n
    told += untold
    numbering.claimed(asked)
    write()
    assert settled.keys() == foreign
    assert len(table.numbers) == counter == numbering.n_rows
