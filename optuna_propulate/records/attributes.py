"""The attributes by which a trial says where it comes from: written and read here only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from typing import Any
from typing import TypeGuard

from optuna_propulate._optuna_compat import is_fixed


if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from optuna_propulate.evolution.individual import Individual


ISLAND = "island"


WORKER = "worker"


GENERATION = "generation"


LINEAGE = "propulate:lineage"


MIGRATIONS = "propulate:migrations"


NEWS = "propulate:news"


STORAGE = "storage"
"""The exchange of trials that carry messages; a lineage says so."""


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
    return integer_attribute(trial, ISLAND)


def worker_of(trial: FrozenTrial) -> int | None:
    """Return the worker that the trial says evaluated it."""
    return integer_attribute(trial, WORKER)


def generation_of(trial: FrozenTrial) -> int:
    """Return the generation that the trial says it belongs to; 0 if it does not."""
    return integer_attribute(trial, GENERATION) or 0


def operators_of(trial: FrozenTrial) -> tuple[str, ...]:
    """Return the operators that the trial records; none if its record is none."""
    names = recorded(trial, "operators")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(names)


def parents_of(trial: FrozenTrial) -> tuple[int, ...]:
    """Return the numbers of the parents that the trial records."""
    numbers = recorded(trial, "parents")
    return tuple(numbers) if _are_numbers(numbers) else ()


def recorded(trial: FrozenTrial, key: str) -> object:
    """Return what the lineage that a trial records says of a key; ``None`` for nothing."""
    lineage = trial.system_attrs.get(LINEAGE)
    return lineage.get(key) if isinstance(lineage, dict) else None


def exchange_of(trial: FrozenTrial) -> str | None:
    """Return the exchange that the trial's messages are meant for."""
    exchange = recorded(trial, "exchange")
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


def integer_attribute(trial: FrozenTrial, name: str, limit: float = math.inf) -> int | None:
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
