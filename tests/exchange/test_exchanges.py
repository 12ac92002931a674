from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState
from support import contract

from optuna_propulate._optuna_compat import set_attributes
from optuna_propulate.exchange.attributes import StorageExchange
from optuna_propulate.exchange.local import Network
from optuna_propulate.islands import Archipelago
from optuna_propulate.records.attributes import LINEAGE
from optuna_propulate.records.attributes import user_attributes
from optuna_propulate.records.foreign import ForeignTrials
from optuna_propulate.records.migrations import migration_attributes


if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.trial import FrozenTrial

    from optuna_propulate.evolution.individual import Individual
    from optuna_propulate.exchange.base import Migrants

ISLANDS = Archipelago(tuple(contract.SIZES)).islands
TESTS = Path(__file__).parent.parent


@given(st.sampled_from([0.0, 1.0, 50.0]), st.integers(0, 1000))
def test_in_one_process_every_message_arrives_once_whatever_its_delay(
    mean_delay: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    network = Network(ISLANDS, lambda sender, receiver: float(rng.exponential(mean_delay)))
    workers = range(sum(contract.SIZES))
    exchanges = [network.exchange(worker) for worker in workers]
    listeners = [contract.Listener(exchange) for exchange in exchanges]
    sent = []
    for worker in workers:
        sent.append(contract.speak(exchanges[worker], worker))
        network.now += 0.1
        listeners[worker].take_in()
    for exchange, listener in zip(exchanges, listeners, strict=True):
        exchange.drain(listener.take_in)
    contract.check(sent, [listener.report() for listener in listeners])


def test_nothing_arrives_before_its_time() -> None:
    network = Network(ISLANDS, lambda sender, receiver: 2.0)
    exchanges = [network.exchange(worker) for worker in range(3)]
    contract.speak(exchanges[2], 2)
    assert exchanges[1].receive() == []
    network.now = 1.9
    assert exchanges[1].receive() == []
    network.now = 2.0
    assert len(exchanges[1].receive()) == contract.N_ROUNDS
    assert exchanges[1].receive() == []


@pytest.mark.parametrize("pause", [0.0, 0.2])
def test_over_mpi_every_message_arrives_once(mpiexec: Callable, pause: float) -> None:
    outcome = mpiexec(
        f"""
        import time
        sys.path.insert(0, {str(TESTS)!r})
        from support import contract
        from mpi4py import MPI
        from optuna_propulate.exchange.mpi import MpiExchange, MpiTransport
        from optuna_propulate.islands import Archipelago

        rank = MPI.COMM_WORLD.rank
        transport = MpiTransport(MPI.COMM_WORLD, timeout=60)
        islands = Archipelago(tuple(contract.SIZES)).islands
        transport.connect()
        exchange = MpiExchange(transport, islands, channel=0)
        other = MpiExchange(transport, islands, channel=1)
        time.sleep({pause} * rank)
        listener = contract.Listener(exchange)
        sent = contract.speak(exchange, rank)
        listener.take_in()
        exchange.drain(listener.take_in)
        again = contract.Listener(other)
        sent_again = contract.speak(other, rank)
        other.drain(again.take_in)
        report(
            sent=sent, report=listener.report(), n_outgoing=len(transport._outgoing),
            sent_again=sent_again, again=again.report(),
        )
        """,
        sum(contract.SIZES),
    )
    assert outcome.status == 0, outcome.stderr
    for sent, heard in (("sent", "report"), ("sent_again", "again")):
        contract.check(
            [rank[sent] for rank in outcome.ranks], [rank[heard] for rank in outcome.ranks]
        )
    assert {rank["n_outgoing"] for rank in outcome.ranks} == {0}


def _as_trial(one: Individual) -> FrozenTrial:
    return optuna.trial.create_trial(
        params={name: gene.value for name, gene in one.genes.items()},
        distributions={name: gene.distribution for name, gene in one.genes.items()},
        value=one.loss,
        user_attrs=user_attributes(one),
        constraints={"c": one.violation},
    )


class Process:
    """A worker that shares nothing but the database with the others."""

    def __init__(self, url: str, worker: int) -> None:
        self.study = optuna.load_study(study_name=None, storage=url)
        self.worker = worker
        self.departures: list[tuple[Individual, int, int]] = []
        self.exchange = StorageExchange(contract.island_of(worker), len(contract.SIZES))
        self.exchange.worker = worker
        self.foreign = ForeignTrials()
        self.exchange.dispatch = self.dispatch  # type: ignore[method-assign]

    def dispatch(self, migrants: Migrants, owner: int) -> None:
        """Record the departure, as the sampler does with the trial that has finished."""
        island = contract.island_of(owner)
        self.departures += [(migrant, island, owner) for migrant in migrants.individuals]

    def run_trial(self) -> None:
        """Write what is to be told with a trial that fails: messages do not depend on it."""
        trial = self.study.ask()
        self.foreign.asked(trial.number)
        attributes = {
            LINEAGE: {"exchange": "storage"},
            **self.exchange.outgoing(),
            **migration_attributes(self.departures, leaves_home=False),
        }
        whence = user_attributes(contract.individual(self.worker, 0))
        frozen = self.study._storage.get_trial(trial._trial_id)
        set_attributes(self.study, frozen, whence, attributes)
        self.study.tell(trial, state=TrialState.FAIL)

    def read(self) -> None:
        """Read what the others have finished since the last time, as the sampler does."""
        (newest,) = self.study.get_trials(deepcopy=False)[-1:]
        self.foreign.asked(newest.number + 1)
        assert self.exchange.read(self.study, self.foreign.finished(self.study)) == []


def test_through_a_database_every_message_arrives_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage=url)
    workers = range(sum(contract.SIZES))
    for worker in workers:
        for number in range(10 * worker, 10 * worker + 10):
            study.add_trial(_as_trial(contract.individual(worker, number)))
    processes = [Process(url, worker) for worker in workers]
    for process in processes:
        process.foreign.read_all(process.study)
        process.run_trial()  # shows that it is there
    listeners = [contract.Listener(process.exchange) for process in processes]
    sent = []
    for process in processes:
        process.read()
        sent.append(contract.speak(process.exchange, process.worker))
        process.run_trial()
    for _ in range(2):
        for process, listener in zip(processes, listeners, strict=True):
            process.read()
            process.exchange.drain(listener.take_in)
    contract.check(sent, [listener.report() for listener in listeners])


