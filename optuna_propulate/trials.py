"""Optuna's trials <-> individuals, and the trials that somebody else works at."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple
from typing import TypeGuard

from optuna.exceptions import StorageInternalError
from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_propulate._optuna_compat import all_trials
from optuna_propulate._optuna_compat import contains
from optuna_propulate._optuna_compat import is_fixed
from optuna_propulate._optuna_compat import storage_of
from optuna_propulate._optuna_compat import study_id
from optuna_propulate._optuna_compat import trial_by_number
from optuna_propulate.genes import Gene
from optuna_propulate.individual import NO_WORKER
from optuna_propulate.individual import Individual
from optuna_propulate.individual import Lineage


if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from optuna_propulate.individual import RankKey

ISLAND = "island"
WORKER = "worker"
GENERATION = "generation"
LINEAGE = "propulate:lineage"
MIGRATIONS = "propulate:migrations"
NEWS = "propulate:news"
STORAGE = "storage"
"""The exchange of trials that carry messages; a lineage says so."""

_CHECKED_AT_ONCE = 32
_ANYBODY = Individual(genes={})


class Evaluation(NamedTuple):
    """What a trial came to.

    Args:
        value: The objective value, or the last that a pruned trial reported.
        last_step: The step of that; infinity for a complete trial.
    """

    value: float
    last_step: float


def user_attributes(offspring: Individual) -> dict[str, Any]:
    """Return the user attributes by which a trial says where it comes from."""
    return {
        ISLAND: offspring.island,
        WORKER: offspring.worker,
        GENERATION: offspring.generation,
    }


def system_attributes(
    offspring: Individual, trial: FrozenTrial, exchange: str | None = None, *, learns: bool = False
) -> dict[str, Any]:
    """Return the system attribute that records the lineage of a trial.

    Immigrants are the parents whose home is another island than the offspring's; of them, if
    there are any, the homes are recorded.

    Args:
        offspring: What the trial was bred as.
        trial: The trial.
        exchange: What carries the messages that the trial takes, if it takes any.
        learns: Whether others learn from the study how it was bred.
    """
    lineage = offspring.lineage
    operators = ("Enqueued", *lineage.operators) if is_fixed(trial) else lineage.operators
    record: dict[str, Any] = {
        "operators": list(operators or ("RandomInitialization",)),
        "parents": list(lineage.parents),
    }
    if immigrant_homes := [home for home in lineage.homes if home != offspring.island]:
        record["immigrant_homes"] = immigrant_homes
    if exchange is not None:
        record["exchange"] = exchange
    if learns and not is_fixed(trial):
        numbers = {name: n for name, n in lineage.strategy.items() if math.isfinite(n)}  # as JSON
        record["strategy"], record["choice"] = numbers, lineage.choice
    return {LINEAGE: record}


def island_of(trial: FrozenTrial) -> int | None:
    """Return the island that the trial says it comes from."""
    return _integer_attribute(trial, ISLAND)


def worker_of(trial: FrozenTrial) -> int | None:
    """Return the worker that the trial says evaluated it."""
    return _integer_attribute(trial, WORKER)


def generation_of(trial: FrozenTrial) -> int:
    """Return the generation that the trial says it belongs to; 0 if it does not."""
    return _integer_attribute(trial, GENERATION) or 0


def operators_of(trial: FrozenTrial) -> tuple[str, ...]:
    """Return the operators that the trial records; none if its record is none."""
    names = _recorded(trial, "operators")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(names)


def parents_of(trial: FrozenTrial) -> tuple[int, ...]:
    """Return the numbers of the parents that the trial records."""
    numbers = _recorded(trial, "parents")
    return tuple(numbers) if _are_numbers(numbers) else ()


def _recorded(trial: FrozenTrial, key: str) -> object:
    lineage = trial.system_attrs.get(LINEAGE)
    return lineage.get(key) if isinstance(lineage, dict) else None


def exchange_of(trial: FrozenTrial) -> str | None:
    """Return the exchange that the trial's messages are meant for."""
    exchange = _recorded(trial, "exchange")
    return exchange if isinstance(exchange, str) else None


def migrations_after(trial: FrozenTrial) -> tuple[str, float, list[tuple[int, int, int, int]]]:
    """Return what the trial records of migrations: policy, time, and who went where.

    A record that is none, as anybody may write into a study, is as good as no record.
    """
    record = trial.system_attrs.get(MIGRATIONS)
    if not isinstance(record, dict):
        return "", 0.0, []
    policy, time, migrants = (record.get(key) for key in ("policy", "time", "migrants"))
    if not isinstance(policy, str) or not isinstance(time, (int, float)) or not 0 <= time < 1e11:
        return "", 0.0, []
    if not isinstance(migrants, list) or not all(_are_numbers(one, 4) for one in migrants):
        return "", 0.0, []
    return policy, time, [tuple(one) for one in migrants]


def news_after(trial: FrozenTrial) -> tuple[list[int], list[int]] | None:
    """Return the news that the trial carries: numbers added and removed; ``None`` for none."""
    news = trial.system_attrs.get(NEWS)
    if not isinstance(news, dict):
        return None
    added, removed = news.get("added"), news.get("removed")
    return (added, removed) if _are_numbers(added) and _are_numbers(removed) else None


