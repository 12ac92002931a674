"""One process of a run that the throughput benchmark measures: a rank of ours, or a plain Optuna.

``runs.py`` starts it with the path of the job, and without MPI with its own place
among the processes; each process leaves a report beside the job.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import optuna
from optuna.samplers import NSGAIISampler
from optuna.samplers import RandomSampler

import optuna_propulate


if TYPE_CHECKING:
    from collections.abc import Callable

STUDY = "throughput"
_PATIENCE = 120.0  # in seconds, until all processes of the run are ready


def sphere(n_parameters: int) -> Callable[[optuna.Trial], float]:
    """Return the sphere function of so many parameters."""
    names = [f"x{i}" for i in range(n_parameters)]

    def objective(trial: optuna.Trial) -> float:
        return sum(trial.suggest_float(name, -5.12, 5.12) ** 2 for name in names)

    return objective


def wait_for_all(folder: Path, place: int) -> None:
    """Say that this process is ready, and wait until all of them are."""
    (folder / f"ready{place}").touch()
    deadline = time.monotonic() + _PATIENCE
    while not (folder / "go").exists():
        if time.monotonic() > deadline:
            raise TimeoutError("The other processes of the run do not get ready.")
        time.sleep(1e-3)


def open_storage(where: dict[str, Any]) -> Any:
    """Return the storage of a plain Optuna process: a URL, a journal, or a gRPC proxy."""
    if "journal" in where:
        from optuna.storages.journal import JournalFileBackend

        return optuna.storages.JournalStorage(JournalFileBackend(where["journal"]))
    if where.get("port"):
        proxy = optuna.storages.GrpcStorageProxy(host="localhost", port=where["port"])
        proxy.wait_server_ready(timeout=_PATIENCE)
        return proxy
    return where.get("url")


def island_rank(where: dict[str, Any]) -> tuple[optuna.Study, int]:
    """Open the study on a rank of ours, and wait for the others; return the rank, too."""
    if "url" not in where:
        return optuna_propulate.create_study(), 0
    from mpi4py import MPI

    study = optuna_propulate.create_study(where["url"], study_name=STUDY)
    MPI.COMM_WORLD.Barrier()
    return study, MPI.COMM_WORLD.rank


def plain_process(where: dict[str, Any], sampler: str, seed: int) -> optuna.Study:
    """Open the study in a process of Optuna's own."""
    build = {"RandomSampler": RandomSampler, "NSGAIISampler": NSGAIISampler}[sampler]
    storage = open_storage(where)
    if storage is None:
        return optuna.create_study(sampler=build(seed=seed))
    return optuna.load_study(study_name=STUDY, storage=storage, sampler=build(seed=seed))


def serve(where: dict[str, Any]) -> None:
    """Be the gRPC proxy in front of a database, until somebody ends it."""
    storage = optuna.storages.RDBStorage(where["url"])
    optuna.storages.run_grpc_proxy_server(storage, host="localhost", port=where["port"])


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    if sys.argv[2:] == ["serve"]:
        serve(job["where"])
        return
    if job["sampler"] == "optuna-propulate":
        n_trials = job["n_trials"]
        study, place = island_rank(job["where"])
    else:
        place = int(sys.argv[2])
        n_processes = job["n_processes"]
        n_trials = (job["n_trials"] + n_processes - 1 - place) // n_processes
        study = plain_process(job["where"], job["sampler"], seed=place)
        wait_for_all(path.parent, place)
    began_at, start = time.time(), time.monotonic()
    study.optimize(sphere(job["n_parameters"]), n_trials=n_trials)
    report: dict[str, Any] = {
        "start": start,
        "end": time.monotonic(),  # the same clock in all processes of a machine
        "began_at": began_at,
        "ended_at": time.time(),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }
    if not job["where"]:
        trials = study.get_trials(deepcopy=False)
        report["ends"] = [t.datetime_complete.timestamp() for t in trials if t.datetime_complete]
    (path.parent / f"report{place}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
