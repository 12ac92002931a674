"""The laws of the archipelago on real MPI ranks."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.trial import TrialState
from support import laws

from optuna_propulate.islands import migrations
from optuna_propulate.records.conversion import individual_of


if TYPE_CHECKING:
    from collections.abc import Callable

TESTS = Path(__file__).parent.parent

SEARCH = """
sys.path.insert(0, {tests!r})
import optuna_propulate
from support.laws import View, Witness
from optuna_propulate import Migration, Pollination, PropulateSampler, sampler

sampler.Island = Witness
study = optuna_propulate.create_study(
    "sqlite:///study.db",
    study_name="laws",
    sampler=PropulateSampler(
        islands={islands}, population_size=8, topology={topology!r}, migration={policy}, seed=1
    ),
)
study.optimize(sphere, n_trials={n_trials})
(known,) = study.sampler._states[study._storage].values()
report(view=View.of(known.island).to_json(), n_outgoing=len(study.sampler._transport._outgoing))
study.summary()
"""


def check_run(
    mpiexec: Callable, path: Path, n_ranks: int, islands: object, policy: str, n_trials: int
) -> str:
    """Run a search on real ranks, check the laws, and return what its summary printed."""
    script = SEARCH.format(
        tests=str(TESTS), islands=islands, topology="fully_connected", policy=policy,
        n_trials=n_trials,
    )  # fmt: skip
    outcome = mpiexec(script, n_ranks, timeout=280)
    assert outcome.status == 0, outcome.stderr
    study = optuna.load_study(study_name="laws", storage=f"sqlite:///{path}/study.db")
    trials = study.trials
    assert [trial.number for trial in trials] == list(range(n_trials))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    births = [individual_of(trial, study.direction, n_ranks) for trial in trials]
    records = migrations(study)
    leaving = policy.startswith("Migration")
    laws.check(
        [laws.View.from_json(rank["view"]) for rank in outcome.ranks],
        births,
        [
            laws.Journey(births[record.number].id, record.origin, record.target)
            for record in records
        ],
        leaving=leaving,
        population_size=8,
    )
    assert len(records) > n_trials / 20
    assert {record.policy for record in records} == {"migration" if leaving else "pollination"}
    assert all(rank["n_outgoing"] == 0 for rank in outcome.ranks)
    return str(outcome.stdout)


@pytest.mark.parametrize("policy", ["Migration(0.3)", "Pollination(0.3)"])
@pytest.mark.parametrize(("n_ranks", "islands"), [(4, 2), (6, [1, 2, 3])])
def test_the_laws_hold_on_real_ranks(
    mpiexec: Callable, tmp_path: Path, n_ranks: int, islands: object, policy: str
) -> None:
    n_trials = int(os.environ.get("LAW_TRIALS", "1000"))
    summary = check_run(mpiexec, tmp_path, n_ranks, islands, policy, n_trials)
    counts = re.findall(
        r"^island \d+: (\d+) individuals active, (\d+) bred here, (\d+) migrants in, (\d+) out \(",
        summary,
        re.MULTILINE,
    )
    active, bred, came, left = (sum(map(int, column)) for column in zip(*counts, strict=True))
    assert active == bred == n_trials
    assert came == left > 0


def test_nobody_waits_for_a_rank_that_sleeps(mpiexec: Callable) -> None:
    outcome = mpiexec(
        """
        import time
        from mpi4py import MPI
        from optuna_propulate import Migration, PropulateSampler

        # Each rank keeps its own study in memory: what they share is the exchange alone.
        comm = MPI.COMM_WORLD
        study = optuna.create_study(
            sampler=PropulateSampler(islands=2, migration=Migration(0.5), seed=1)
        )
        starts = [time.monotonic()]

        def objective(trial):
            starts.append(time.monotonic())
            sleeps = comm.rank == 1 and trial.number == 0
            time.sleep(8 if sleeps else 0.01)
            return sphere(trial)

        end = time.monotonic() + 6
        while time.monotonic() < end:
            study.optimize(objective, n_trials=1)
        starts.append(time.monotonic())
        report(longest=max(after - before for before, after in zip(starts, starts[1:])))
        """,
        4,
    )
    assert outcome.status == 0, outcome.stderr
    longest = [rank["longest"] for rank in outcome.ranks]
    assert longest[1] >= 8
    assert max(longest[rank] for rank in (0, 2, 3)) < 4  # of 6, between the starts of two trials


def test_unconnected_ranks_evolve_as_separate_jobs_to_the_bit(mpiexec: Callable) -> None:
    script = """
    from optuna_propulate import PropulateSampler
    sampler = PropulateSampler(seed=5{islands})
    {stream}
    study = optuna.create_study(sampler=sampler)
    study.optimize(sphere, n_trials=150)
    report(params=[trial.params for trial in study.trials])
    """
    together = mpiexec(
        script.format(islands=", islands=3, topology='unconnected'", stream=""), 3
    ).ranks
    for worker in range(3):
        stream = f"sampler._rng = sampler._stream(5, {worker})"
        (alone,) = mpiexec(script.format(islands="", stream=stream), 1).ranks
        assert alone["params"] == together[worker]["params"]
    assert together[0] != together[1]
