from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.testing.pytest_samplers import BasicSamplerTestCase
from optuna.testing.pytest_samplers import RelativeSamplerTestCase
from optuna.testing.pytest_samplers import SingleOnlySamplerTestCase

from optuna_propulate import PropulateSampler
from optuna_propulate.breeders import ParzenSampling
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.evolution.ranking import by_loss
from optuna_propulate.exchange.local import Network
from optuna_propulate.islands import Migration
from optuna_propulate.islands import Pollination
from optuna_propulate.operators import SelectBest
from optuna_propulate.operators import SelectUniform
from optuna_propulate.operators import crossover_and_mutation


if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    import numpy as np

    from optuna_propulate.breeders import BreedingContext
    from optuna_propulate.breeders import Evaluation


class TestContract(BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], PropulateSampler]:
        return lambda: PropulateSampler(seed=0)


def sphere(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -5, 5) ** 2 + trial.suggest_float("y", -5, 5) ** 2


def _params(seed: int) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=PropulateSampler(seed=seed))
    study.optimize(sphere, n_trials=60)
    return [trial.params for trial in study.trials]


def test_a_seed_reproduces_every_trial() -> None:
    assert _params(3) == _params(3)
    assert _params(3) != _params(4)


def test_evolution_beats_its_own_random_start() -> None:
    study = optuna.create_study(sampler=PropulateSampler(seed=1))
    study.optimize(sphere, n_trials=400)
    assert study.best_value < min(t.value for t in study.trials[:10]) / 10


def test_trials_say_where_they_come_from() -> None:
    study = optuna.create_study(sampler=PropulateSampler(seed=1))
    seen = []
    study.optimize(lambda t: seen.append(dict(t.user_attrs)) or sphere(t), n_trials=40)
    last = study.trials[-1]
    assert last.user_attrs == seen[-1]
    assert last.user_attrs["island"] == last.user_attrs["worker"] == 0
    assert max(trial.user_attrs["generation"] for trial in study.trials) > 0
    lineage = last.system_attrs["propulate:lineage"]
    assert lineage["operators"]
    assert all(parent < last.number for parent in lineage["parents"])


def test_failed_and_pruned_trials_are_not_bred_from() -> None:
    def objective(trial: optuna.Trial) -> float:
        value = sphere(trial)
        if trial.number % 3 == 1:
            raise optuna.TrialPruned
        if trial.number % 3 == 2:
            raise ArithmeticError
        return value

    sampler = PropulateSampler(seed=1)
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=60, catch=ArithmeticError)
    assert {individual.number % 3 for individual in sampler.breeding_pool(study)} == {0}


def test_trials_that_others_add_are_bred_from() -> None:
    sampler = PropulateSampler(seed=1)
    study = optuna.create_study(sampler=sampler)
    study.optimize(sphere, n_trials=12)
    space = study.trials[0].distributions
    study.add_trial(
        optuna.trial.create_trial(params={"x": 0.0, "y": 0.0}, distributions=space, value=0.0)
    )
    study.optimize(sphere, n_trials=2)
    assert sampler.breeding_pool(study)[0].number == 12


def test_enqueued_trials_keep_their_parameters() -> None:
    study = optuna.create_study(sampler=PropulateSampler(seed=1))
    study.optimize(sphere, n_trials=12)
    study.enqueue_trial({"x": 1.25})
    study.optimize(sphere, n_trials=1)
    assert study.trials[-1].params["x"] == 1.25
    assert study.trials[-1].system_attrs["propulate:lineage"]["operators"][0] == "Enqueued"


def test_a_copy_goes_on_from_the_studys_trials() -> None:
    study = optuna.create_study(sampler=PropulateSampler(seed=1))
    study.optimize(sphere, n_trials=30)
    for other in (pickle.loads(pickle.dumps(study)), copy.deepcopy(study)):
        pools = [one.sampler.breeding_pool(one) for one in (other, study)]
        copied, original = ([(by_loss(i), i.genes) for i in pool] for pool in pools)
        assert copied == original


def test_spaces_may_be_conditional_and_ranges_may_move() -> None:
    def objective(trial: optuna.Trial) -> float:
        kind = trial.suggest_categorical("kind", ["a", None, True])
        if kind == "a":
            return trial.suggest_float("x", trial.number / 10, 10 + trial.number / 10)
        return trial.suggest_int("n", 1, 50, log=True)

    study = optuna.create_study(sampler=PropulateSampler(seed=1))
    study.optimize(objective, n_trials=100)
    assert all(trial.state.is_finished() for trial in study.trials)


def test_threads_share_a_sampler() -> None:
    study = optuna.create_study(sampler=PropulateSampler(seed=1))
    study.optimize(sphere, n_trials=100, n_jobs=4)
    assert len(study.trials) == 100


class Upwards:
    """A migration policy of somebody else's: copies of any, in place of the best."""

    leaves_home = False

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def emigrants(self, n: int) -> SelectUniform:
        return SelectUniform(n)

    def replaced(self, n: int) -> SelectBest:
        return SelectBest(n)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"population_size": 1}, ValueError, "population_size"),
        ({"islands": 2}, ValueError, "islands"),
        ({"islands": "two"}, TypeError, "islands"),
        ({"topology": "moebius"}, ValueError, "moebius"),
        ({"topology": [[1]]}, ValueError, r"topology\[0\]\[0\]"),
        ({"migration": 0.5}, TypeError, "migration"),
        ({"operators": 3}, TypeError, "operators"),
        ({"operators": ParzenSampling}, TypeError, "operators"),
        ({"migration": Migration}, TypeError, "migration"),
        ({"migration": Upwards(2.0)}, ValueError, "probability"),
        ({"exchange": "mpi"}, TypeError, "exchange"),
        ({"comm": "world"}, TypeError, "comm"),
    ],
)
def test_bad_arguments_are_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        PropulateSampler(**arguments)


