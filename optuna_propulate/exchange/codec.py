"""Messages <-> bytes: plain values in a pickle, several times smaller than the objects'."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution

from optuna_propulate.evolution.genes import Gene
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.evolution.individual import Lineage
from optuna_propulate.exchange.base import Migrants
from optuna_propulate.exchange.base import News


if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.distributions import BaseDistribution

    from optuna_propulate.exchange.base import Message

_logger = optuna.logging.get_logger("optuna." + __name__)


def encode(message: Message) -> bytes:
    """Return a message as bytes; of a lineage, what operators learn from: the study has it all.

    Genes whose choices cannot be pickled, as lambdas cannot, are left out after a warning.
    """
    try:
        return _encode(message, _flat)
    except Exception:  # whatever the pickling of a user's object raises
        return _encode(message, lambda individual: _flat(_without_unfit_genes(individual)))


def _encode(message: Message, flat: Callable[[Individual], tuple[Any, ...]]) -> bytes:
    if isinstance(message, News):
        born = {id(individual): flat(individual) for individual in message.born}
        added = tuple(born.get(id(one)) or flat(one) for one in message.added)  # pickled once
        content: Any = (added, message.removed, tuple(born.values()))
    else:
        content = (tuple(map(flat, message.individuals)),)
    return pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL)


def _without_unfit_genes(individual: Individual) -> Individual:
    genes = dict(individual.genes)
    for name, gene in individual.genes.items():
        try:
            pickle.dumps((gene.value, *_spec(gene.distribution)))
        except Exception:
            del genes[name]
            _warn_of(name)
    return replace(individual, genes=genes)


@lru_cache(maxsize=1024)
def _warn_of(name: str) -> None:
    """Say once that a parameter stays on its rank."""
    _logger.warning(
        f"The parameter {name!r} has choices that cannot be pickled, so no rank tells others of "
        "it: what one breeds from the trials of another has a random choice. Use names as choices."
    )


def decode(content: bytes | bytearray) -> Message:
    """Return the message that ``encode`` turned into bytes."""
    individuals, *others = pickle.loads(content)
    if not others:
        return Migrants(tuple(map(_individual, individuals)))
    removed, flat = others
    born = {id(one): _individual(one) for one in flat}
    added = tuple(born.get(id(one)) or _individual(one) for one in individuals)
    return News(added, removed, tuple(born.values()))


def _flat(individual: Individual) -> tuple[Any, ...]:
    lineage = individual.lineage
    genes = tuple(
        (name, gene.value, *_spec(gene.distribution)) for name, gene in individual.genes.items()
    )
    return (
        genes,
        individual.loss,
        individual.number,
        individual.island,
        individual.worker,
        individual.generation,
        individual.violation,
        individual.last_step,
        (lineage.operators, lineage.parents[:1], dict(lineage.strategy), lineage.choice),
    )


def _individual(flat: tuple[Any, ...]) -> Individual:
    genes = {name: Gene(value, _distribution(spec)) for name, value, *spec in flat[0]}
    operators, parents, strategy, choice = flat[-1]
    lineage = Lineage(operators, parents, strategy=strategy, choice=choice)
    loss, number, island, worker, generation, violation, last_step = flat[1:-1]
    return Individual(
        genes, loss, number, island, worker, generation, violation, last_step, lineage
    )


def _spec(distribution: BaseDistribution) -> tuple[Any, ...]:
    """Return what a distribution is built from; what comes first tells the kinds apart."""
    if isinstance(distribution, CategoricalDistribution):
        return (distribution.choices,)
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    is_float = isinstance(distribution, FloatDistribution)
    return (is_float, distribution.low, distribution.high, distribution.log, distribution.step)


def _distribution(spec: list[Any]) -> BaseDistribution:
    return CategoricalDistribution(spec[0]) if len(spec) == 1 else _numerical(*spec)


@lru_cache(maxsize=1024)
def _numerical(
    is_float: bool, low: float, high: float, log: bool, step: float | None
) -> BaseDistribution:
    if is_float:
        return FloatDistribution(low, high, log, step)
    return IntDistribution(int(low), int(high), log, int(step or 1))
