from __future__ import annotations

from collections import Counter
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import pytest

from optuna_propulate.breeders import BreedingContext
from optuna_propulate.breeders import CreditChoice
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.evolution.individual import Lineage


if TYPE_CHECKING:
    from collections.abc import Sequence


NUMBERS = count()


def good(pool: Sequence[Individual], rng: np.random.Generator) -> list[Individual]:
    return [Individual(genes={}, lineage=Lineage(("good",)))]


def bad(pool: Sequence[Individual], rng: np.random.Generator) -> list[Individual]:
    return [Individual(genes={}, lineage=Lineage(("bad",)))]


def chosen(choice: CreditChoice, context: BreedingContext, n: int) -> Counter[str]:
    rng = np.random.default_rng(1)
    return Counter(choice(context, rng)[0].lineage.operators[0] for _ in range(n))


def hear(context: BreedingContext, choice: int, *, best: bool) -> None:
    """Let a birth be the best so far, or worse than the best hundred."""
    number = next(NUMBERS)
    loss = -float(number) if best else 1.0
    context.hear(Individual({}, loss=loss, number=number, lineage=Lineage(choice=choice)))


def test_what_nobody_has_tried_is_chosen_as_often() -> None:
    counts = chosen(CreditChoice((good, bad), (0.1, 0.1)), BreedingContext(), 4000)
    assert abs(counts["good"] / 4000 - 0.5) < 0.05  # six standard deviations


def test_the_better_one_is_chosen_and_the_other_keeps_its_floor() -> None:
    choice, context = CreditChoice((good, bad), (0.1, 0.1)), BreedingContext()
    for _ in range(100):
        hear(context, -1, best=True)
    assert abs(chosen(choice, context, 4000)["bad"] / 4000 - 0.5) < 0.05  # nobody's credit
    for _ in range(400):
        hear(context, 0, best=True)
        hear(context, 1, best=False)
    counts = chosen(choice, context, 4000)
    assert abs(counts["bad"] / 4000 - 0.1) < 0.03
    for _ in range(400):  # and what was bad may become good
        hear(context, 0, best=False)
        hear(context, 1, best=True)
    assert chosen(choice, context, 4000)["bad"] > 3400


def test_offspring_carry_the_choice_and_others_earn_nothing() -> None:
    choice, context = CreditChoice((good, bad), (0.5, 0.5)), BreedingContext()
    rng = np.random.default_rng(1)
    for _ in range(50):
        (child,) = choice(context, rng)
        assert child.lineage.choice == ["good", "bad"].index(child.lineage.operators[0])
    for _ in range(100):
        hear(context, -1, best=True)
        hear(context, 7, best=True)  # an island with more operators sent it
    assert chosen(choice, context, 400).keys() == {"good", "bad"}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"operators": ()}, "operators"),
        ({"floors": (0.1,)}, "floors"),
        ({"floors": (0.9, 0.2)}, "floors"),
        ({"floors": (-0.1, 0.2)}, "floors"),
        ({"top": 0}, "top"),
        ({"decay": 1.0}, "decay"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], named: str) -> None:
    arguments = {"operators": (good, bad), "floors": (0.1, 0.1)} | settings
    with pytest.raises(ValueError, match=named):
        CreditChoice(**arguments)  # type: ignore[arg-type]
