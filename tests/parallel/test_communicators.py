"""The communicator that a user gives is the one that is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest


if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_communicator_of_one_rank_is_a_job_alone(mpiexec: Callable) -> None:
    outcome = mpiexec(
        """
        import optuna_propulate
        from optuna_propulate import PropulateSampler
        from mpi4py import MPI
        world, rank = MPI.COMM_WORLD, MPI.COMM_WORLD.rank

        # Each rank searches elsewhere, in a number of trials of its own.
        study = optuna_propulate.create_study(
            f"sqlite:///study{rank}.db", study_name="s", comm=MPI.COMM_SELF
        )
        study.optimize(lambda t: t.suggest_float("x", rank, rank + 1), n_trials=20 + 10 * rank)
        pool = study.sampler.breeding_pool(study)

        # Two halves, each with a study of its own.
        half = world.Split(rank // 2)
        shared = optuna_propulate.create_study(
            "sqlite:///halves.db", study_name=f"{rank // 2}", comm=half
        )
        shared.optimize(lambda t: t.suggest_float("x", rank // 2, rank // 2 + 1), n_trials=40)

        errors = []
        for sampler, comm in (
            (PropulateSampler(comm=half), world), (PropulateSampler(), half),
            (PropulateSampler(comm=MPI.COMM_SELF), world), (PropulateSampler(), MPI.COMM_SELF),
        ):
            try:
                optuna_propulate.create_study("sqlite:///w.db", sampler=sampler, comm=comm)
            except ValueError as error:
                errors.append(str(error))
        report(
            losses=[one.loss for one in pool],
            halves=[one.loss for one in shared.sampler.breeding_pool(shared)],
            n_trials=len(shared.trials),
            errors=errors,
        )
        """,
        4,
        timeout=100,
    )
    assert outcome.status == 0, outcome.stderr
    for rank, told in enumerate(outcome.ranks):
        assert all(rank <= loss <= rank + 1 for loss in told["losses"])
        assert all(rank // 2 <= loss <= rank // 2 + 1 for loss in told["halves"])
        assert told["n_trials"] == 40
        assert len(told["errors"]) == 4
        assert all("give both the same comm" in error for error in told["errors"])


INNER = """
import optuna_propulate
from optuna_propulate import PropulateSampler
from mpi4py import MPI
rank = MPI.COMM_WORLD.rank
inner = []

def objective(trial):
    x = trial.suggest_float("x", 0, 1)
    drop_in = lambda: optuna.create_study(sampler=PropulateSampler())
    for make in (optuna_propulate.create_study, drop_in):
        if rank == 1 and len(inner) > 3:
            continue  # fewer inner studies than on the other rank
        study = make()
        study.optimize(lambda t: t.suggest_float("x", rank, rank + 1), n_trials=12)
        inner.extend(one.loss for one in study.sampler.breeding_pool(study))
    return x
"""


@pytest.mark.parametrize("whose", ["ours", "optuna's"])
def test_what_is_made_inside_an_objective_is_the_ranks_own(mpiexec: Callable, whose: str) -> None:
    search = {
        "ours": """
study = optuna_propulate.create_study("sqlite:///study.db", study_name="s")
study.optimize(objective, n_trials=8)
""",
        "optuna's": """
study = optuna.create_study(sampler=PropulateSampler())
study.optimize(objective, n_trials=4 + 2 * rank)
""",
    }[whose]
    outcome = mpiexec(INNER + search + "report(inner=inner)", 2, timeout=100)
    assert outcome.status == 0, outcome.stderr
    for rank, told in enumerate(outcome.ranks):
        assert told["inner"]
        assert all(rank <= loss <= rank + 1 for loss in told["inner"])


def test_a_storage_that_each_rank_has_alone_is_refused_on_all(mpiexec: Callable) -> None:
    outcome = mpiexec(
        """
        import optuna_propulate
        from mpi4py import MPI
        storage = optuna_propulate.BatchedRDBStorage("sqlite:///study.db")
        try:
            optuna_propulate.create_study(storage, study_name="s")
        except ValueError as error:
            storage.close()
            report(error=str(error))
        shared = optuna_propulate.BatchedRDBStorage("sqlite:///study.db", comm=MPI.COMM_WORLD)
        study = optuna_propulate.create_study(shared, study_name="s")
        study.optimize(sphere, n_trials=6)
        assert len(study.trials) == 6
        """,
        2,
    )
    assert outcome.status == 0, outcome.stderr
    assert all("share: give a URL" in told["error"] for told in outcome.ranks)
    assert len(outcome.ranks) == 2


def test_a_rank_that_never_searches_holds_up_nobody(mpiexec: Callable) -> None:
    outcome = mpiexec(
        """
        import optuna, optuna_propulate
        from mpi4py import MPI
        rank = MPI.COMM_WORLD.rank
        study = optuna.create_study(sampler=optuna_propulate.PropulateSampler())
        study.optimize(sphere, n_trials=0 if rank == 1 else 3)
        report(n=len(study.trials))
        """,
        3,
        timeout=60,
    )
    assert outcome.status == 0, outcome.stderr
    assert [told["n"] for told in outcome.ranks] == [3, 0, 3]
