from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from optuna_propulate.breeders import AvoidDuplicates
from optuna_propulate.breeders import BreedingContext
from optuna_propulate.breeders import CovarianceSampling
from optuna_propulate.breeders import CreditChoice
from optuna_propulate.breeders import Evaluation
from optuna_propulate.breeders import InheritMissing
from optuna_propulate.breeders import WarmUp
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.evolution.individual import Lineage


if TYPE_CHECKING:
    from collections.abc import Sequence


def good(pool: Sequence[Individual], rng: np.random.Generator) -> list[Individual]:
    return [Individual(genes={}, lineage=Lineage(("good",)))]


def bad(pool: Sequence[Individual], rng: np.random.Generator) -> list[Individual]:
    return [Individual(genes={}, lineage=Lineage(("bad",)))]


def chosen(choice: CreditChoice, n: int) -> Counter[str]:
    context, rng = BreedingContext(), np.random.default_rng(1)
    return Counter(choice.propose(context, rng).lineage.operators[0] for _ in range(n))


def hear(choice: CreditChoice, made_by: int, *, best: bool) -> None:
    """Let an evaluation be the best so far, or worse than the best 64."""
    individual = Individual({}, lineage=Lineage(choice=made_by))
    choice.observe(Evaluation(individual, 0 if best else 64))


def test_what_nobody_has_tried_is_chosen_as_often() -> None:
    counts = chosen(CreditChoice((good, bad), (0.1, 0.1)), 4000)
    assert abs(counts["good"] / 4000 - 0.5) < 0.05  # six standard deviations


def test_the_better_one_is_chosen_and_the_other_keeps_its_floor() -> None:
    choice = CreditChoice((good, bad), (0.1, 0.1))
    for _ in range(100):
        hear(choice, -1, best=True)
    assert abs(chosen(choice, 4000)["bad"] / 4000 - 0.5) < 0.05  # nobody's credit
    for _ in range(400):
        hear(choice, 0, best=True)
        hear(choice, 1, best=False)
    counts = chosen(choice, 4000)
    assert abs(counts["bad"] / 4000 - 0.1) < 0.03
    for _ in range(400):  # and what was bad may become good
        hear(choice, 0, best=False)
        hear(choice, 1, best=True)
    assert chosen(choice, 4000)["bad"] > 3400


def test_offspring_carry_the_choice_and_others_earn_nothing() -> None:
    choice = CreditChoice((good, bad), (0.5, 0.5))
    context, rng = BreedingContext(), np.random.default_rng(1)
    for _ in range(50):
        child = choice.propose(context, rng)
        assert child.lineage.choice == ["good", "bad"].index(child.lineage.operators[0])
    for _ in range(100):
        hear(choice, -1, best=True)
        hear(choice, 7, best=True)  # an island with more operators sent it
    assert chosen(choice, 400).keys() == {"good", "bad"}


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


class Listener:
    """A breeder that counts what it hears of."""

    n_heard = 0

    def propose(self, context: BreedingContext, rng: np.random.Generator) -> Individual:
        return Individual({}, lineage=Lineage(("listener",)))

    def observe(self, evaluation: Evaluation) -> None:
        self.n_heard += 1


def test_every_way_hears_of_every_evaluation_whoever_made_it() -> None:
    listeners = [Listener(), Listener()]
    nested = AvoidDuplicates(InheritMissing(WarmUp(2, CovarianceSampling(listeners[1]))))
    choice = CreditChoice((listeners[0], nested), (0.1, 0.1))
    for made_by in (-1, 0, 0, 1):
        hear(choice, made_by, best=True)
    assert [listener.n_heard for listener in listeners] == [4, 4]