def operators_of(sampler: PropulateSampler, n_trials: int = 150) -> set[str]:
    study = optuna.create_study(sampler=sampler)
    study.optimize(sphere, n_trials=n_trials)
    return {
        operator
        for trial in study.trials
        for operator in trial.system_attrs["propulate:lineage"]["operators"]
    }


def test_the_default_breeds_in_two_ways_and_screens() -> None:
    ways = {"Recombination", "CovarianceSampling", "Screening"}
    assert operators_of(PropulateSampler(seed=1)) == ways | {"RandomInitialization"}
    assert not ways & operators_of(PropulateSampler(seed=1), n_trials=10)


def test_an_operator_breeds_once_the_pool_is_full() -> None:
    sampler = PropulateSampler(population_size=12, operators=crossover_and_mutation(), seed=1)
    assert operators_of(sampler, n_trials=12) == {"RandomInitialization"}
    operators = operators_of(sampler)
    assert "IntervalMutation" in operators
    assert not operators & {"CovarianceSampling", "Screening"}


class Repeat:
    """A breeder that proposes the best that it has heard of once more."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.best = Individual(genes={})

    def propose(self, context: BreedingContext, rng: np.random.Generator) -> Individual:
        return Individual(self.best.genes)

    def observe(self, evaluation: Evaluation) -> None:
        self.heard.append(evaluation.individual.number)
        if evaluation.rank == 0:
            self.best = evaluation.individual


def test_a_breeder_proposes_each_trial_and_learns_for_one_study() -> None:
    breeder = Repeat()
    sampler = PropulateSampler(operators=breeder, seed=1)
    for _ in range(2):
        study = optuna.create_study(sampler=sampler)
        study.optimize(sphere, n_trials=5)
        assert len({trial.params["x"] for trial in study.trials}) == 1
        (known,) = sampler._states[study._storage].values()
        assert known.island._breeder.heard == list(range(5))  # type: ignore[attr-defined]
    assert breeder.heard == []


def test_an_exchange_of_somebody_elses_carries_migrants() -> None:
    network, n_trials = Network([range(1), range(1, 2)]), 30
    samplers = [
        PropulateSampler(
            islands=2,
            island=island,
            migration=Pollination(1.0),
            exchange=lambda where: network.exchange(where.island),
            seed=1,
        )
        for island in range(2)
    ]
    storage = optuna.storages.InMemoryStorage()
    studies = [
        optuna.create_study(
            storage=storage, sampler=sampler, study_name="shared", load_if_exists=True
        )
        for sampler in samplers
    ]
    for _ in range(n_trials):
        for study in studies:
            study.optimize(sphere, n_trials=1)
    for sampler, study in zip(samplers, studies, strict=True):
        tally = sampler.tally(study)
        assert tally.born == n_trials
        assert tally.arrived + tally.turned_away > n_trials / 2
        islands = {individual.island for individual in sampler.breeding_pool(study)}
        assert islands == {0, 1}


def test_a_small_population_is_random_no_longer_than_it_must() -> None:
    study = optuna.create_study(sampler=PropulateSampler(population_size=3, seed=1))
    study.optimize(sphere, n_trials=10)
    generations = [trial.user_attrs["generation"] for trial in study.trials]
    assert generations[:3] == [0, 0, 0]
    assert min(generations[3:]) > 0


def test_workers_that_share_a_database_learn_from_each_other() -> None:
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(storage=storage, study_name="s")
    samplers = [PropulateSampler(islands=2, island=0, seed=seed) for seed in (1, 2)]
    studies = [
        optuna.load_study(storage=storage, study_name="s", sampler=sampler) for sampler in samplers
    ]
    for _ in range(30):
        for study in studies:
            study.optimize(sphere, n_trials=1)
    chosen = {
        individual.lineage.choice
        for sampler, study in zip(samplers, studies, strict=True)
        for individual in sampler.breeding_pool(study)
    }
    assert len(chosen - {-1}) > 1
    first, second = (
        [(i.number, i.lineage.choice) for i in sampler.breeding_pool(study)]
        for sampler, study in zip(samplers, studies, strict=True)
    )
    shared = {number for number, _ in first} & {number for number, _ in second}
    assert len(shared) >= 10
    assert {pair for pair in first if pair[0] in shared} == {
        pair for pair in second if pair[0] in shared
    }


def test_an_enqueued_trial_earns_nobody_credit() -> None:
    study = optuna.create_study(sampler=PropulateSampler(seed=1))
    study.optimize(sphere, n_trials=40)
    study.enqueue_trial({"x": 0.0, "y": 0.0})
    study.optimize(sphere, n_trials=1)
    sampler = study.sampler
    assert isinstance(sampler, PropulateSampler)
    best = sampler.breeding_pool(study)[0]
    assert best.number == 40
    assert best.lineage.choice == -1
    assert "choice" not in study.trials[40].system_attrs["propulate:lineage"]
    assert study.trials[39].system_attrs["propulate:lineage"]["choice"] in range(5)


@pytest.mark.parametrize("population_size", [1, 0, -3])
def test_a_pool_too_small_is_refused_with_any_operator(population_size: int) -> None:
    with pytest.raises(ValueError, match="population_size"):
        PropulateSampler(population_size=population_size, operators=lambda pool, rng: pool)


def test_choices_may_be_lists() -> None:
    study = optuna.create_study(sampler=PropulateSampler(seed=1))
    layers = [[32], [64, 64], [32, 32, 32]]
    with pytest.warns(UserWarning, match="Choices for a categorical"):
        study.optimize(lambda trial: len(trial.suggest_categorical("layers", layers)), n_trials=20)
    assert study.best_value == 1
