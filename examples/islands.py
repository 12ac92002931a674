"""Islands in a ring that exchange their best: ``mpirun -n 4 python islands.py``.

Each island searches on its own, so that one that falls into a trap does not take the others with
it. Rastrigin's function has ten million of them in the range that is searched here. Without MPI,
start two processes, with ``OPTUNA_PROPULATE_ISLAND=0`` and ``=1``.
"""

import math

import optuna

import optuna_propulate
from optuna_propulate import Pollination
from optuna_propulate import PropulateSampler


def objective(trial: optuna.Trial) -> float:
    """Rastrigin's function in seven dimensions; its optimum is not at the centre."""
    x = [trial.suggest_float(f"x{i}", -4, 6) for i in range(7)]
    return sum(10 + (one - 1) ** 2 - 10 * math.cos(2 * math.pi * (one - 1)) for one in x)


if __name__ == "__main__":
    sampler = PropulateSampler(
        islands=2,
        topology="ring",
        migration=Pollination(probability=0.2),
        seed=1,
    )
    study = optuna_propulate.create_study(
        "sqlite:///islands.db", study_name="islands", sampler=sampler, load_if_exists=True
    )
    study.optimize(objective, n_trials=2000)
    study.summary()
