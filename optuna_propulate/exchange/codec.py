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


if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from optuna_propulate.exchange.base import Message


def encode(message: Message) -> bytes:
    """Return a message as bytes; lineages stay at home, since the study records them."""
    if isinstance(message, News):
        content: Any = (tuple(map(_flat, message.added)), message.removed)
    else:
        content = (tuple(map(_flat, message.individuals)),)
    return pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL)


def decode(content: bytes | bytearray) -> Message:
    """Return the message that ``encode`` turned into bytes."""
    individuals, *removed = pickle.loads(content)
    restored = tuple(map(_individual, individuals))
    return News(restored, *removed) if removed else Migrants(restored)


def _flat(individual: Individual) -> tuple[Any, ...]:
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
    )


def _individual(flat: tuple[Any, ...]) -> Individual:
    genes = {name: Gene(value, _distribution(spec)) for name, value, *spec in flat[0]}
    return Individual(genes, *flat[1:])


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
