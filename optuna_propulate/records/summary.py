"""A study's islands in words: their best individuals, and who migrated."""

from __future__ import annotations

from functools import partial
from heapq import nsmallest
from typing import TYPE_CHECKING

from optuna_propulate._optuna_compat import trial_by_number
from optuna_propulate.evolution.arguments import check_integer
from optuna_propulate.records.attributes import island_of
from optuna_propulate.records.conversion import complete
from optuna_propulate.records.conversion import rank_of
from optuna_propulate.records.survey import survey
from optuna_propulate.storages.outlines import outlined_trials


if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.study import Study
    from optuna.trial import FrozenTrial


def summarize(study: Study, top_n: int = 1) -> str:
    """Return the best individuals of each island, how many there are, and who migrated.

    An island's individuals are those that live there: bred there and not gone for good, or come
    for good. Copies that pollination brought are counted as migrants in and not as individuals,
    as each takes the place of another. Trials that name no island are counted apart: a sampler
    deals them out among its islands by their numbers.

    Args:
        study: A study of one objective.
        top_n: How many individuals of each island are shown; at least 1.

    Raises:
        StorageInternalError: If the database cannot be read.
        ValueError: If ``top_n`` is below 1.
    """
    return summary_of(study, outlined_trials(study), top_n)


def summary_of(study: Study, trials: Sequence[FrozenTrial], top_n: int) -> str:
    """Return what ``summarize`` does, of trials that have been read."""
    check_integer("top_n", top_n, 1)
    islands, travelled = survey(trials, study.direction)
    individuals = complete(trials)
    lines = [f"{study.study_name}: {len(individuals)} complete of {len(trials)} trials"]
    for record in islands:
        island, n_workers = record.island, len(record.workers)
        arrived = sum(n for (_, target), n in travelled.items() if target == island)
        left = sum(n for (origin, _), n in travelled.items() if origin == island)
        lines.append(
            f"island {island}: {record.n_active} individuals active, {record.n_bred} bred here, "
            f"{arrived} migrants in, {left} out ({n_workers} worker{'s' * (n_workers != 1)})"
        )
        key = partial(rank_of, direction=study.direction)
        for best in nsmallest(top_n, record.residents, key=key):
            shown = best.params or trial_by_number(study, best.number).params
            lines.append(f"  {best.value:.6g}, trial {best.number}: {shown}")
    homeless = sum(island_of(trial) is None for trial in individuals)
    if homeless:
        lines.append(f"no island: {homeless} individuals of other samplers")
    return "\n".join(lines)
