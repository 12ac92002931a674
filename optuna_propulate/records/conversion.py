"""Optuna's trials <-> individuals, and the trials that somebody else works at."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple

from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_propulate._optuna_compat import contains
from optuna_propulate.evolution.genes import Gene
from optuna_propulate.evolution.individual import NO_WORKER
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.evolution.individual import Lineage
from optuna_propulate.evolution.ranking import by_loss
from optuna_propulate.records.attributes import ISLAND
from optuna_propulate.records.attributes import generation_of
from optuna_propulate.records.attributes import integer_attribute
from optuna_propulate.records.attributes import operators_of
from optuna_propulate.records.attributes import parents_of
from optuna_propulate.records.attributes import recorded
from optuna_propulate.records.attributes import worker_of


if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence

    from optuna.trial import FrozenTrial


_ANYBODY = Individual(genes={})


class Outcome(NamedTuple):
    """What a trial came to.

    Args:
        value: The objective value, or the last that a pruned trial reported.
        last_step: The step of that; infinity for a complete trial.
    """

    value: float
    last_step: float


def individual_of(
    trial: FrozenTrial,
    direction: StudyDirection,
    n_islands: int,
    *,
    outcome: Outcome | None = None,
    bred: Individual | None = None,
) -> Individual:
    """Return an evaluated trial as evolution sees it.

    Parameters whose value lies outside of their distribution, as enqueued ones may, are left out.

    Args:
        trial: The trial; one without our attributes is dealt out by its number.
        direction: The direction of the study.
        n_islands: How many islands it can have come from.
        outcome: What it came to, where the trial does not hold that yet.
        bred: The offspring that the trial evaluated; ``None`` for what the trial records of it.
    """
    outcome = outcome or outcome_of(trial, trial.state, trial.values)
    assert outcome is not None
    value, last_step = outcome
    if bred is None:
        bred = _recorded_offspring(trial, n_islands)
    return Individual(
        genes={
            name: Gene(trial.params[name], distribution)
            for name, distribution in trial.distributions.items()
            if contains(distribution, trial.params[name])
        },
        loss=_loss(value, direction),
        number=trial.number,
        island=bred.island,
        worker=bred.worker,
        generation=bred.generation,
        violation=sum([amount for amount in trial.constraints.values() if amount > 0.0]),
        last_step=last_step,
        lineage=bred.lineage,
    )


def individuals_of(
    trials: Iterable[FrozenTrial], direction: StudyDirection, n_islands: int
) -> list[Individual]:
    """Return those trials that are evaluated as evolution sees them, likewise."""
    return [individual_of(trial, direction, n_islands) for trial in trials if is_evaluated(trial)]


def rank_of(trial: FrozenTrial, direction: StudyDirection) -> Any:
    """Return what a complete trial is ordered by among all trials of its study."""
    return by_loss(individual_of(trial, direction, 1, bred=_ANYBODY))


def outcome_of(
    trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
) -> Outcome | None:
    """Return what a trial came to: a value, and the step that it was pruned after.

    Args:
        trial: The trial.
        state: How it ended, where the trial does not say so yet.
        values: Its objective values, likewise.

    Returns:
        ``None`` for a trial that says nothing: one that failed, or was pruned without a report.
    """
    if state == TrialState.COMPLETE and values:
        return Outcome(values[0], math.inf)
    if state == TrialState.PRUNED and trial.intermediate_values:
        step = max(trial.intermediate_values)
        return Outcome(trial.intermediate_values[step], float(step))
    return None


def _loss(value: float, direction: StudyDirection) -> float:
    """Return a value in smaller-is-better form; a pruned trial's may be NaN, the worst."""
    if math.isnan(value):
        return math.inf
    return -value if direction == StudyDirection.MAXIMIZE else value


def _recorded_offspring(trial: FrozenTrial, n_islands: int) -> Individual:
    """Return what the trial was bred as, without genes, as far as it says so."""
    island = integer_attribute(trial, ISLAND, n_islands)
    worker = worker_of(trial)
    return Individual(
        genes={},
        island=trial.number % n_islands if island is None else island,
        worker=NO_WORKER if worker is None else worker,
        generation=generation_of(trial),
        lineage=_lineage_of(trial),
    )


def _lineage_of(trial: FrozenTrial) -> Lineage:
    """Return what the trial records for the operators; a record that is none is no lineage."""
    strategy, choice = recorded(trial, "strategy"), recorded(trial, "choice")
    if (
        not isinstance(strategy, dict)
        or not all(isinstance(value, (int, float)) for value in strategy.values())
        or type(choice) is not int
    ):
        return Lineage()
    operators, parents = operators_of(trial), parents_of(trial)
    return Lineage(operators, parents, strategy=strategy, choice=choice)


def complete(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that are complete."""
    return [trial for trial in trials if trial.state == TrialState.COMPLETE]


def is_evaluated(trial: FrozenTrial) -> bool:
    """Tell whether a trial is one to learn from: complete, or pruned after a report."""
    return outcome_of(trial, trial.state, trial.values) is not None
