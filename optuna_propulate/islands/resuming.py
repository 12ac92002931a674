"""Resuming: who owns which individuals of an earlier run."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import nsmallest
from typing import TYPE_CHECKING

from optuna_propulate.evolution.ranking import by_loss
from optuna_propulate.records.conversion import individuals_of
from optuna_propulate.records.migrations import residences
from optuna_propulate.records.reading import read_trials


if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.study import Study

    from optuna_propulate.evolution.individual import Individual
    from optuna_propulate.islands.configuration import IslandConfiguration


@dataclass(frozen=True)
class Inheritance:
    """What a worker goes on from.

    Args:
        individuals: Its own from now on.
        n_trials: How many trials the study had.
        unfinished: The numbers of those that somebody else was at.
    """

    individuals: Sequence[Individual] = ()
    n_trials: int = 0
    unfinished: Sequence[int] = ()


def deal_out(study: Study, configuration: IslandConfiguration) -> list[Inheritance]:
    """Read the individuals of an earlier run, and share them among all workers.

    Each lives on the island that it was bred on or migrated to; those of islands that are no
    more, and of other samplers, are dealt out. A worker gets no more than it would keep, and
    one, so that it knows that there were more.

    Args:
        study: The study; it is read once.
        configuration: The islands, and how large their breeding pools are.

    Returns:
        What each worker goes on from.
    """
    trials = read_trials(study)
    living = residences(trials)
    archipelago, n_islands = configuration.archipelago, configuration.n_islands
    shares: list[list[Individual]] = [[] for _ in range(sum(archipelago.sizes))]
    for individual in individuals_of(trials, study.direction, n_islands):
        island = living.get(individual.number, individual.island)
        if island >= n_islands:
            island = individual.number % n_islands
        peers = archipelago.islands[island]
        shares[peers[individual.number % len(peers)]].append(individual)
    unfinished = [trial.number for trial in trials if not trial.state.is_finished()]
    return [
        Inheritance(
            nsmallest(2 * configuration.population_size_of(worker) + 1, share, key=by_loss),
            len(trials),
            unfinished,
        )
        for worker, share in enumerate(shares)
    ]
