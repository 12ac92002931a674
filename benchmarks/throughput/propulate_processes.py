"""One rank of a run of the package ``propulate`` that the throughput benchmark measures.

``runs.py`` starts it under MPI with an interpreter that has ``propulate`` and neither
Optuna nor this project, so it imports nothing of theirs.

From 20,000 evaluations on, which take minutes, the first round leaves what Propulate knew 1,000
evaluations before the end as a checkpoint, and later rounds go on from there.
"""

from __future__ import annotations

import json
import pickle
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

from mpi4py import MPI
from propulate import Propulator  # type: ignore[import-not-found, unused-ignore]
from propulate.utils import get_default_propagator  # type: ignore[import-not-found, unused-ignore]


def main() -> None:
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    comm = MPI.COMM_WORLD
    limits = {f"x{i}": (-5.12, 5.12) for i in range(job["n_parameters"])}
    ends: list[float] = []

    def sphere(individual: Any) -> float:
        loss = float(sum(individual[name] ** 2 for name in limits))
        ends.append(time.time())
        return loss

    rng = random.Random(comm.rank)
    propulator = Propulator(
        loss_fn=sphere,
        propagator=get_default_propagator(max(10, 2 * comm.size), limits, rng=rng),
        rng=rng,
        generations=job["n_trials"] // comm.size,
        checkpoint_path=path.parent,
    )
    comm.Barrier()
    began_at, start = time.time(), time.monotonic()
    propulator.propulate(logging_interval=1 << 30, debug=0)
    report = {
        "start": start,
        "end": time.monotonic(),
        "began_at": began_at,
        "ended_at": time.time(),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "ends": ends,
    }
    (path.parent / f"report{comm.rank}.json").write_text(json.dumps(report))
    keep = Path(job["keep"]) if job["keep"] else None
    if keep is not None and comm.rank == 0 and not keep.exists():
        known = sorted(propulator.population, key=lambda individual: individual.evaltime)
        keep.write_bytes(pickle.dumps(known[: -job["n_last"]]))


if __name__ == "__main__":
    main()
