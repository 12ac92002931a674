"""Messages <-> bytes: plain values in a pickle, several times smaller than the objects'."""

from __future__ import annotations

import pickle
from functools import lru_cache
from typing import TYPE_CHECKING
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution

from optuna_propulate.exchange.base import Migrants
from optuna_propulate.exchange.base import News
from optuna_propulate.genes import Gene
from optuna_propulate.individual import Individual
from optuna_propulate.individual import Lineage


if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from optuna_propulate.exchange.base import Message


def encode(message: Message) -> bytes:
    """Return a message as bytes; of a lineage, what operators learn from: the study has it all."""
    if isinstance(message, News):
        born = {id(individual): _flat(individual) for individual in message.born}
        added = tuple(born.get(id(one)) or _flat(one) for one in message.added)  # pickled once
        content: Any = (added, message.removed, tuple(born.values()))
    else:
        content = (tuple(map(_flat, message.individuals)),)
    return pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL)


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
