from __future__ import annotations

import os
import subprocess
import sys

import pytest

from optuna_propulate.parallel.launch import launched_by_mpi
from optuna_propulate.parallel.launch import launched_size


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


def test_a_launcher_without_mpi4py_is_a_warning_that_names_the_extra() -> None:
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.modules['mpi4py'] = None\n"
            "import optuna, optuna_propulate\n"
            "study = optuna.create_study(sampler=optuna_propulate.PropulateSampler())\n"
            "study.optimize(lambda trial: trial.suggest_float('x', 0, 1), n_trials=3)\n",
        ],
        env={**os.environ, "PMI_SIZE": "4", "PMI_RANK": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "optuna-propulate[mpi]" in process.stderr
    assert "RuntimeWarning" in process.stderr


def test_importing_the_package_imports_neither_mpi4py_nor_torch() -> None:
    program = (
        "import sys, optuna_propulate\n"
        "print([name for name in ('mpi4py', 'torch', 'lightning') if name in sys.modules])"
    )
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert process.stdout.strip() == "[]"