def test_sent_messages_are_freed_though_one_rank_never_listens(mpiexec: Callable) -> None:
    outcome = mpiexec(
        f"""
        sys.path.insert(0, {str(TESTS)!r})
        from support import contract
        from mpi4py import MPI
        from optuna_propulate.exchange.base import News
        from optuna_propulate.exchange.mpi import MpiTransport

        comm = MPI.COMM_WORLD
        transport = MpiTransport(comm, timeout=60)
        transport.connect()
        large = News(tuple(contract.individual(0, number) for number in range(20000)))
        longest = 0
        if comm.rank == 0:
            transport.send(large, [2], 0)  # waits for a receiver, as it is no eager message
            for number in range(5000):
                transport.send(News((contract.individual(0, number),)), [1], 0)
                longest = max(longest, len(transport._outgoing))
                if number % 500 == 499:
                    comm.recv(source=1)  # so that the length does not depend on rank 1's speed
        elif comm.rank == 1:
            n = n_told = 0
            while n < 5000:
                n += len(transport.receive(0))
                for _ in range(n // 500 - n_told):
                    comm.send(None, dest=0)
                n_told = n // 500
        comm.Barrier()
        transport.drain(lambda: None)
        report(longest=longest, left=len(transport._outgoing))
        """,
        3,
    )
    assert outcome.status == 0, outcome.stderr
    assert outcome.ranks[0]["longest"] < 3000
    assert {rank["left"] for rank in outcome.ranks} == {0}
