"""Jobs that share a study breed from one another's trials, and no two workers draw the same."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import optuna
from optuna.trial import TrialState


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SEARCH = """
import json, os, time
from mpi4py import MPI
import optuna_propulate
from optuna_propulate import PropulateSampler
study = optuna_propulate.create_study(
    {url!r}, study_name="s", load_if_exists=True, sampler=PropulateSampler(seed=1),
)
drawn, mine = [], set()

def objective(trial):
    x = trial.suggest_float("x", -5, 5)
    if trial.user_attrs["generation"] == 0:
        drawn.append(x)
    mine.add(trial.number)
    time.sleep(0.03)
    return x * x

study.optimize(objective, n_trials_total=600)
pool = [i.number for i in study.sampler.breeding_pool(study)]
with open(os.environ["JOB"] + f"-{{MPI.COMM_WORLD.rank}}.json", "w") as file:
    json.dump(dict(drawn=drawn, mine=sorted(mine), pool=pool), file)
"""


def test_jobs_of_ranks_share_a_study_and_breed_from_one_another(
    mpiexec: Callable, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    with ThreadPoolExecutor(2) as threads:
        search = SEARCH.format(url=url)
        started = [threads.submit(mpiexec, search, 2, environ={"JOB": job}) for job in "ab"]
    for each in started:
        outcome = each.result()
        assert outcome.status == 0, outcome.stderr
    jobs = [[json.loads((tmp_path / f"{j}-{r}.json").read_text()) for r in "01"] for j in "ab"]
    trials = optuna.load_study(study_name="s", storage=url).trials
    assert [trial.number for trial in trials] == list(range(600))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    numbers = [{n for rank in job for n in rank["mine"]} for job in jobs]
    assert len(numbers[0] | numbers[1]) == 600 == len(numbers[0]) + len(numbers[1])
    workers = [{trials[n].user_attrs["worker"] for n in mine} for mine in numbers]
    assert sorted(map(sorted, workers)) == [[0, 1], [2, 3]]
    drawn = [x for job in jobs for rank in job for x in rank["drawn"]]
    assert len(drawn) == len(set(drawn))
    for mine, others in (numbers, numbers[::-1]):
        parents = {
            n
            for number in mine
            for n in trials[number].system_attrs["propulate:lineage"]["parents"]
        }
        assert parents & others
    assert all(job[0]["pool"] == job[1]["pool"] for job in jobs)


def test_optunas_callback_counts_the_trials_of_all_ranks_and_jobs(
    mpiexec: Callable, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    script = f"""
    import time
    import optuna_propulate
    from optuna.study import MaxTrialsCallback

    def objective(trial):
        time.sleep(0.02)
        return trial.suggest_float("x", -5, 5) ** 2

    study = optuna_propulate.create_study({url!r}, study_name="s", load_if_exists=True)
    study.optimize(objective, callbacks=[MaxTrialsCallback(50)])
    """
    with ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(lambda _: mpiexec(script, 2), range(2)))
    assert [outcome.status for outcome in outcomes] == [0, 0], outcomes[0].stderr
    states = [trial.state for trial in optuna.load_study(study_name="s", storage=url).trials]
    n_workers = 4
    n_beyond = states.count(TrialState.COMPLETE) - 50  # what was under way, and a little more
    assert 0 <= n_beyond <= 2 * n_workers  # a second of old counts would be 200
    assert TrialState.RUNNING not in states
