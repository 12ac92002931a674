from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from optuna_propulate.parallel.devices import device_index
from optuna_propulate.parallel.devices import threads_for_rank


if TYPE_CHECKING:
    from collections.abc import Callable


def test_ranks_take_the_gpus_in_turn() -> None:
    assert [device_index(rank, 6, 4) for rank in range(6)] == [0, 1, 2, 3, 0, 1]


def test_one_visible_gpu_is_number_0() -> None:
    assert [device_index(rank, 3, 1) for rank in range(3)] == [0, 0, 0]


def test_no_gpu_is_none() -> None:
    assert device_index(0, 1, 0) is None


@pytest.mark.parametrize("arguments", [(2, 2, 1), (-1, 2, 1), (0, 1, -1)])
def test_impossible_places_are_refused(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        device_index(*arguments)


def test_ranks_share_the_cores_that_they_may_all_use() -> None:
    everything = frozenset(range(8))
    assert threads_for_rank(0, [everything] * 3) == 2
    assert threads_for_rank(0, [everything] * 30) == 1
    assert threads_for_rank(0, [frozenset({0, 1}), frozenset({2, 3})]) == 2


def test_ranks_without_a_gpu_share_the_cores_and_refuse_to_be_asked_for_one(
    mpiexec: Callable,
) -> None:
    pytest.importorskip("torch", reason="Devices are torch's: the extra 'mnist' has it.")
    outcome = mpiexec(
        """
        import torch
        import optuna_propulate
        errors = []
        for accelerator in ("gpu", "tpu"):
            try:
                optuna_propulate.device_for_rank(accelerator=accelerator)
            except (RuntimeError, ValueError) as error:
                errors.append(str(error))
        device = optuna_propulate.device_for_rank()
        report(device=str(device), n_threads=torch.get_num_threads(), errors=errors,
               n_cores=len(os.sched_getaffinity(0)))
        """,
        2,
        environ={"CUDA_VISIBLE_DEVICES": ""},
    )
    assert outcome.status == 0, outcome.stderr
    for rank in outcome.ranks:
        assert rank["device"] == "cpu"
        assert rank["n_threads"] == max(1, rank["n_cores"] // 2)
        assert "[0, 1] of the 2 on this node see no GPU" in rank["errors"][0]
        assert "accelerator must be one of" in rank["errors"][1]


def test_a_rank_that_does_not_ask_for_its_device_is_an_error(mpiexec: Callable) -> None:
    pytest.importorskip("torch", reason="Devices are torch's: the extra 'mnist' has it.")
    outcome = mpiexec(
        """
        from mpi4py import MPI
        import optuna_propulate
        if MPI.COMM_WORLD.rank == 0:
            try:
                optuna_propulate.device_for_rank()
            except TimeoutError as error:
                report(error=str(error))
                MPI.COMM_WORLD.Abort(3)
        """,
        2,
        timeout=60,
        environ={"OPTUNA_PROPULATE_COMM_TIMEOUT": "2", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert "Not all of the 2 MPI ranks called device_for_rank" in outcome.ranks[0]["error"]
    assert "missing: rank 1." in outcome.ranks[0]["error"]
