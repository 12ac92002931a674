from __future__ import annotations

import pytest

from optuna_propulate.exchange.mpi import launched_by_mpi
from optuna_propulate.exchange.mpi import launched_size


@pytest.mark.parametrize(
    ("environ", "size"),
    [
        ({}, None),
        ({"SLURM_NTASKS": "4"}, None),  # a batch script, not srun
        ({"OMPI_COMM_WORLD_SIZE": "4"}, 4),
        ({"PMI_SIZE": "2", "PMI_RANK": "0"}, 2),
        ({"MV2_COMM_WORLD_SIZE": "3"}, 3),
        ({"SLURM_STEP_NUM_TASKS": "5"}, 5),
        ({"PMIX_RANK": "1"}, 0),
    ],
)
def test_launchers_are_known_by_the_environment(environ: dict[str, str], size: int | None) -> None:
    assert launched_size(environ) == size
    assert launched_by_mpi(environ) == (size is not None)
