"""What every exchange must do: played by each worker, then judged over all of them.

``speak`` and ``Listener`` are what one worker does; ``check`` judges what all of them reported. An
exchange over MPI plays them on real ranks, the others in one process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution

from optuna_propulate.evolution.genes import Gene
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.exchange.base import Migrants
from optuna_propulate.exchange.base import News


if TYPE_CHECKING:
    from optuna_propulate.exchange.base import Exchange

SIZES = [1, 2, 3]
N_ROUNDS = 5


def individual(worker: int, number: int) -> Individual:
    """Return one that a worker could have evaluated, with a gene of each kind."""
    return Individual(
        genes={
            "rate": Gene(0.1 + number, FloatDistribution(0.1, 1e9, log=True)),
            "depth": Gene(3, IntDistribution(1, 9, step=2)),
            "kind": Gene(None, CategoricalDistribution(("a", None, True, 1.5))),
        },
        loss=-float(number),
        number=number,
        island=island_of(worker),
        worker=worker,
        generation=7,
        violation=0.25,
    )


def island_of(worker: int) -> int:
    return next(i for i in range(len(SIZES)) if worker < sum(SIZES[: i + 1]))


def speak(exchange: Exchange, worker: int) -> list[tuple[int, int]]:
    """Tell the peers and send migrants to the other islands; return who was sent where."""
    rng = np.random.default_rng(worker)
    sent = []
    for step in range(N_ROUNDS):
        one = individual(worker, 10 * worker + step)
        gone = (individual(worker, 10 * worker + step - 1).id,) if step else ()
        exchange.publish(News((one,), gone))
        for island in range(len(SIZES)):
            if island != island_of(worker):
                owner = exchange.pick(island, rng)
                assert owner is not None
                assert island_of(owner) == island
                exchange.dispatch(Migrants((one,)), owner)
                sent.append((one.number, owner))
    return sent


class Listener:
    """Writes down what arrives, and tells the peers of migrants who have not heard."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.added: list[int] = []
        self.removed: list[int] = []
        self.arrived: list[int] = []
        self.wrong: list[int] = []

    def take_in(self) -> None:
        for message in self.exchange.receive():
            if isinstance(message, News):
                self.added += [one.number for one in message.added]
                self.removed += [number for *_, number, _ in message.removed]
            else:
                self.arrived += [one.number for one in message.individuals]
                if not message.told:
                    self.exchange.publish(News(message.individuals))  # sent while settling
            individuals = message.added if isinstance(message, News) else message.individuals
            self.wrong += [
                one.number
                for one in individuals
                if one != individual(one.worker, one.number) or not _alike(one)
            ]

    def report(self) -> dict[str, Any]:
        return {
            "added": sorted(self.added),
            "removed": sorted(self.removed),
            "arrived": sorted(self.arrived),
            "wrong": self.wrong,
            "n_workers": self.exchange.n_workers,
        }


def _alike(one: Individual) -> bool:
    """Tell whether the genes kept their types: ``1 == True`` would pass for equal."""
    model = individual(one.worker, one.number)
    return repr(one.genes) == repr(model.genes)


def check(sent: list[list[tuple[int, int]]], reports: list[dict[str, Any]]) -> None:
    """Check that what was sent arrived once at each addressee, unchanged, and nothing else."""
    homes = [island_of(worker) for worker in range(sum(SIZES))]
    for worker, report in enumerate(reports):
        assert report["wrong"] == []
        assert report["n_workers"] == SIZES[homes[worker]]
        peers = [w for w, home in enumerate(homes) if home == homes[worker] and w != worker]
        told = [10 * peer + step for peer in peers for step in range(N_ROUNDS)]
        relayed = [number for there in sent for number, owner in there if owner in peers]
        assert report["added"] == sorted(told + relayed)
        assert report["removed"] == sorted(
            10 * peer + step - 1 for peer in peers for step in range(1, N_ROUNDS)
        )
        assert report["arrived"] == sorted(
            number for there in sent for number, owner in there if owner == worker
        )