def individual_of(
    trial: FrozenTrial,
    direction: StudyDirection,
    n_islands: int,
    *,
    evaluation: Evaluation | None = None,
    bred: Individual | None = None,
) -> Individual:
    """Return an evaluated trial as evolution sees it.

    Parameters whose value lies outside of their distribution, as enqueued ones may, are left out.

    Args:
        trial: The trial; one without our attributes is dealt out by its number.
        direction: The direction of the study.
        n_islands: How many islands it can have come from.
        evaluation: What it came to, where the trial does not hold that yet.
        bred: The offspring that the trial evaluated; ``None`` for what the trial records of it.
    """
    evaluation = evaluation or evaluation_of(trial, trial.state, trial.values)
    assert evaluation is not None
    value, last_step = evaluation
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


def rank_key_of(trial: FrozenTrial, direction: StudyDirection) -> RankKey:
    """Return what a complete trial is ordered by among all trials of its study."""
    return individual_of(trial, direction, 1, bred=_ANYBODY).rank_key


def evaluation_of(
    trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
) -> Evaluation | None:
    """Return what a trial came to: a value, and the step that it was pruned after.

    Args:
        trial: The trial.
        state: How it ended, where the trial does not say so yet.
        values: Its objective values, likewise.

    Returns:
        ``None`` for a trial that says nothing: one that failed, or was pruned without a report.
    """
    if state == TrialState.COMPLETE and values:
        return Evaluation(values[0], math.inf)
    if state == TrialState.PRUNED and trial.intermediate_values:
        step = max(trial.intermediate_values)
        return Evaluation(trial.intermediate_values[step], float(step))
    return None


def _loss(value: float, direction: StudyDirection) -> float:
    """Return a value in smaller-is-better form; a pruned trial's may be NaN, the worst."""
    if math.isnan(value):
        return math.inf
    return -value if direction == StudyDirection.MAXIMIZE else value


def _recorded_offspring(trial: FrozenTrial, n_islands: int) -> Individual:
    """Return what the trial was bred as, without genes, as far as it says so."""
    island = _integer_attribute(trial, ISLAND, n_islands)
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
    strategy, choice = _recorded(trial, "strategy"), _recorded(trial, "choice")
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
    return evaluation_of(trial, trial.state, trial.values) is not None


class ForeignTrials:
    """Keeps the numbers of those unfinished trials of a study that nobody asked for here."""

    def __init__(self) -> None:
        self._next_number = 0
        self._open: dict[int, None] = {}

    def read_all(self, study: Study) -> list[FrozenTrial]:
        """Read the whole study; return its finished trials and remember the unfinished ones."""
        trials = read_trials(study)
        self._next_number = len(trials)
        self._open = {trial.number: None for trial in trials if not trial.state.is_finished()}
        return [trial for trial in trials if trial.state.is_finished()]

    def asked(self, number: int) -> None:
        """Note a trial that was asked for here; numbers skipped before it are somebody else's."""
        if number == self._next_number:
            self._next_number += 1
            return
        self._open.update(dict.fromkeys(range(self._next_number, number)))
        self._open.pop(number, None)
        self._next_number = max(self._next_number, number + 1)

    def finished(self, study: Study) -> list[FrozenTrial]:
        """Return those foreign trials that have finished by now.

        However many are unfinished, only a few of them are looked at, the others at later calls.
        """
        if not self._open:
            return []
        looked_at = list(islice(self._open, _CHECKED_AT_ONCE))
        trials = []
        for number in looked_at:
            del self._open[number]
            trial = found(study, number)
            if trial is not None and trial.state.is_finished():
                trials.append(trial)
            else:
                self._open[number] = None
        return trials


def read_trials(study: Study) -> list[FrozenTrial]:
    """Return every trial of the study, read anew where the storage can do without a cache."""
    read = getattr(storage_of(study), "read_trials", None)
    return all_trials(study) if read is None else list(read(study_id(study)))


def n_trials_of(study: Study) -> int:
    """Return how many trials the study has; reads them only where the storage cannot count."""
    count = getattr(storage_of(study), "count_trials", None)
    return len(all_trials(study)) if count is None else int(count(study_id(study)))


def found(study: Study, number: int) -> FrozenTrial | None:
    """Return the trial with this number, or ``None`` if it cannot be read yet."""
    try:
        return trial_by_number(study, number)
    except (KeyError, StorageInternalError):  # not to be read yet, or the database is away
        return None


def _integer_attribute(trial: FrozenTrial, name: str, limit: float = math.inf) -> int | None:
    """Return the attribute if it is an integer in [0, limit), as an objective may overwrite it."""
    value = trial.user_attrs.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        return None
    return value if value < limit else None


def _are_numbers(value: object, n: int | None = None) -> TypeGuard[list[int]]:
    """Tell whether a value is a list of integers from 0 on, and ``n`` of them."""
    if not isinstance(value, list) or (n is not None and len(value) != n):
        return False
    return all(type(one) is int and one >= 0 for one in value)
