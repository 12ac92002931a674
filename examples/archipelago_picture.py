"""Draw the archipelago of a search: the picture of the README, ``docs/images/archipelago.png``.

Twelve ranks on four islands minimise Rastrigin's function, and rank 0 draws what the study
records of them::

    pip install '.[mpich,visualization]' kaleido
    mpirun -n 12 python examples/archipelago_picture.py

kaleido draws with a Chrome or Chromium that it finds on the ``PATH``, or where the environment
variable ``BROWSER_PATH`` says (on Debian, ``apt-get install chromium``). The study stays in
``archipelago.db`` of the working directory, and a second run goes on with it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import optuna

import optuna_propulate
from optuna_propulate.parallel.launch import communicator
from optuna_propulate.visualization import plot_archipelago


if TYPE_CHECKING:
    from optuna.trial import Trial

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "archipelago.png"
ISLANDS = [2, 3, 3, 4]
TOPOLOGY = [[0, 1, 0, 1], [2, 0, 1, 0], [1, 0, 0, 3], [0, 2, 1, 0]]
N_DIMENSIONS = 10


def rastrigin(trial: Trial) -> float:
    """Return a function of many valleys, whose minimum is 0 where all parameters are 0."""
    x = [trial.suggest_float(f"x{i}", -5.12, 5.12) for i in range(N_DIMENSIONS)]
    return sum(10 + xi**2 - 10 * math.cos(2 * math.pi * xi) for xi in x)


def main() -> None:
    """Search on all ranks; draw on rank 0."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna_propulate.create_study(
        "sqlite:///archipelago.db",
        study_name="rastrigin",
        sampler=optuna_propulate.PropulateSampler(
            islands=ISLANDS,
            topology=TOPOLOGY,
            migration=optuna_propulate.Migration(probability=0.2),
            seed=1,
        ),
        load_if_exists=True,
    )
    study.optimize(rastrigin, n_trials=1200)
    comm = communicator(None)
    if comm is None or comm.rank == 0:
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        plot_archipelago(study).write_image(PICTURE, scale=1.5)


if __name__ == "__main__":
    main()
